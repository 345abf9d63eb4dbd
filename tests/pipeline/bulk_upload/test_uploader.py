"""Uploading a manifest sends each row once, and counts rows at fault."""

import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from erasestream.pipeline.bulk_upload.checkpoint import Checkpoint
from erasestream.pipeline.bulk_upload.failed_rows import FailedRow
from erasestream.pipeline.bulk_upload.image_file import read_image
from erasestream.pipeline.bulk_upload.uploader import (
    Progress,
    Summary,
    open_checkpoint,
    upload_manifest,
)
from erasestream.schemas.errors import (
    SENTENCES,
    Code,
    ErasestreamError,
    InvalidImage,
    NotAuthorized,
    Refused,
    Unavailable,
)
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES
from erasestream.schemas.ids import Lane, UploadId
from erasestream.topics.client.upload_builder import UploadFactory
from erasestream.topics.client.upload_producer import Receipt
from tests.pipeline.bulk_upload.manifests import PNG, manifest_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SHOP = Lane("shop")


@dataclass
class Sender:
    """An `Uploader` in memory that validates uploads as the real one does.

    `fault` returns the error of the upload of that number (from 0); for those that `hold`
    selects, the futures stay open in `held`.
    """

    fault: Callable[[int], ErasestreamError | None] = lambda _: None
    hold: Callable[[int], bool] = lambda _: False
    sent: list[UploadId] = field(default_factory=list)
    held: list[Future[Receipt]] = field(default_factory=list)
    options: list[object] = field(default_factory=list)

    def send(self, image: bytes, *, account: str, **more: Any) -> Future[Receipt]:
        """Acknowledge, fail or hold the upload."""
        factory = UploadFactory(lane=SHOP, now=lambda: NOW, random=os.urandom)
        upload = factory.build(image, account=account, **more)
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
    return Receipt(upload_id=upload_id, partition=0, offset=0, appended_at=NOW)


def upload(manifest: Path, sender: Sender, **more: Any) -> Summary:
    """Upload with the manifest's checkpoint, resuming if there is one."""
    path = manifest.with_suffix(".checkpoint")
    opened = open_checkpoint(manifest, path, lane=SHOP, resume=True, now=lambda: NOW)
    with opened as checkpoint:
        return upload_manifest(
            manifest,
            uploader=sender,
            checkpoint=checkpoint,
            wait=lambda _: None,
            **more,
        )


def test_every_row_is_sent_once(tmp_path: Path) -> None:
    sender, seen = Sender(), list[Progress]()
    summary = upload(manifest_of(tmp_path, 20), sender, on_progress=seen.append)
    assert summary == Summary(acknowledged=20, acknowledged_before=0)
    assert len(set(sender.sent)) == 20
    assert [p.read for p in seen] == sorted(p.read for p in seen)
    assert (seen[-1].acknowledged, seen[-1].waiting, seen[-1].rows) == (20, 0, 20)


def test_a_second_run_sends_nothing(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, 5)
    upload(manifest, Sender())
    again = Sender()
    assert upload(manifest, again) == Summary(acknowledged=0, acknowledged_before=5)
    assert again.sent == []


def test_rows_in_flight_are_sent_again_with_the_same_id(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, 6)
    end = NotAuthorized("revoked")
    first = Sender(hold=lambda n: n in (1, 3), fault=lambda n: end if n == 5 else None)
    with pytest.raises(Refused):
        upload(manifest, first)
    second = Sender()
    assert upload(manifest, second) == Summary(acknowledged=3, acknowledged_before=3)
    assert second.sent == [first.sent[1], first.sent[3], first.sent[5]]


def test_an_acknowledgement_after_the_run_ended_is_recorded(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, 3)
    path = tmp_path / "c"
    sender = Sender(hold=lambda n: n == 0, fault=lambda n: Refused("no") if n == 1 else None)
    opened = open_checkpoint(manifest, path, lane=SHOP, resume=False, now=lambda: NOW)
    with opened as checkpoint:
        with pytest.raises(Refused):
            upload_manifest(manifest, uploader=sender, checkpoint=checkpoint)
        sender.held[0].set_result(receipt(sender.sent[0]))
    resumed = open_checkpoint(manifest, path, lane=SHOP, resume=True, now=lambda: NOW)
    with resumed:
        assert 1 in resumed.acknowledged


