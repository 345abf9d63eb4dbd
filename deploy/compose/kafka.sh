#!/bin/sh
# Start the broker like pipeline/devstack/kafka/broker.py: format the storage if it is new, then
# start.  The image's own entry point would merge settings from the environment and write them to
# its root file system, which is read-only here.
set -eu
umask 077

folder=${ERASESTREAM_FOLDER:-/etc/erasestream}
libs=${KAFKA_LIBS:-/opt/kafka/libs}
data=${KAFKA_DATA:-/var/lib/kafka/data}
settings=$folder/server.properties

# No dump of memory, which holds pixels; bounded heap and buffers; no Java options from elsewhere.
# Not ExitOnOutOfMemoryError: a record that claims 2 GB would end the broker.
unset JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS _JAVA_OPTIONS
run() {
    "$@" -Xmx768m -XX:MaxDirectMemorySize=256m -Djdk.nio.maxCachedBufferSize=262144 \
        -XX:+UseSerialGC -XX:-CreateCoredumpOnCrash \
        -XX:ErrorFile=/tmp/java-error.log -XX:-UsePerfData -Djava.awt.headless=true \
        "-Dlog4j2.configurationFile=$folder/log4j2.properties" -cp "$libs/*" $main
}

if [ ! -e "$data/meta.properties" ]; then
    main="kafka.tools.StorageTool random-uuid"
    id=$(run java | tail -n 1)
    main="kafka.tools.StorageTool format --ignore-formatted -t $id -c $settings --standalone"
    run java
fi
main="kafka.Kafka $settings"
run exec java
