"""Sealed uploads in the running pipeline: broken ones fail alone, and no worker sees a pixel."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from PIL import Image

from erasestream.schemas.errors import Code
from erasestream.schemas.events.images import Cutout, Failure, Part
from erasestream.schemas.ids import UploadId
from erasestream.schemas.sealing.content_type import SEALED_CONTENT_TYPE
from erasestream.schemas.sealing.recipients import Epoch
from erasestream.topics.catalog.roles import ADMIN, INFERENCE, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.tls import Identity
from erasestream.topics.keys.client import KeyClient
from tests.flow.byte_search import sample_slices
from tests.flow.pictures import noise, photo
from tests.flow.pipeline_harness import BULK, SHOP, PipelineHarness
from tests.flow.raw_client import RawClient, RawRecord, RecordPosition, upload_record
from tests.flow.sealed_records import Sealer, stranger
from tests.flow.topic_reader import event_of
from tests.flow.waiting import DEADLINE_S, eventually

ACCOUNT = "sealed-uploads"
PARTITION = 0


@pytest.fixture(scope="module")
def sealer(flow: PipelineHarness) -> Sealer:
    """Return the keys of the lane's producer."""
    return Sealer(flow.stack.cluster, SHOP)


def send(flow: PipelineHarness, records: list[RawRecord]) -> list[RecordPosition]:
    """Send records into one partition, in order."""
    client = RawClient(flow.stack.cluster, lane_role(SHOP, LaneRole.PRODUCER))
    sent = [client.send(uploads_of(SHOP), record, partition=PARTITION) for record in records]
    assert all(isinstance(each, RecordPosition) for each in sent)
    return [each for each in sent if isinstance(each, RecordPosition)]


def results(flow: PipelineHarness, at: list[RecordPosition]) -> list[Cutout | Failure]:
    """Wait for the results of these uploads, as they were written."""

    def found() -> list[Cutout | Failure] | None:
        events = [event_of(record) for record in flow.results()]
        by_position = {
            RecordPosition(e.position.partition, e.position.offset): e
            for e in events
            if isinstance(e, Cutout | Failure)
        }
        have = [by_position[each] for each in at if each in by_position]
        return have if len(have) == len(at) else None

    return eventually("all results", found)


def test_broken_seals_fail_alone(flow: PipelineHarness, sealer: Sealer) -> None:
    """Each with its code; those around them are processed, and their results are sealed."""
    right = sealer.recipient()
    epoch = right.epoch.number
    broken = {
        Code.SEAL_BROKEN: {"recipient": stranger(right.epoch)},
        Code.WRONG_PURPOSE: {"recipient": stranger(Epoch("sink", epoch))},
        Code.WRONG_CONTEXT: {"upload_id": "another"},
        Code.FUTURE_EPOCH: {"recipient": stranger(Epoch("inference.shop", epoch + 2))},
        Code.UNKNOWN_EPOCH: {"recipient": stranger(Epoch("inference.shop", epoch - 3))},
        Code.EXPIRED: {"recipient": stranger(Epoch("inference.shop", epoch - 30))},
    }
    codes = [*broken, Code.WRONG_CONTEXT, Code.SEAL_BROKEN]
    records = [sealer.record(photo(), ACCOUNT, **changes) for changes in broken.values()]
    records.append(sealer.record(photo(), ACCOUNT, part=Part.CUTOUT))
    records.append(records[0].with_value(photo()))
    good = [sealer.record(photo(48 + n, 32), ACCOUNT) for n in range(len(records) + 1)]
    mixed = [record for pair in zip(good, records, strict=False) for record in pair] + good[-1:]
    events = results(flow, send(flow, mixed))
    assert [e.code for e in events[1::2] if isinstance(e, Failure)] == codes
    for number, event in enumerate(events[::2]):
        assert isinstance(event, Cutout)
        assert event.content_type == SEALED_CONTENT_TYPE
        opened = flow.opened(event)
        assert isinstance(opened, Cutout)
        assert Image.open(io.BytesIO(opened.data)).size == (48 + number, 32)


