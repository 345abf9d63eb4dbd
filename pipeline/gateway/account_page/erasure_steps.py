"""The steps of an erasure, in words.  Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from erasestream.pipeline.gateway.account_page.pages import moment
from erasestream.topics.consent.account_erasures import ErasureState


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
            left = "last look under way"
    rows = [
        ("recorded", "Recorded", "No further image is kept.", state.recorded, ""),
        ("confirmed", "Confirmed", "Nothing that was kept opens any more.", state.confirmed, ""),
        ("keys", "Keys deleted", "The keys of these images are gone.", state.keys_deleted, ""),
        ("gone", "Images erased", "The encrypted images are gone, too.", state.gone, left),
    ]
    return [
        Step(name, title, means, time is not None, moment(time) if time else detail)
        for name, title, means, time, detail in rows
    ]


def is_finished(states: Sequence[ErasureState]) -> bool:
    """Return whether all of these erasures are complete."""
    return all(each.gone is not None for each in states)
