"""Iterating over retained pictures: selected, paired, and without what is erased meanwhile."""

import io
import logging
import re
import sys
import types
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from erasestream.pipeline.cli.retained import retained
from erasestream.pipeline.devstack.gcs_emulator.faults import Fault, switch_faults
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import GrantId, UploadId
from erasestream.sinks.buckets.access_policy import Role
from erasestream.sinks.images.retained_pictures import RetainedPictures, Selection
from erasestream.sinks.keys.key_vault import CACHE_LIMIT_S, mark_erased
from tests.paths import ROOT
from tests.sinks.retention_harness import NAME_KEY, RetentionHarness, name_of, picture


def upload_ids(count: int) -> list[UploadId]:
    return [UploadId(f"018f3c4e-0000-7000-8000-{number:012}") for number in range(count)]


def stored(harness: RetentionHarness, grant: GrantId, count: int) -> list[str]:
    """Store photos of one grant; return their names in order."""
    sink = harness.sink()
    return sorted(str(sink.store(picture(grant, id=each))) for each in upload_ids(count))


def pictures_of(harness: RetentionHarness, *grants: GrantId, **changes: Any) -> RetainedPictures:
    return harness.reader().pictures(Selection(frozenset(grants), **changes))


def photo(orientation: int) -> bytes:
    """Return a JPEG of 8 x 4 pixels that is to be shown in this orientation."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (8, 4)).save(file, "JPEG", exif=exif)
    return file.getvalue()


def cutout() -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (4, 8)).save(file, "PNG")
    return file.getvalue()


def test_selected_pictures_are_opened_in_the_order_of_their_names(
    harness: RetentionHarness, grant: GrantId
) -> None:
    names = stored(harness, grant, 5)
    stored(harness, GrantId(str(uuid.uuid4())), 1)
    pictures = pictures_of(harness, grant)
    found = list(pictures)
    assert [each.name for each in found] == names
    assert {each.data for each in found} == {picture(grant).data}
    assert {each.content_type for each in found} == {"image/png"}
    assert pictures.counts == {"opened": 5}


def test_pictures_are_selected_by_when_they_were_stored(
    harness: RetentionHarness, grant: GrantId
) -> None:
    stored(harness, grant, 1)
    now, hour = datetime.now(UTC), timedelta(hours=1)
    assert len(list(pictures_of(harness, grant, since=now - hour, before=now + hour))) == 1
    assert not list(pictures_of(harness, grant, since=now + hour))
    assert not list(pictures_of(harness, grant, before=now - hour))


def test_shares_have_all_uploads_and_none_twice(harness: RetentionHarness, grant: GrantId) -> None:
    """Both parts of an upload are in one share."""
    sink = harness.sink()
    for each in upload_ids(8):
        for part in Part:
            sink.store(picture(grant, id=each, part=part))
    shares = [list(pictures_of(harness, grant, share=(n, 3)).pairs()) for n in range(3)]
    assert sum(map(len, shares)) == 8
    assert {pair.photo.upload_id for pairs in shares for pair in pairs} == set(upload_ids(8))


def test_photo_and_cutout_of_an_upload_are_a_pair(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """Both upright; a part without the other is counted."""
    sink, (first, second) = harness.sink(), upload_ids(2)
    sink.store(picture(grant, photo(orientation=6), id=first, content_type="image/jpeg"))
    sink.store(picture(grant, cutout(), id=first, part=Part.CUTOUT))
    sink.store(picture(grant, cutout(), id=second, part=Part.CUTOUT))
    pictures = pictures_of(harness, grant)
    (pair,) = pictures.pairs()
    assert pair.photo.content_type == "image/jpeg"
    assert pair.photo.image().size == pair.cutout.image().size == (4, 8)
    assert pictures.counts == {"opened": 3, "unpaired": 1}


def test_no_picture_is_opened_before_its_pair_is_asked_for(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """It would be handed out later, on evidence of now."""
    sink = harness.sink()
    for each in upload_ids(2):
        for part in Part:
            sink.store(picture(grant, id=each, part=part))
    pictures = pictures_of(harness, grant)
    pairs = pictures.pairs()
    next(pairs)
    assert pictures.counts == {"opened": 2}
    mark_erased(harness.eraser(), grant)
    harness.clock.now += CACHE_LIMIT_S
    assert not list(pairs)
    assert pictures.counts == {"opened": 2, "erased": 2, "unpaired": 0}


def test_two_photos_with_one_upload_id_are_no_pair(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """Nothing tells which cut-out is whose.  None is opened: there may be any number."""
    sink = harness.sink()
    for part in Part:
        for data in (photo(orientation=1), cutout()):
            sink.store(picture(grant, data, part=part))
    pictures = pictures_of(harness, grant)
    assert not list(pictures.pairs())
    assert pictures.counts == {"unpaired": 4}


def test_iterating_goes_on_after_an_outage(harness: RetentionHarness, grant: GrantId) -> None:
    """Also if it is the listing that the bucket does not answer."""
    names = stored(harness, grant, 2)
    faults = harness.stack.settings.faults
    switch_faults(faults, [Fault(bucket="images", status=503, times=1)])
    try:
        assert [each.name for each in pictures_of(harness, grant)] == names
    finally:
        switch_faults(faults, [])


def test_pictures_of_a_grant_that_is_erased_meanwhile_are_skipped(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """Also those that were fetched before; no request is made for their objects after that."""
    stored(harness, grant, 4)
    pictures = pictures_of(harness, grant)
    iterator = iter(pictures)
    next(iterator)
    mark_erased(harness.eraser(), grant)
    harness.clock.now += CACHE_LIMIT_S
    assert not list(iterator)
    assert pictures.counts == {"opened": 1, "erased": 3}


def test_an_object_that_is_deleted_meanwhile_is_skipped(
    harness: RetentionHarness, grant: GrantId
) -> None:
    """As when one upload is erased: its grant is still in force."""
    *_, last = stored(harness, grant, 4)
    pictures = pictures_of(harness, grant)
    iterator = iter(pictures)
    next(iterator)
    harness.stack.store("images", Role.ERASER).delete(last)
    harness.clock.now += CACHE_LIMIT_S
    assert len(list(iterator)) == 2
    assert pictures.counts == {"opened": 3, "gone": 1}


def test_a_broken_object_is_skipped_and_logged(
    harness: RetentionHarness, grant: GrantId, caplog: pytest.LogCaptureFixture
) -> None:
    stored(harness, grant, 2)
    event = picture(grant, b"another", id=upload_ids(1)[0])
    store = harness.stack.store("images", Role.SINK)
    store.create(str(name_of(event)), bytes(1000), "application/octet-stream")
    pictures = pictures_of(harness, grant)
    with caplog.at_level(logging.ERROR):
        assert len(list(pictures)) == 2
    assert pictures.counts == {"opened": 2, "broken": 1}
    assert [record.msg for record in caplog.records] == ["retained_broken"]


@pytest.fixture
def settings_file(
    harness: RetentionHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write settings with the buckets of the harness."""
    name_key = tmp_path / "name.key"
    name_key.write_bytes(NAME_KEY)
    text = f"""
[kafka]
bootstrap_servers = ["broker:9093"]
identities = "/identities"

[lanes.shop]

[storage]
bucket = "images"
vault = "vault"
keyring = "{tmp_path / "master"}"
name_key = "{name_key}"
endpoint = "{harness.stack.server.endpoint}"
ca = "{harness.stack.ca_file}"
tokens = "{harness.stack.settings.tokens}"
"""
    path = tmp_path / "settings.toml"
    path.write_text(text)
    monkeypatch.setenv("ERASESTREAM_SETTINGS", str(path))


