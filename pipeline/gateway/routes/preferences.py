"""Preferences of a client: the headers Prefer (RFC 7240) and Accept (RFC 9110, 12.5.1).

Pure; anything that is not understood is ignored, as both ask for.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_WAIT = re.compile(r"wait=\"?([0-9]{1,6})\"?")


class Preference(NamedTuple):
    """How long to wait for the result, in whole seconds, and what to tell the client about it."""

    wait_s: int
    applied: str | None


def preference(prefer: Iterable[str], *, most_s: float) -> Preference:
    """Return what the values of the headers ask for; without a wish, nothing is waited for.

    `respond-async` beside `wait` asks for what happens after the wait in any case.
    """
    wishes = [wish.partition(";")[0].strip().lower() for each in prefer for wish in each.split(",")]
    waits = [int(found[1]) for wish in wishes if (found := _WAIT.fullmatch(wish))]
    applied = ["respond-async"] if "respond-async" in wishes else []
    wait_s = min(waits[0], int(most_s)) if waits else 0
    if waits:
        applied.append(f"wait={wait_s}")
    return Preference(wait_s, ", ".join(applied) or None)


def prefers_image(accept: str) -> bool:
    """Return whether an image is preferred to JSON; not if either would do."""
    as_image = as_json = 0.0
    for kind, quality in _ranges(accept):
        if kind.startswith("image/"):
            as_image = max(as_image, quality)
        elif kind in ("application/json", "application/*", "*/*"):
            as_json = max(as_json, quality)
    return as_image > as_json


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                quality = _quality(parameter.removeprefix("q="))
        yield kind, quality


def _quality(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.[0-9]{0,3})?", text) else 0.0