def test_rows_with_the_same_account_and_key_are_one_upload(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PNG)
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,account,idempotency_key\np.png,a,k\np.png,a,k\np.png,a,\np.png,a,\n")
    sender = Sender()
    upload(manifest, sender)
    assert sender.sent[0] == sender.sent[1]
    assert len(set(sender.sent)) == 3


def test_another_image_or_reference_under_a_key_is_a_failure_that_names_the_first_row(
    tmp_path: Path,
) -> None:
    """In every run, whichever rows an earlier one acknowledged; each account has its own keys."""
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(PNG + name.encode())
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        "path,account,reference,idempotency_key\na.png,acct,front,sku-1\nb.png,acct,back,sku-1\n"
        "b.png,other,back,sku-1\na.png,acct,top,sku-1\na.png,acct,front,sku-1\nmissing,acct,,k\n"
    )
    for acknowledged in (3, 0):
        failed: list[FailedRow] = []
        summary = upload(manifest, sender := Sender(), on_failure=failed.append)
        assert summary.acknowledged == acknowledged
        assert len(set(sender.sent)) == min(acknowledged, 2)
        assert [(row.number, row.reference, row.code) for row in failed] == [
            (2, "back", Code.REPEATED_KEY),
            (4, "top", Code.REPEATED_KEY),
            (6, None, Code.MISSING_FILE),
        ]
        assert failed[0].sentence.endswith("(row 1)")


def test_rows_are_sent_again_with_their_id_until_brokers_are_available(tmp_path: Path) -> None:
    sender = Sender(fault=lambda n: Unavailable() if 2 <= n < 9 else None)
    summary = upload(manifest_of(tmp_path, 5), sender)
    assert summary == Summary(acknowledged=5, acknowledged_before=0)
    assert len(sender.sent) == 12
    assert len(set(sender.sent)) == 5


def test_rows_at_fault_have_codes_and_are_tried_again_by_the_next_run(tmp_path: Path) -> None:
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
    failed: list[FailedRow] = []
    seen: list[Progress] = []
    summary = upload(manifest, Sender(), on_failure=failed.append, on_progress=seen.append)
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
    assert [(row.number, row.code) for row in failed] == expected
    assert all(row.sentence.startswith(SENTENCES[row.code]) for row in failed)
    assert (summary.acknowledged, seen[-1].rows) == (2, 13)
    assert summary.failures.total() == len(expected)
    (tmp_path / "missing.png").write_bytes(PNG)
    assert upload(manifest, Sender()).acknowledged == 1


def test_an_outage_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sender = Sender(fault=lambda n: Unavailable("broker") if n < 9 else None)
    upload(manifest_of(tmp_path, 3), sender)
    assert [record.msg for record in caplog.records] == ["upload_postponed"]


def test_an_image_that_the_broker_refuses_is_a_failure(tmp_path: Path) -> None:
    too_large = InvalidImage(code=Code.TOO_LARGE)
    sender = Sender(fault=lambda n: too_large if n == 0 else None)
    summary = upload(manifest_of(tmp_path, 2), sender)
    assert summary.failures == {Code.TOO_LARGE: 1}
    assert summary.acknowledged == 1


@pytest.mark.parametrize("path", ["nul\0.png", "\ud800.png", "x" * 5000])
def test_an_impossible_file_name_is_unreadable(tmp_path: Path, path: str) -> None:
    assert read_image(tmp_path / path) is Code.UNREADABLE_FILE


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, 50)
    opened = open_checkpoint(manifest, tmp_path / "c", lane=SHOP, resume=False, now=lambda: NOW)
    full = Checkpoint(os.open("/dev/full", os.O_WRONLY), opened.run, opened.acknowledged)
    sender = Sender()
    with opened, pytest.raises(OSError, match="space"):
        upload_manifest(manifest, uploader=sender, checkpoint=full)
    assert len(sender.sent) == 1


def test_a_changed_manifest_is_refused(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, 3)
    upload(manifest, Sender())
    manifest_of(tmp_path, 4)
    with pytest.raises(Refused, match="manifest has changed"):
        upload(manifest, Sender())