def examples() -> list[str]:
    """Return the programs in `docs/training.md`."""
    return re.findall(r"(?ms)^```python\n(.*?)^```$", (ROOT / "docs/training.md").read_text())


@pytest.mark.usefixtures("settings_file")
def test_the_dataset_of_the_document_yields_pairs(
    harness: RetentionHarness, grant: GrantId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the two names that it takes from PyTorch, which is no dependency."""
    torch = types.ModuleType("torch.utils.data")
    vars(torch).update(IterableDataset=object, get_worker_info=lambda: None)
    monkeypatch.setitem(sys.modules, "torch.utils.data", torch)
    sink = harness.sink()
    sink.store(picture(grant, photo(orientation=1), content_type="image/jpeg"))
    sink.store(picture(grant, cutout(), part=Part.CUTOUT))
    names: dict[str, Any] = {}
    exec(compile(examples()[1], "training.md", "exec"), names)  # noqa: S102 (our own document)
    ((first, second),) = names["RetainedPairs"](Selection(frozenset({grant})))
    assert (first.size, second.size) == ((8, 4), (4, 8))


@pytest.mark.usefixtures("settings_file")
def test_the_command_verifies_what_is_selected(harness: RetentionHarness, grant: GrantId) -> None:
    stored(harness, grant, 2)
    ended = CliRunner().invoke(retained, ["verify", "--grant", grant, "--since", "2026-01-01"])
    assert ended.exit_code == 0
    assert [line.split() for line in ended.output.splitlines()] == [
        ["2", "opened"],
        ["0", "erased"],
        ["0", "gone"],
        ["0", "broken"],
    ]


@pytest.mark.usefixtures("settings_file")
def test_the_commands_list_pictures_and_open_one(
    harness: RetentionHarness, grant: GrantId, tmp_path: Path
) -> None:
    def listed(*options: str) -> list[list[str]]:
        ended = CliRunner().invoke(retained, ["list", *options])
        assert ended.exit_code == 0
        return [line.split()[1:] for line in ended.output.splitlines()]

    second = GrantId(str(uuid.uuid4()))
    (name,), (other,) = stored(harness, grant, 1), stored(harness, second, 1)
    both = [["original", each] for each in sorted((name, other))]
    assert [each for each in listed() if each in both] == both
    assert listed("--grant", grant, "--grant", second) == both
    assert listed("--grant", grant) == [["original", name]]
    assert not listed("--grant", grant, "--before", "2026-01-01")

    data, file = picture(grant).data, tmp_path / "picture.png"
    assert CliRunner().invoke(retained, ["open", name]).stdout_bytes == data
    ended = CliRunner().invoke(retained, ["open", name, "--output", str(file)])
    assert ended.output.split()[:3] == ["image/png,", str(len(data)), "bytes"]
    assert file.read_bytes() == data
    assert file.stat().st_mode & 0o777 == 0o600