def test_an_administrator_of_the_brokers_gives_an_upload_to_no_other(
    flow: PipelineHarness, sealer: Sealer
) -> None:
    """Copied into another lane's topic, or under another account, it is not opened."""
    record = sealer.record(photo(), ACCOUNT)
    admin = RawClient(flow.stack.cluster, ADMIN)
    copied = admin.send(uploads_of(BULK), record, partition=PARTITION)
    assert isinstance(copied, RecordPosition)
    stolen = admin.send(uploads_of(SHOP), record.with_headers(ce_account=b"x"), partition=PARTITION)
    assert isinstance(stolen, RecordPosition)
    (whole,) = results(flow, send(flow, [record]))
    assert isinstance(flow.opened(whole), Cutout)
    (another_account,) = results(flow, [stolen])
    another_lane = flow.result(whole.id, BULK)
    failures = [e for e in (another_lane, another_account) if isinstance(e, Failure)]
    assert [e.code for e in failures] == [Code.WRONG_PURPOSE, Code.WRONG_CONTEXT]


def test_an_unsealed_upload_is_refused_where_the_lane_requires_sealed_ones(
    flow: PipelineHarness,
) -> None:
    """The producer is a client of its own; ours seals."""
    client = RawClient(flow.stack.cluster, lane_role(BULK, LaneRole.PRODUCER))
    record = upload_record(photo(), ACCOUNT)
    assert isinstance(client.send(uploads_of(BULK), record, partition=0), RecordPosition)
    failure = flow.result(UploadId((record.headers["ce_id"] or b"").decode()), BULK)
    assert isinstance(failure, Failure)
    assert failure.code == Code.NOT_SEALED
    assert flow.cutout(flow.upload(ACCOUNT, lane=BULK).upload_id, BULK)


def memory_of(pid: int) -> Iterator[bytes]:
    """Yield the contents of every writable mapping of a process.  Only root may read them."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line):
                begin, end = (int(each, 16) for each in found.groups())
                memory.seek(begin)
                with suppress(OSError):  # unmapped meanwhile, or of a device
                    yield memory.read(end - begin)


@contextmanager
def held(process: psutil.Process) -> Iterator[None]:
    """Stop a process, and let it go on."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def found_in(pid: int, markers: dict[str, list[bytes]]) -> set[str]:
    """Return the names of the markers that are in the memory of a process."""
    return {
        name
        for piece in memory_of(pid)
        for name, needles in markers.items()
        if any(needle in piece for needle in needles)
    }


def rows_of(image: bytes, mode: str) -> list[bytes]:
    """Return the middle of some rows of pixels."""
    picture = Image.open(io.BytesIO(image)).convert(mode)
    rows = (picture.crop((100, y, 116, y + 1)).tobytes() for y in (40, 200, 300))
    return list(rows)


def test_no_pixel_is_in_the_memory_of_a_worker(flow: PipelineHarness, sealer: Sealer) -> None:
    """Of photo and cut-out, file or pixels, under load; its children's memory has them.

    The key of the epoch is the other way round.
    """
    running = flow.stack.stage("infer").process_id
    assert running
    if os.geteuid() != 0:
        with pytest.raises(PermissionError):
            list(memory_of(running.pid))
        return
    image = noise(1500, 1000)
    epoch = sealer.recipient().epoch
    worker_keys = KeyClient(
        endpoints=flow.stack.cluster.key_endpoints,
        identity=Identity.load(flow.stack.cluster.identities, INFERENCE),
    )
    private = worker_keys.opening_key(epoch.purpose, epoch.number, timeout_s=DEADLINE_S)
    assert isinstance(private, bytes)
    markers = {
        "file": sample_slices(image),
        "pixels": rows_of(image, "RGB") + rows_of(image, "RGBA"),
        "key": [private],
    }
    sent = send(flow, [sealer.record(image, ACCOUNT) for _ in range(8)])
    (zygote,) = psutil.Process(running.pid).children()
    seen = set[str]()

    def sees_all() -> bool:
        """Look into children, each held for as long, and all the while into the worker."""
        for child in zygote.children():
            with suppress(psutil.NoSuchProcess), held(child):
                seen.update(found_in(child.pid, markers))
                assert found_in(running.pid, markers) <= {"key"}
        return {"file", "pixels"} <= seen

    eventually("pixels in the children", sees_all, poll_s=0.001)
    events = results(flow, sent)
    assert seen == {"file", "pixels"}
    assert found_in(zygote.pid, markers) == set()
    opened = flow.opened(events[0])
    assert isinstance(opened, Cutout)
    markers["cut-out"] = sample_slices(opened.data)
    assert found_in(running.pid, markers) == {"key"}
