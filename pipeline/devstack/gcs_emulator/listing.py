"""One page of a listing: names, and folders if there is a delimiter.  Pure."""

import base64
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from erasestream.schemas.errors import InvalidInput

MAX_RESULTS = 1000
"""Names and folders in one page, as in Cloud Storage."""


class ListingPage(NamedTuple):
    """A part of a listing; `token` is None in the last one."""

    names: list[str]
    prefixes: list[str]
    token: str | None


def first_page(names: Iterable[str], *, prefix: str, delimiter: str, limit: int) -> ListingPage:
    """Return the first `limit` entries of sorted names that begin with `prefix`.

    Names that share the text up to the first delimiter after the prefix are one entry.
    """
    listed: list[str] = []
    prefixes: list[str] = []
    last = ""
    for (folder, _), group in groupby(names, key=lambda name: _entry(name, prefix, delimiter)):
        if len(listed) + len(prefixes) == limit:
            return ListingPage(listed, prefixes, _encode_token(last))
        *_, last = group
        if folder:
            prefixes.append(folder)
        else:
            listed.append(last)
    return ListingPage(listed, prefixes, None)


def decode_token(token: str | None) -> str:
    """Return the name after which a page begins.  Raises `InvalidInput`."""
    try:
        return base64.urlsafe_b64decode(token or "").decode()
    except ValueError:
        raise InvalidInput("pageToken") from None


def _encode_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _entry(name: str, prefix: str, delimiter: str) -> tuple[str, str]:
    """Return folder and no name, or no folder and the name."""
    if delimiter:
        head, found, _ = name[len(prefix) :].partition(delimiter)
        if found:
            return prefix + head + found, ""
    return "", name
