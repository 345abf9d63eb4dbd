"""The header Idempotency-Key: bare, or quoted as draft-ietf-httpapi-idempotency-key-header has it.

Both forms of one key are the same.  Pure.
"""

import re
from http import HTTPStatus

from starlette.requests import Request

from erasestream.pipeline.gateway.problems import HttpCode, problem

_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-~][ -~]*")
_MAX = 255


def idempotency_key(request: Request) -> str | None:
    """Return the key; None if the request has none.  Raises `Problem`."""
    text = request.headers.get("idempotency-key")
    return None if text is None else parse_key(text.strip())


def parse_key(text: str) -> str:
    """Return the key in a header.  Raises `Problem` (invalid_idempotency_key)."""
    if quoted := _QUOTED.fullmatch(text):
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    else:
        key = text if _BARE.fullmatch(text) else ""
    if not 0 < len(key) <= _MAX:
        raise problem(HTTPStatus.BAD_REQUEST, HttpCode.INVALID_IDEMPOTENCY_KEY)
    return key
