"""JPEGs whose data do not cover the picture are refused; harmless deviations are not."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

from erasestream.pipeline.stages.inference.imaging import jpeg_coverage
from erasestream.pipeline.stages.inference.imaging.decode import decode
from erasestream.schemas.errors import Code, InvalidImage
from tests.pipeline.stages.inference.pictures import saved

END = b"\xff\xd9"
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "full colour": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "own tables": {"optimize": True},
    "progressive": {"progressive": True},
    "restart in each row": {"restart_marker_rows": 1},
    "restart in three units": {"restart_marker_blocks": 3},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 1},
}
MODES = ["RGB", "L", "CMYK"]


@cache
def photo(kind: str, mode: str = "RGB") -> bytes:
    """Return a JPEG with as much detail everywhere: noise that was smoothed."""
    noise = np.random.default_rng(7).integers(0, 256, (34, 50, 3), np.uint8)
    picture = Image.fromarray(noise).resize((200, 136), Image.Resampling.BICUBIC)
    # Pillow's 4:2:2 of CMYK is a kind that simplejpeg cannot read.
    options = {} if (kind, mode) == ("4:2:2", "CMYK") else KINDS[kind]
    return saved(picture.convert(mode), "JPEG", quality=85, **options)


def entropy(data: bytes) -> slice:
    """Return where the data of the first scan begin, and where the file's end."""
    header = data.index(b"\xff\xda") + 2
    return slice(header + int.from_bytes(data[header : header + 2]), len(data) - len(END))


def cut(data: bytes, share: float) -> bytes:
    """Return the file with this share of its pixels' data, and its end marker."""
    where = entropy(data)
    return data[: where.start + int((where.stop - where.start) * share)] + END


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_lacks_its_end_marker_only_is_shown(kind: str, mode: str) -> None:
    """As a PNG without its end."""
    data = photo(kind, mode)
    seen = decode(data.removesuffix(END)).image
    assert np.array_equal(np.asarray(seen), np.asarray(decode(data).image))
    for share in (0.5, 0.98):
        assert refusal(cut(data, share).removesuffix(END)) is Code.TRUNCATED


def overwrite(data: bytes, fill: Callable[[int], bytes]) -> bytes:
    """Return the file with a tenth of its data, in the middle, replaced."""
    where = entropy(data)
    count = (where.stop - where.start) // 10
    begin = where.start + 5 * count
    return data[:begin] + fill(count) + data[begin + count :]


def refusal(data: bytes) -> Code:
    """Return the code with which these bytes are refused."""
    with pytest.raises(InvalidImage) as refused:
        decode(data)
    return refused.value.code


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_picture_is_accepted(kind: str, mode: str) -> None:
    assert jpeg_coverage.missing(photo(kind, mode)) is None
    assert decode(photo(kind, mode)).size == (200, 136)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.8, 0.97])
def test_half_a_picture_with_an_end_marker_is_truncated(kind: str, mode: str, share: float) -> None:
    """The decoder would show the rest in grey."""
    assert refusal(cut(photo(kind, mode), share)) is Code.TRUNCATED


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "fill",
    [bytes, lambda count: b"\xff" * count, lambda count: (b"another file, " * count)[:count]],
    ids=["zeros", "ones", "text"],
)
def test_a_picture_that_was_overwritten_in_the_middle_is_refused(
    kind: str, fill: Callable[[int], bytes]
) -> None:
    damaged = overwrite(photo(kind), fill)
    assert refusal(damaged) in {Code.TRUNCATED, Code.CORRUPT}


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_without_its_middle_is_refused(kind: str) -> None:
    damaged = overwrite(photo(kind), lambda _: b"")
    assert refusal(damaged) in {Code.TRUNCATED, Code.CORRUPT}


