"""Replay marks in the metadata of committed offsets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import InvariantBroken

TOPIC = "bTYs9Br5T5qhZMdsDXX9XA"
WHERE = "cutouts.shop/3"


@given(
    topic_id=st.from_regex(r"\A[A-Za-z0-9_-]{22}\Z"),
    offset=st.integers(-1, 2**63 - 1),
)
def test_marks_survive_writing_and_parsing(topic_id: str, offset: int) -> None:
    """-1 means that nothing was routed yet."""
    mark = ReplayMark(topic_id=topic_id, offset=offset)
    assert ReplayMark.parse(str(mark), where=WHERE) == mark
    assert str(mark) == f"1:{topic_id}:{offset}"


@given(offset=st.integers(-1, 2**62), beyond=st.integers(-5, 1000))
def test_a_loss_is_written_until_the_mark_has_passed_it(offset: int, beyond: int) -> None:
    mark = ReplayMark(topic_id=TOPIC, offset=offset, unread_below=offset + 1 + beyond)
    expected = mark if beyond > 0 else ReplayMark(topic_id=TOPIC, offset=offset)
    assert ReplayMark.parse(str(mark), where=WHERE) == expected
    assert str(mark) == f"1:{TOPIC}:{offset}" + (f":{offset + 1 + beyond}" if beyond > 0 else "")


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        "",
        " ",
        f"1:{TOPIC}",
        f"1:{TOPIC}:",
        f"1:{TOPIC}:-2",
        f"1:{TOPIC}:-0",
        f"1:{TOPIC}:+1",
        f"1:{TOPIC}:01",
        f"1:{TOPIC}:1 ",
        f"1:{TOPIC}:1\n",
        f"1:{TOPIC}:1٣",
        f"1:{TOPIC}:1_0",
        f"1:{TOPIC}:1:2",
        f"1:{TOPIC}:1:03",
        f"1:{TOPIC}:1:0",
        f"1:{TOPIC}:1:",
        f"1:{TOPIC}:1:3:4",
        f"2:{TOPIC}:1",
        f"0:{TOPIC}:1",
        f"1:{TOPIC[1:]}:1",
        f"1:{TOPIC}A:1",
        f"1:{TOPIC[:-1]}+:1",
        f"1::{TOPIC}:1",
    ],
)
def test_other_metadata_breaks_an_invariant(metadata: str | None) -> None:
    """Erased, of another version, or nearly right: going on would lose or repeat records."""
    with pytest.raises(InvariantBroken, match=r"cutouts\.shop/3.*erasestream repair"):
        ReplayMark.parse(metadata, where=WHERE)


@given(metadata=st.text(max_size=40))
def test_arbitrary_metadata_is_a_canonical_mark_or_an_error(metadata: str) -> None:
    try:
        mark = ReplayMark.parse(metadata, where=WHERE)
    except InvariantBroken:
        return
    assert str(mark) == metadata
