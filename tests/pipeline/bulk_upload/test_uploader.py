"""Uploading a manifest: every row once, whatever happens in between."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from erasestream.pipeline.bulk_upload.checkpoint import Checkpoint
from erasestream.pipeline.bulk_upload.uploader import (
    Progress,
    Summary,
    open_checkpoint,
    read_image,
    upload_manifest,
)
from erasestream.schemas.errors import (
    Code,
    ErasestreamError,
    InvalidImage,
    NotAuthorized,
    Refused,
    Unavailable,
)
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES
from erasestream.schemas.ids import Lane, UploadId
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.client.upload_builder import UploadFactory
from erasestream.topics.client.upload_producer import Receipt
from erasestream.topics.kafka.errors import ClientErrorState
from tests.kafka_fixture import PARTITIONS, KafkaFixture
from tests.paths import ROOT

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SHOP = Lane("shop")


@dataclass
class Sender:
    """An `Uploader` in memory that checks as the real one does.

    `fault` says what goes wrong with the upload of that number (from 0); `held` keeps
    futures open instead of acknowledging them.
    """

    fault: Callable[[int], ErasestreamError | None] = lambda _: None
    hold: Callable[[int], bool] = lambda _: False
    sent: list[UploadId] = field(default_factory=list)
    held: list[Future[Receipt]] = field(default_factory=list)
    options: list[object] = field(default_factory=list)

    def send(self, image: bytes, *, account: str, **more: Any) -> Future[Receipt]:
        """Acknowledge at once, fail, or hold."""
        drafter = UploadFactory(lane=SHOP, clock=lambda: NOW, random=os.urandom)
        upload = drafter.build(image, account=account, **more)
        number = len(self.sent)
        self.sent.append(upload.id)
        self.options.append(more["options"])
        future: Future[Receipt] = Future()
        if self.hold(number):
            self.held.append(future)
            return future
        error = self.fault(number)
        if isinstance(error, Refused):
            raise error
        if error:
            future.set_exception(error)
        else:
            future.set_result(receipt(upload.id))
        return future


def receipt(upload_id: UploadId) -> Receipt:
    """An acknowledgement."""
    return Receipt(upload_id=upload_id, partition=0, offset=0, appended_at=NOW)


def manifest_of(folder: Path, rows: int) -> Path:
    """A manifest of this many small images."""
    (folder / "photo.png").write_bytes(PNG)
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "account", "reference"])
        writer.writerows(["photo.png", "acct-1", f"row-{n}"] for n in range(rows))
    return path


def upload(manifest: Path, sender: Sender, **more: Any) -> Summary:
    """One run, resuming."""
    path = manifest.with_suffix(".checkpoint")
    opened, expected = open_checkpoint(manifest, path, lane=SHOP, resume=True, clock=lambda: NOW)
    with opened as checkpoint:
        return upload_manifest(
            manifest,
            uploader=sender,
            checkpoint=checkpoint,
            expected=expected,
            wait=lambda _: None,
            **more,
        )


def test_every_row_is_sent_once(tmp_path: Path) -> None:
    """All rows are acknowledged, each with an id of its own, and the progress says so."""
    sender, seen = Sender(), list[Progress]()
    summary = upload(manifest_of(tmp_path, 20), sender, on_progress=seen.append)
    assert summary == Summary(acknowledged=20, acknowledged_before=0)
    assert len(set(sender.sent)) == 20
    assert [p.read for p in seen] == sorted(p.read for p in seen)
    assert (seen[-1].acknowledged, seen[-1].waiting, seen[-1].expected) == (20, 0, 21)


def test_a_second_run_sends_nothing(tmp_path: Path) -> None:
    """What was acknowledged is not sent again."""
    manifest = manifest_of(tmp_path, 5)
    upload(manifest, Sender())
    again = Sender()
    assert upload(manifest, again) == Summary(acknowledged=0, acknowledged_before=5)
    assert again.sent == []


def test_rows_under_way_are_sent_again_with_the_same_id(tmp_path: Path) -> None:
    """A run that ends with open acknowledgements resumes exactly those, under their ids."""
    manifest = manifest_of(tmp_path, 6)
    end = NotAuthorized("a right was taken away")
    first = Sender(hold=lambda n: n in (1, 3), fault=lambda n: end if n == 5 else None)
    with pytest.raises(Refused):
        upload(manifest, first)
    second = Sender()
    assert upload(manifest, second) == Summary(acknowledged=3, acknowledged_before=3)
    assert second.sent == [first.sent[1], first.sent[3], first.sent[5]]


def test_an_acknowledgement_after_the_run_ended_is_recorded(tmp_path: Path) -> None:
    """While the uploader is being closed the checkpoint still learns what arrived."""
    manifest = manifest_of(tmp_path, 3)
    path = tmp_path / "c"
    sender = Sender(hold=lambda n: n == 0, fault=lambda n: Refused("no") if n == 1 else None)
    opened, _ = open_checkpoint(manifest, path, lane=SHOP, resume=False, clock=lambda: NOW)
    with opened as checkpoint:
        with pytest.raises(Refused):
            upload_manifest(manifest, uploader=sender, checkpoint=checkpoint)
        sender.held[0].set_result(receipt(sender.sent[0]))
    resumed, _ = open_checkpoint(manifest, path, lane=SHOP, resume=True, clock=lambda: NOW)
    with resumed:
        assert 1 in resumed.acknowledged


def test_a_callers_key_makes_the_id(tmp_path: Path) -> None:
    """Two rows with the same account and key are the same upload; rows without are not."""
    (tmp_path / "p.png").write_bytes(PNG)
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,account,idempotency_key\np.png,a,k\np.png,a,k\np.png,a,\np.png,a,\n")
    sender = Sender()
    upload(manifest, sender)
    assert sender.sent[0] == sender.sent[1]
    assert len(set(sender.sent)) == 3


def test_brokers_that_are_away_are_waited_for(tmp_path: Path) -> None:
    """A row that could not be delivered is sent again, with its id, until it is."""
    sender = Sender(fault=lambda n: Unavailable() if 2 <= n < 9 else None)
    summary = upload(manifest_of(tmp_path, 5), sender)
    assert summary == Summary(acknowledged=5, acknowledged_before=0)
    assert len(sender.sent) == 12
    assert len(set(sender.sent)) == 5


def test_rows_at_fault_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    """Each kind of bad row has its code and number; the good ones go; the next run tries again."""
    (tmp_path / "photo.png").write_bytes(PNG)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"hello")
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(MAX_UPLOAD_BYTES + 1)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    manifest = tmp_path / "m.csv"
    manifest.write_bytes(
        b"path,account,reference\nphoto.png,a,\nmissing.png,a,\nempty.png,a,\ntext.png,a,\n"
        b"large.png,a,\npipe.png,a,\nfolder.png,a,\nphoto.png,nobody@example.org,\n"
        b"photo.png\nphoto.png,a," + b"r" * 129 + b"\nphoto.png/x,a,\nphoto.png,a,\xff\n"
        b"photo.png,a,\n"
    )
    failed: list[tuple[int, Code]] = []
    summary = upload(manifest, Sender(), on_failure=lambda *what: failed.append(what))
    expected = [
        (2, Code.MISSING_FILE),
        (3, Code.EMPTY),
        (4, Code.UNSUPPORTED_FORMAT),
        (5, Code.TOO_LARGE),
        (6, Code.UNREADABLE_FILE),
        (7, Code.UNREADABLE_FILE),
        (8, Code.INVALID_ACCOUNT),
        (9, Code.INVALID_ROW),
        (10, Code.INVALID_EVENT),
        (11, Code.MISSING_FILE),
        (12, Code.INVALID_EVENT),
    ]
    assert failed == expected
    assert summary.acknowledged == 2
    assert summary.failures.total() == len(expected)
    (tmp_path / "missing.png").write_bytes(PNG)
    assert upload(manifest, Sender()).acknowledged == 1


def test_a_refusal_by_the_broker_for_one_image_is_a_failure(tmp_path: Path) -> None:
    """An error of the input that comes through the future is counted too."""
    too_large = InvalidImage(code=Code.TOO_LARGE)
    sender = Sender(fault=lambda n: too_large if n == 0 else None)
    summary = upload(manifest_of(tmp_path, 2), sender)
    assert summary.failures == {Code.TOO_LARGE: 1}
    assert summary.acknowledged == 1


@pytest.mark.parametrize("path", ["nul\0.png", "\ud800.png", "x" * 5000])
def test_a_name_that_no_file_can_have_is_unreadable(tmp_path: Path, path: str) -> None:
    """Such a name raises nothing."""
    assert read_image(tmp_path / path) is Code.UNREADABLE_FILE


def test_a_checkpoint_that_can_not_be_written_ends_the_run(tmp_path: Path) -> None:
    """Without a record of what was acknowledged nothing more is sent."""
    manifest = manifest_of(tmp_path, 50)
    opened, _ = open_checkpoint(
        manifest, tmp_path / "c", lane=SHOP, resume=False, clock=lambda: NOW
    )
    full = Checkpoint(os.open("/dev/full", os.O_WRONLY), opened.run, opened.acknowledged)
    sender = Sender()
    with opened, pytest.raises(OSError, match="space"):
        upload_manifest(manifest, uploader=sender, checkpoint=full)
    assert len(sender.sent) == 1


def test_a_changed_manifest_is_refused(tmp_path: Path) -> None:
    """A checkpoint is not resumed against other rows."""
    manifest = manifest_of(tmp_path, 3)
    upload(manifest, Sender())
    manifest_of(tmp_path, 4)
    with pytest.raises(Refused, match="manifest has changed"):
        upload(manifest, Sender())


def appended(kafka: KafkaFixture, lane: Lane) -> Iterator[str]:
    """The id of every upload in the lane's topic."""
    settings = kafka.connection(ADMIN).settings(ClientErrorState(), group_id="test")
    topic = uploads_of(lane)
    consumer = Consumer(settings)
    try:
        for partition in range(PARTITIONS):
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), 20.0)
            if not end:
                continue
            consumer.assign([TopicPartition(topic, partition, 0)])
            for _ in range(end):
                message = consumer.poll(20.0)
                assert message is not None
                assert message.error() is None
                yield dict(message.headers() or [])["ce_id"].decode()  # type: ignore[union-attr]
    finally:
        consumer.close()


