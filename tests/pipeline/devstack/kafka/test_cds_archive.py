"""The class archive: made by the installation, and used by a broker."""

import subprocess
from pathlib import Path

from erasestream.pipeline.devstack.kafka.broker import Broker
from erasestream.pipeline.devstack.kafka.cds_archive import make_class_archive
from erasestream.pipeline.devstack.kafka.distribution import class_archive, require_java


def test_the_archive_is_made_once(libs: Path) -> None:
    lines: list[str] = []
    written_at = class_archive(libs).stat().st_mtime_ns
    make_class_archive(libs, lines.append)
    assert lines == []
    assert class_archive(libs).stat().st_mtime_ns == written_at


def test_java_and_the_broker_start_with_the_archive(libs: Path, broker: Broker) -> None:
    option = f"-XX:SharedArchiveFile={class_archive(libs)}"
    command = [require_java(), "-Xshare:on", option, "-XX:+UseSerialGC", "-cp", f"{libs}/*"]
    done = subprocess.run([*command, "kafka.Kafka", "--version"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    assert broker.process_id is not None
    started_as = Path(f"/proc/{broker.process_id.pid}/cmdline").read_text().split("\0")
    assert option in started_as
    assert "cds" not in broker.log.with_suffix(".out").read_text()
