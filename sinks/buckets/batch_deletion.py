"""Deletion of many objects in one request: a batch of the JSON API, on the client's session.

The client's own batch assembles each part as a mail message, which takes as long as a request, and
reports one failure of many.  This sends the same parts, and judges the answer to each.

* An object counts as deleted once the answer to its own part confirms it, or is that there is none.
* An answer belongs to the part whose id it has, whatever its place.  A part without an answer is
  repeated: it counts as 503.
"""

import re
import secrets
from collections.abc import Sequence
from urllib.parse import quote

from google.api_core.exceptions import GoogleAPICallError, from_http_response, from_http_status
from google.auth.transport.requests import AuthorizedSession

from erasestream.sinks.buckets.bucket_operations import RETRIED, is_missing_object
from erasestream.sinks.buckets.object_transfer import OK, Timeout

MAX_PARTS = 100
"""Deletions in one batch: as many as Cloud Storage takes."""
SUCCESS = range(200, 300)
NO_ANSWER = (503, b"")

_BOUNDARY = re.compile(r'(?i)\bboundary="?([^";\s]+)"?')
_ID = re.compile(rb"(?im)^content-id:[ \t]*<response-([0-9]{1,4})>")
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")


class BatchDeletion:
    """Deletes objects of one bucket.  Thread-safe."""

    def __init__(
        self, session: AuthorizedSession, *, endpoint: str, bucket: str, timeout: Timeout
    ) -> None:
        """`timeout`: for connecting and sending, and for answers."""
        self._session = session
        self._timeout = timeout
        self._objects = f"/storage/v1/b/{quote(bucket, safe='')}/o"
        self._url = f"{endpoint.rstrip('/')}/batch/storage/v1"

    def delete(self, names: Sequence[str]) -> None:
        """Delete up to `MAX_PARTS` objects.

        Raises `GoogleAPICallError` once all answers are judged: rather one that no retry helps.
        Raises `requests.RequestException` if there is none.
        """
        boundary = secrets.token_hex(16)
        parts = [self._part(boundary, number, name) for number, name in enumerate(names)]
        response = self._session.request(  # type: ignore[no-untyped-call]
            "POST",
            self._url,
            data=f"{''.join(parts)}--{boundary}--\r\n".encode(),
            headers={"content-type": f'multipart/mixed; boundary="{boundary}"'},
            timeout=self._timeout,
        )
        if response.status_code != OK:
            raise from_http_response(response)  # type: ignore[no-untyped-call]
        answers = parse_answers(response.headers.get("content-type", ""), response.content)
        failures = _failures([answers.get(at, NO_ANSWER) for at in range(len(names))])
        if failures:
            raise min(failures, key=lambda failure: failure.code in RETRIED)

    def _part(self, boundary: str, number: int, name: str) -> str:
        return (
            f"--{boundary}\r\ncontent-type: application/http\r\ncontent-id: <{number}>\r\n\r\n"
            f"DELETE {self._objects}/{quote(name, safe='')} HTTP/1.1\r\n\r\n\r\n"
        )


def parse_answers(content_type: str, content: bytes) -> dict[int, tuple[int, bytes]]:
    """Return status and body of each answer by the id of its part; of those that are complete."""
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        return {}
    # Before the first delimiter is nothing; after the last one is the end, or what was cut off.
    _, *parts = (b"\r\n" + content).split(b"\r\n--" + boundary[1].encode())
    answers = dict[int, tuple[int, bytes]]()
    for part in parts[:-1]:
        head, _, answer = part.partition(b"\r\n\r\n")
        number, status = _ID.search(head), _STATUS.match(answer)
        if number and status:
            answers[int(number[1])] = int(status[1]), answer.partition(b"\r\n\r\n")[2]
    return answers


def _failures(answers: Sequence[tuple[int, bytes]]) -> list[GoogleAPICallError]:
    """Return the errors of the objects that are not known to be deleted."""
    errors = [
        from_http_status(status, body.decode(errors="replace"))  # type: ignore[no-untyped-call]
        for status, body in answers
        if status not in SUCCESS
    ]
    return [error for error in errors if not is_missing_object(error)]
