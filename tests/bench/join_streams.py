"""Kafka Streams as the router's peer: built from `peers/streams`, tuned, run as a process.

The jars come through Maven, once; they are compiled against with the Java of this machine.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from erasestream.pipeline.devstack.child_process import ChildProcess
from erasestream.pipeline.devstack.kafka.distribution import require_java
from erasestream.topics.catalog.topic_names import consent_of
from tests.bench.join_harness import SHOP, Contender, JoinHarness
from tests.bench.running_pipeline import CACHE

SOURCES = Path(__file__).parent / "peers" / "streams"
FOLDER = CACHE / "peers" / "streams"
NAME = "streams"
KEPT = f"{NAME}.kept"

HEAP = ("-Xms512m", "-Xmx512m", "-XX:+UseParallelGC")
"""The collector with the most throughput, and a heap that is enough and does not grow."""

TUNED = {
    "processing.guarantee": "exactly_once_v2",
    "num.stream.threads": "1",
    "commit.interval.ms": "100",
    "statestore.cache.max.bytes": "0",
    "topology.optimization": "all",
    "metrics.recording.level": "INFO",
    "consumer.auto.offset.reset": "earliest",
    "consumer.max.poll.records": "500",
    "consumer.fetch.max.bytes": "52428800",
    "consumer.max.partition.fetch.bytes": "4000000",
    "consumer.fetch.max.wait.ms": "100",
    "consumer.receive.buffer.bytes": "-1",
    "producer.linger.ms": "5",
    "producer.batch.size": "1000000",
    "producer.buffer.memory": "134217728",
    "producer.max.request.size": "70000000",
    "producer.send.buffer.bytes": "-1",
    "producer.compression.type": "none",
}
"""`consumer.` and `producer.` are prefixes of Streams."""


def built() -> Path:
    """The folder with its jars and classes, filled if need be."""
    source = (SOURCES / "Join.java").read_text() + (SOURCES / "pom.xml").read_text()
    libs, stamp = FOLDER / "libs", FOLDER / "source"
    if stamp.exists() and stamp.read_text() == source:
        return FOLDER
    sys.stderr.write("Kafka Streams: about 80 MB to fetch through Maven ...\n")
    shutil.rmtree(FOLDER, ignore_errors=True)
    maven = ["mvn", "--quiet", "--batch-mode", "--file", str(SOURCES / "pom.xml")]
    target = f"-DoutputDirectory={libs.resolve()}"
    subprocess.run([*maven, "dependency:copy-dependencies", target], check=True)
    (compiler,) = libs.glob("ecj-*.jar")
    jars = ":".join(str(each) for each in sorted(libs.glob("*.jar")))
    options = ["-17", "-nowarn", "-proc:none", "-cp", jars, "-d", str(FOLDER / "classes")]
    java = [require_java(), "-jar", str(compiler)]
    subprocess.run([*java, *options, str(SOURCES / "Join.java")], check=True)
    stamp.write_text(source)
    return FOLDER


def start_streams(bed: JoinHarness, peer: Contender) -> ChildProcess:
    """Streams as a process, ready."""
    folder = built().resolve()
    settings = bed.stack.files.directory / "streams.properties"
    settings.write_text("".join(f"{k}={v}\n" for k, v in _settings(bed).items()))
    path = f"{folder}/classes:{folder}/libs/*"
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    topics = [peer.source, consent_of(SHOP), peer.target, KEPT]
    command = [require_java(), *HEAP, quiet, "-cp", path, "Join", str(settings), *topics]
    return bed.start(peer.group, command, ready="ready\n")


def _settings(bed: JoinHarness) -> dict[str, str]:
    """What it is tuned to, and its way to the broker: TLS 1.3 with its own certificate."""
    identities, cluster = bed.stack.files.identities, bed.stack.cluster
    keystore = bed.stack.files.directory / f"{NAME}.pem"
    parts = (identities / f"{NAME}.key", identities / f"{NAME}.crt")
    keystore.write_text("".join(part.read_text() for part in parts))
    return {
        **TUNED,
        "application.id": NAME,
        "bootstrap.servers": cluster.bootstrap_servers[0],
        "replication.factor": "1",
        "state.dir": str(bed.stack.files.directory / "streams"),
        "security.protocol": "SSL",
        "ssl.enabled.protocols": "TLSv1.3",
        "ssl.protocol": "TLSv1.3",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(identities / "ca.crt"),
    }
