"""A parsed request to the bucket server, and the checks that every endpoint makes.

* Default deny: an action that no rule of the bucket grants is refused.
* A parameter that this server does not support is refused, not ignored: no client may rely on a
  protection or a precondition that does not exist.
"""

import re
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from starlette.requests import Request

from erasestream.pipeline.devstack.gcs_emulator.configuration import ReportedConfiguration
from erasestream.pipeline.devstack.gcs_emulator.object_files import (
    MAX_OBJECT_BYTES,
    ObjectFiles,
    ObjectMetadata,
)
from erasestream.schemas.errors import (
    AlreadyExists,
    BucketAccessDenied,
    Code,
    InvalidInput,
    NotFound,
)
from erasestream.sinks.buckets.access_policy import Action, Rule, allows

PARAMETERS = {
    "alt", "delimiter", "fields", "generation", "ifGenerationMatch", "maxResults", "name",
    "optionsRequestedPolicyVersion", "pageToken", "prefix", "prettyPrint",
    "projection", "uploadType", "versions",
}  # fmt: skip

_NUMBER = re.compile(r"[0-9]{1,19}")
"""As many digits as the largest number of 64 bits has; Python refuses to read some thousands."""
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")


class Bucket(NamedTuple):
    """A bucket: its objects, its access policy, and the configuration that it reports."""

    name: str
    objects: ObjectFiles
    rules: tuple[Rule, ...]
    reported: ReportedConfiguration


class BucketRequest(NamedTuple):
    """A request of an authenticated role to an existing bucket."""

    request: Request
    role: str
    bucket: Bucket

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters, all of them supported."""
        return self.request.query_params

    @property
    def object_name(self) -> str:
        """The object's name in the path."""
        return unquote(self.request.path_params["object"])

    @property
    def generation(self) -> int | None:
        """The generation that must match, if any.  Raises `InvalidInput`."""
        return parse_number(self.query.get("ifGenerationMatch"))

    @property
    def selected_generation(self) -> int | None:
        """The generation that is asked for, if any.  Raises `InvalidInput`."""
        return parse_number(self.query.get("generation"))

    def check_generation(self, metadata: ObjectMetadata) -> None:
        """Raise `NotFound` for another generation, `AlreadyExists` if the precondition fails."""
        if self.selected_generation not in (None, metadata.generation):
            raise NotFound
        if self.generation not in (None, metadata.generation):
            raise AlreadyExists

    def may(self, action: Action, name: str = "") -> bool:
        """Return whether the role has permission."""
        return allows(self.bucket.rules, self.role, action, name)

    def authorize(self, action: Action, name: str = "") -> None:
        """Raise `Refused` if the role has no permission."""
        if not self.may(action, name):
            raise BucketAccessDenied(f"{self.role} has no {action}")

    def authorize_existing(self, action: Action) -> None:
        """Raise `Refused` unless the role may do this to the object, or know that it is absent."""
        self.authorize(action, self.object_name)
        if self.bucket.objects.find(self.object_name) is None:
            self.authorize(Action.LIST)

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body, up to the limit of an object.

        Raises `ClientDisconnect` if it was cut off, `InvalidInput` if it is longer.
        """
        size = 0
        async for chunk in self.request.stream():
            size += len(chunk)
            if size > MAX_OBJECT_BYTES:
                raise InvalidInput("the upload is too large")
            yield chunk


def parse_request(request: Request, buckets: Mapping[str, Bucket]) -> BucketRequest:
    """Parse a request.

    Raises `InvalidInput` for unsupported parameters, `NotFound` for an unknown bucket.
    """
    if unknown := set(request.query_params) - PARAMETERS:
        raise InvalidInput(f"parameter {min(unknown)[:40]}")
    name = unquote(request.path_params["bucket"])
    if name not in buckets:
        raise NotFound(code=Code.MISSING_BUCKET)
    return BucketRequest(request, request.state.role, buckets[name])


def parse_number(text: str | None) -> int | None:
    """Return a parameter's number.  Raises `InvalidInput`."""
    if text is None:
        return None
    if _NUMBER.fullmatch(text) is None:
        raise InvalidInput("a number is expected")
    return int(text)


def parse_range(header: str | None) -> tuple[int, int | None]:
    """Return the first byte that a Range header asks for, and the last if it names one.

    Raises `InvalidInput` for anything but one range from its beginning.
    """
    if header is None:
        return 0, None
    found = _RANGE.fullmatch(header)
    first = parse_number(found[1]) if found else None
    last = parse_number(found[2] or None) if found else None
    if first is None or (last is not None and last < first):
        raise InvalidInput("a range of bytes is expected")
    return first, last
