"""Kafka Streams as the router's contender: built from `peers/streams`, tuned, run as a process.

Maven downloads the jars once; the Java of this machine compiles the class.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from erasestream.pipeline.devstack.child_process import ChildProcess
from erasestream.pipeline.devstack.kafka.distribution import require_java
from erasestream.topics.catalog.topic_names import consent_of
from tests.bench.join_harness import SHOP, Contender, JoinHarness
from tests.paths import CACHE

SOURCES = Path(__file__).parent / "peers" / "streams"
FOLDER = CACHE / "peers" / "streams"
NAME = "streams"
KEPT = f"{NAME}.kept"

HEAP = ("-Xms512m", "-Xmx512m", "-XX:+UseParallelGC")
"""The garbage collector with the highest throughput, and a sufficient heap of fixed size."""

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


def build() -> Path:
    """Return the folder with jars and classes; fill it if necessary."""
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


def start_streams(harness: JoinHarness, peer: Contender) -> ChildProcess:
    """Start Streams as a process, and wait until it is ready."""
    folder = build().resolve()
    settings = harness.stack.files.directory / "streams.properties"
    settings.write_text("".join(f"{k}={v}\n" for k, v in _settings(harness).items()))
    path = f"{folder}/classes:{folder}/libs/*"
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    topics = [peer.source, consent_of(SHOP), peer.target, KEPT]
    command = [require_java(), *HEAP, quiet, "-cp", path, "Join", str(settings), *topics]
    return harness.start(peer.group, command, ready="ready\n")


def _settings(harness: JoinHarness) -> dict[str, str]:
    """Return the tuned settings, and those of TLS 1.3 with a certificate of its own."""
    identities, cluster = harness.stack.files.identities, harness.stack.cluster
    keystore = harness.stack.files.directory / f"{NAME}.pem"
    parts = (identities / f"{NAME}.key", identities / f"{NAME}.crt")
    keystore.write_text("".join(part.read_text() for part in parts))
    return {
        **TUNED,
        "application.id": NAME,
        "bootstrap.servers": cluster.bootstrap_servers[0],
        "replication.factor": "1",
        "state.dir": str(harness.stack.files.directory / "streams"),
        "security.protocol": "SSL",
        "ssl.enabled.protocols": "TLSv1.3",
        "ssl.protocol": "TLSv1.3",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(identities / "ca.crt"),
    }