SCRIPT = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from erasestream.pipeline.bulk_upload.uploader import open_checkpoint, upload_manifest
from erasestream.schemas.ids import Lane
from erasestream.topics.kafka.connection import Cluster
from erasestream.topics.client.upload_producer import UploadProducer

server, identities, lane, manifest, path = sys.argv[1:]
cluster = Cluster(bootstrap_servers=(server,), identities=Path(identities))
opened, _ = open_checkpoint(
    Path(manifest), Path(path), lane=Lane(lane), resume=True, clock=lambda: datetime.now(UTC)
)
with opened as checkpoint, UploadProducer(cluster, Lane(lane)) as producer:
    print(upload_manifest(Path(manifest), uploader=producer, checkpoint=checkpoint).acknowledged)
"""


def test_kills_in_the_middle_repeat_nothing_that_was_acknowledged(
    kafka: KafkaFixture, lane: Lane, tmp_path: Path
) -> None:
    """Under kill -9 every row arrives; what the checkpoint had is there once, under one id."""
    rows = 3000
    manifest, path = manifest_of(tmp_path, rows), tmp_path / "c"
    arguments = [kafka.broker.bootstrap, str(kafka.identities), lane, str(manifest), str(path)]
    command = [sys.executable, "-c", SCRIPT, *arguments]

    known: set[int] = set()
    for goal in (rows // 4, rows // 2):
        process = subprocess.Popen(command, cwd=ROOT)
        _wait_for_lines(path, goal, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        known |= {int(line) for line in path.read_bytes().split(b"\n")[1:-1]}
    assert rows // 2 <= len(known) < rows
    last = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    assert int(last.stdout) == rows - len(known)
    ids = list(appended(kafka, lane))
    assert len(set(ids)) == rows
    recorded = [int(line) for line in path.read_bytes().split(b"\n")[1:-1]]
    assert sorted(recorded) == list(range(1, rows + 1)), "a row was acknowledged twice"


def _wait_for_lines(path: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        assert process.poll() is None, "it ended before it could be killed"
        if path.exists() and path.read_bytes().count(b"\n") > count:
            return
        time.sleep(0.002)
    raise AssertionError("no progress")
