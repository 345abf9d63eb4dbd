"""The text that an owner agrees to when switching AI training data on.

A decision names it by version and SHA-256.  Texts are never changed: a new one gets a new version,
and the old ones stay, for the receipts of decisions that name them.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "notices"
CURRENT = "ai-training-data.1"
LANGUAGE = "en"


class Notice(NamedTuple):
    """A text, as it was shown."""

    version: str
    text: str

    @property
    def sha256(self) -> str:
        """The digest of the text in UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def reference(self) -> str:
        """The form in which a decision names it (`NoticeField`)."""
        return f"{self.version}/{self.sha256}"

    @property
    def paragraphs(self) -> list[str]:
        """The title, and the paragraphs after it."""
        return self.text.strip().split("\n\n")


def _load() -> dict[str, Notice]:
    files = sorted(FOLDER.glob("*.txt"))
    notices = [Notice(file.stem, file.read_text(encoding="utf-8")) for file in files]
    return {each.reference: each for each in notices}


NOTICES = _load()
"""All texts, by reference."""
CURRENT_NOTICE = next(each for each in NOTICES.values() if each.version == CURRENT)
