"""One page of a listing: names, and folders where a delimiter asks for them.  Pure."""

import base64
from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from erasestream.schemas.errors import InvalidInput

MAX_RESULTS = 1000
"""Names and folders in one page, as Cloud Storage has it."""


class Page(NamedTuple):
    """A part of a listing; `token` is None in the last one."""

    names: list[str]
    prefixes: list[str]
    token: str | None


def page(names: Iterable[str], *, prefix: str, delimiter: str, limit: int) -> Page:
    """The first `limit` entries of sorted names that begin with `prefix`.

    Names that share the text up to the first delimiter after the prefix are one entry.
    """
    listed: list[str] = []
    prefixes: list[str] = []
    last = ""
    for (folder, _), group in groupby(names, key=lambda name: _entry(name, prefix, delimiter)):
        if len(listed) + len(prefixes) == limit:
            return Page(listed, prefixes, _token(last))
        *_, last = group
        if folder:
            prefixes.append(folder)
        else:
            listed.append(last)
    return Page(listed, prefixes, None)


def after(token: str | None) -> str:
    """The name after which a page begins.  Raises `InvalidInput`."""
    try:
        return base64.urlsafe_b64decode(token or "").decode()
    except ValueError:
        raise InvalidInput("pageToken") from None


def _entry(name: str, prefix: str, delimiter: str) -> tuple[str, str]:
    """Folder and no name, or no folder and the name."""
    if delimiter:
        head, found, _ = name[len(prefix) :].partition(delimiter)
        if found:
            return prefix + head + found, ""
    return "", name


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()
