"""The verdict on a storm: counts of everything that is wrong, and of what was checked.  Pure."""

from collections import Counter
from dataclasses import dataclass, field

MISSED = "missed by the checker"
REVOKED = "made after a recorded revocation"
CONFIRMED = "made after a confirmed revocation"
GRANTED = "made after a recorded grant"
MUST_NOT_BE_RETAINED = "must not be retained"
SECOND_RESULT, SECOND_HAND_OVER = "a second result", "a second hand-over"
SECOND_OBJECT = "a second object"
HALF_RETAINED = "one part without the other"
UNCONFIRMED_RESULT = "result of an unconfirmed upload"
UPLOAD_TWICE = "an upload appended twice"
"""Not counted as a duplicate itself, but it may explain one."""
NOT_WRONG = frozenset(
    {UNCONFIRMED_RESULT, MISSED, SECOND_RESULT, SECOND_HAND_OVER, SECOND_OBJECT, UPLOAD_TWICE}
)
"""Details that do not count as misrouted."""


@dataclass
class Verdict:
    """Counts of errors; nothing is wrong if all are zero."""

    lost: int = 0
    duplicated: int = 0
    misrouted: int = 0
    across_lanes: int = 0
    retained_after_revocation: int = 0
    not_retained_after_grant: int = 0
    bound: Counter[str] = field(default_factory=Counter)
    """Uploads that each strict rule applied to; not an error."""
    shared: Counter[str] = field(default_factory=Counter)
    """Those of them that belong to accounts with two writers."""
    rewritten: int = 0
    """Decisions that met an opposite one, and were written again or taken back."""
    details: Counter[str] = field(default_factory=Counter)

    @property
    def wrong(self) -> dict[str, int]:
        """The counts that must be zero."""
        return {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "misrouted": self.misrouted,
            "across_lanes": self.across_lanes,
            "retained_after_revocation": self.retained_after_revocation,
            "not_retained_after_grant": self.not_retained_after_grant,
        }

    @property
    def is_incomplete(self) -> bool:
        """Whether something is missing that may still arrive."""
        halves = self.details[HALF_RETAINED]
        return bool(self.lost or self.not_retained_after_grant or halves)
