"""The steps of an erasure, in words.  Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from erasestream.pipeline.gateway.account_page.pages import moment
from erasestream.topics.consent.account_erasures import ErasureState

_DONE = {
    "recorded": "No further image is kept.",
    "confirmed": "No kept image can be opened any more.",
    "keys": "The keys of these images are gone.",
    "gone": "The encrypted images are gone, too.",
}
_PENDING = {
    "confirmed": "From then on no kept image can be opened.",
    "keys": "Next, the keys of these images are deleted.",
    "gone": "Last, the encrypted images are deleted, too.",
}
"""Nothing is reported before it is so."""


class Step(NamedTuple):
    """One step: what it means, and how far it is."""

    name: str
    title: str
    means: str
    is_done: bool
    detail: str
    """When it was done, or how much of it is."""


def steps_of(state: ErasureState) -> list[Step]:
    """Return the steps of one grant's erasure, in their order."""
    left = ""
    if state.objects is not None:
        left = f"{state.objects - (state.objects_left or 0):,} of {state.objects:,}"
        if not state.objects_left:
            left = "checking once more"
    rows = [
        ("recorded", "Recorded", state.recorded, ""),
        ("confirmed", "Confirmed", state.confirmed, ""),
        ("keys", "Keys deleted", state.keys_deleted, ""),
        ("gone", "Images erased", state.gone, left),
    ]
    return [
        Step(
            name=name,
            title=title,
            means=(_DONE if time else _PENDING)[name],
            is_done=time is not None,
            detail=moment(time) if time else detail,
        )
        for name, title, time, detail in rows
    ]


def is_finished(states: Sequence[ErasureState]) -> bool:
    """Return whether all of these erasures are complete."""
    return all(each.gone is not None for each in states)