def test_data_that_a_damage_pushed_behind_the_picture_are_corrupt() -> None:
    """As much as in the picture, but of units that take more room."""
    tail = photo("baseline")[entropy(photo("baseline"))][-400:]
    assert refusal(photo("baseline")[: -len(END)] + tail + END) is Code.CORRUPT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "padding",
    [bytes(3000), b"\xff" * 500, b"\x55" * 64, b"\xff\0" * 50, b"webcam\1\2"],
    ids=["zeros", "fill bytes", "pattern", "stuffed", "few"],
)
def test_padding_before_the_end_is_harmless(kind: str, padding: bytes) -> None:
    """Motion JPEG is padded to whole sectors; webcams leave some bytes."""
    whole = photo(kind)
    padded = whole[: -len(END)] + padding + END
    assert np.array_equal(np.asarray(decode(padded).image), np.asarray(decode(whole).image))


def test_few_bytes_before_restarts_are_harmless() -> None:
    """Webcams write them in every interval; the restart markers are counted all the same."""
    data = re.sub(rb"\xff[\xd0-\xd7]", rb"few\g<0>", photo("restart in each row"))
    assert decode(data).size == (200, 136)
    assert refusal(cut(data, 0.5)) is Code.TRUNCATED


def test_restarts_behind_the_picture_are_harmless() -> None:
    """Scanners write more intervals than the picture has."""
    whole = photo("restart in each row")
    more = b"".join(b"\xff" + bytes([0xD0 + each % 8]) + b"\x12\x34" * 300 for each in range(9))
    assert decode(whole[: -len(END)] + more + END).size == (200, 136)


def test_the_last_bits_may_be_missing() -> None:
    """Some encoders do not write them out: nothing that can be seen is missing."""
    data = photo("baseline")
    assert decode(data[: -len(END) - 1] + END).size == (200, 136)


def test_what_follows_the_picture_is_ignored() -> None:
    assert decode(photo("baseline") + bytes(500) + b"\xff\xd8\xff\xda").size == (200, 136)


def test_tables_may_be_left_out() -> None:
    """Motion JPEG has none, and means the usual ones."""
    data = photo("baseline")
    begin = data.index(b"\xff\xc4")
    without = data[:begin] + data[data.index(b"\xff\xda") :]
    assert np.array_equal(np.asarray(decode(without).image), np.asarray(decode(data).image))
    assert refusal(cut(without, 0.5)) is Code.TRUNCATED


def test_warnings_about_other_things_do_not_hide_missing_data() -> None:
    """Only the first warning is reported: here an unknown colour transform, and a scan's."""
    data = bytearray(photo("baseline", "CMYK"))
    data[data.index(b"Adobe") + 11] = 9
    data[entropy(bytes(data)).start - 1] = 0x10
    assert decode(bytes(data)).size == (200, 136)
    assert refusal(cut(bytes(data), 0.5)) is Code.TRUNCATED


def test_a_component_without_a_scan_is_truncated() -> None:
    """A progressive file that ends between two scans: without its colours."""
    data = photo("progressive")
    frame = data.index(b"\xff\xc2")
    fourth = bytes([4, 0x11, 0])
    length = (20).to_bytes(2)
    changed = data[: frame + 2] + length + data[frame + 4 : frame + 9] + b"\4"
    assert (
        jpeg_coverage.missing(changed + data[frame + 10 : frame + 19] + fourth + data[frame + 19 :])
        is Code.TRUNCATED
    )


def test_a_picture_is_proved_in_a_draft_as_well() -> None:
    """Where only the mask is wanted, a JPEG is decoded in part."""
    with pytest.raises(InvalidImage) as refused:
        decode(cut(photo("baseline"), 0.5), draft=50)
    assert refused.value.code is Code.TRUNCATED


@pytest.mark.parametrize("kind", ["lossless", "cut in its header", "empty segment"])
def test_what_cannot_be_proved_is_left_to_the_decoder(kind: str) -> None:
    """A lossless frame would make simplejpeg write beyond its buffer."""
    data = photo("baseline")
    frame = data.index(b"\xff\xc0")
    changed = {
        "lossless": data[:frame] + b"\xff\xc3" + data[frame + 2 :],
        "cut in its header": data[: frame + 9],
        "empty segment": data[: frame + 2] + bytes(2) + data[frame + 4 :],
    }[kind]
    assert jpeg_coverage.missing(changed) is None
