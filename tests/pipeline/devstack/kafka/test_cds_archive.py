"""The classes that Java keeps: made by the installation, and of use to a broker."""

import subprocess
from pathlib import Path

from erasestream.pipeline.devstack.kafka.broker import Broker
from erasestream.pipeline.devstack.kafka.cds_archive import make_class_archive
from erasestream.pipeline.devstack.kafka.distribution import class_archive, require_java


def test_made_once(libs: Path) -> None:
    """The installation has made it, and does not do it twice."""
    said: list[str] = []
    made_at = class_archive(libs).stat().st_mtime_ns
    make_class_archive(libs, said.append)
    assert said == []
    assert class_archive(libs).stat().st_mtime_ns == made_at


def test_java_takes_it(libs: Path, broker: Broker) -> None:
    """Java, told to start with it or not at all, starts; and a broker is started with it."""
    option = f"-XX:SharedArchiveFile={class_archive(libs)}"
    command = [require_java(), "-Xshare:on", option, "-XX:+UseSerialGC", "-cp", f"{libs}/*"]
    done = subprocess.run([*command, "kafka.Kafka", "--version"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    assert broker.process_id is not None
    started_as = Path(f"/proc/{broker.process_id.pid}/cmdline").read_text().split("\0")
    assert option in started_as
    assert "cds" not in broker.log.with_suffix(".out").read_text()
