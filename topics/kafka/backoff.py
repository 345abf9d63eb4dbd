"""How long to rest when the same thing fails again and again.  Pure."""

MAX_PAUSE_S = 5.0
"""Short beside the session of a member of a group."""


def pause_s(failures: int) -> float:
    """The rest after so many failures in a row: none at first, since most are over at once."""
    return min(MAX_PAUSE_S, 0.1 * (2.0 ** min(failures - 1, 10) - 1))
