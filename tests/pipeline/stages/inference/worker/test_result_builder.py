"""Building results from upload records, without Kafka and without a model."""

from datetime import UTC, datetime, timedelta

import pytest

from erasestream.pipeline.stages.inference.imaging.cutout_image import CutoutImage, Step
from erasestream.pipeline.stages.inference.worker.result_builder import (
    LaneModel,
    Model,
    ResultBuilder,
)
from erasestream.pipeline.stages.inference.worker.upload_record import UploadRecord
from erasestream.schemas.codec.cloudevents import MAX_HEADER_BYTES, Wire, from_wire, to_wire
from erasestream.schemas.errors import Code
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.foreground import Foreground
from erasestream.schemas.events.images import Adjusted, Cutout, Failure, Upload
from erasestream.schemas.ids import INVALID_ACCOUNT, AccountId, Lane, UploadId
from erasestream.schemas.options import CutoutOptions, OutputFormat

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LANE = Lane("shop")
MODEL = Model(name="isnet", sha256="ab" * 32, version="1.4.5")
UPLOAD = Upload(
    id=UploadId("019b7d2c-1d4e-7000-8000-00000000002a"),
    time=NOW,
    account=AccountId("acct-17"),
    content_type="image/png",
    options=CutoutOptions(format=OutputFormat.AUTO),
    data=b"\x89PNG\r\n\x1a\n",
)
CUTOUT = CutoutImage(
    data=b"RIFF....WEBP",
    content_type="image/webp",
    steps_ms={step: 1.0 + number for number, step in enumerate(Step)},
    width=4,
    height=3,
    adjusted=Adjusted.SMALLER,
    foreground=Foreground(1, 0, 3, 2),
)


async def result_of(wire: Wire, refusal: Code | None = None) -> tuple[Wire, list[CutoutOptions]]:
    """Return the result of an upload, and the options of each call of the pool."""
    calls: list[CutoutOptions] = []

    async def cut_out(_: bytes, options: CutoutOptions) -> CutoutImage:
        calls.append(options)
        return CUTOUT

    builder = ResultBuilder(
        models={LANE: LaneModel(MODEL, cut_out)},
        backlog_limits={LANE: timedelta(hours=4)},
        now=lambda: NOW,
    )
    position = Position(topic_id="bTYs9Br5T5qhZMdsDXX9XA", partition=3, offset=4711)
    appended_ms = int(NOW.timestamp() * 1000)
    record = UploadRecord(LANE, position, appended_ms, wire.headers, wire.value, refusal)
    return await builder.build(record), calls


async def test_a_result_names_its_model_its_steps_and_its_adjustment() -> None:
    wire, calls = await result_of(to_wire(UPLOAD, source="/test"))
    assert calls == [UPLOAD.options]
    result = from_wire(Cutout, wire.headers, wire.value)
    assert (result.model, result.model_sha256, result.model_version) == MODEL
    assert result.steps_ms == {str(step): time for step, time in CUTOUT.steps_ms.items()}
    assert list(result.steps_ms) == [
        "decode", "resize", "infer", "compose", "arrange", "encode",
    ]  # fmt: skip
    assert result.adjusted == "smaller"
    assert result.foreground == (1, 0, 3, 2)


async def test_a_refused_record_is_a_failed_result_with_its_code() -> None:
    """However valid its event is; the customer can still tell which upload it was."""
    wire, calls = await result_of(to_wire(UPLOAD, source="/test"), Code.MALFORMED_BATCH)
    failure = from_wire(Failure, wire.headers, wire.value)
    assert (failure.code, failure.id) == (Code.MALFORMED_BATCH, UPLOAD.id)
    assert not calls


@pytest.mark.parametrize(
    "options", [b'{"colour":"red"}', b'{"quality":90}', b'{"crop_margin":"5px"}', b"png"]
)
async def test_invalid_options_are_a_failed_result(options: bytes) -> None:
    """Any client may have written the event; the pool is not called."""
    wire = to_wire(UPLOAD, source="/test")
    headers = [(name, options if name == "ce_options" else text) for name, text in wire.headers]
    failed, calls = await result_of(wire._replace(headers=headers))
    failure = from_wire(Failure, failed.headers, failed.value)
    assert failure.code == Code.INVALID_OPTIONS
    assert failure.id == UPLOAD.id
    assert not calls


@pytest.mark.parametrize("wrong", ["ce_options", "ce_id", "ce_account", "ce_reference", "ce_more"])
async def test_a_failed_result_keeps_every_readable_attribute(wrong: str) -> None:
    """Despite one header that is no text, or headers that are too long."""
    upload = UPLOAD.model_copy(update={"reference": "shelf 3"})
    wire = to_wire(upload, source="/test")
    text = b"\xff" * (MAX_HEADER_BYTES if wrong == "ce_more" else 1)
    headers = [pair for pair in wire.headers if pair[0] != wrong] + [(wrong, text)]
    failed, _ = await result_of(wire._replace(headers=headers))
    failure = from_wire(Failure, failed.headers, failed.value)
    assert failure.code == Code.INVALID_EVENT
    assert (failure.id == UPLOAD.id) is (wrong != "ce_id")
    assert failure.account == (INVALID_ACCOUNT if wrong == "ce_account" else UPLOAD.account)
    assert failure.reference == (None if wrong == "ce_reference" else "shelf 3")
