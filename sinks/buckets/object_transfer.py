"""Creation and reading of an object, in one request each: the JSON API, on the client's session.

The client's own upload copies the object four times, and above 8 MiB opens a session that lives for
a week; its own download reads 8 KiB at a time.  These send the same requests, whatever the size.

* An object is created under `ifGenerationMatch=0`: once, and never overwritten.
* With its CRC32C, which the bucket compares before the object exists; then we compare its answer.
* Bytes that are read must have the CRC32C that the bucket reports, and it must report one.
"""

import base64
import json
import re
import secrets
from datetime import UTC, datetime
from urllib.parse import quote

import google_crc32c
import requests
from google.api_core.exceptions import from_http_response
from google.auth.transport.requests import AuthorizedSession

from erasestream.schemas.errors import Code, InvariantBroken, SealBroken, Unavailable
from erasestream.sinks.buckets.http_transport import BLOCK_BYTES, OperationDeadline, PartedBody

OK = 200
Timeout = tuple[float, float]


class ObjectTransfer:
    """Creates and reads objects of one bucket.  Thread-safe.

    Both methods raise the client's `GoogleAPICallError` for a status, and
    `requests.RequestException` otherwise.
    """

    def __init__(
        self,
        session: AuthorizedSession,
        *,
        endpoint: str,
        bucket: str,
        deadline: OperationDeadline,
        timeout: Timeout,
    ) -> None:
        """`deadline`: the transport's; `timeout`: for connecting and sending, and for answers."""
        self._session = session
        self._deadline = deadline
        self._timeout = timeout
        self._objects = f"storage/v1/b/{quote(bucket, safe='')}/o"
        self._endpoint = endpoint.rstrip("/")

    def create(self, name: str, data: bytes, content_type: str) -> datetime | None:
        """Create an object, and return when, by the bucket."""
        checksum = _encoded(google_crc32c.value(data))
        metadata = {"name": name, "contentType": content_type, "crc32c": checksum}
        boundary = secrets.token_hex(16)
        head = (
            f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n"
            f"{json.dumps(metadata)}\r\n--{boundary}\r\ncontent-type: {content_type}\r\n\r\n"
        )
        response = self._session.request(  # type: ignore[no-untyped-call]
            "POST",
            f"{self._endpoint}/upload/{self._objects}?uploadType=multipart&ifGenerationMatch=0",
            data=PartedBody(head.encode(), data, f"\r\n--{boundary}--".encode()),
            headers={"content-type": f'multipart/related; boundary="{boundary}"'},
            timeout=self._timeout,
        )
        _raise_for_status(response)
        created = response.json()
        if (created.get("crc32c"), created.get("size")) != (checksum, str(len(data))):
            raise InvariantBroken("the bucket stored other bytes than were sent")
        try:
            return datetime.fromisoformat(created["timeCreated"]).astimezone(UTC)
        except (KeyError, TypeError, ValueError):
            return None

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return all bytes of an object.

        Raises `SealBroken` above `max_bytes`, and `Unavailable` for bytes that lack their checksum.
        """
        with self._session.request(  # type: ignore[no-untyped-call]
            "GET",
            f"{self._endpoint}/download/{self._objects}/{quote(name, safe='')}?alt=media",
            headers={"accept-encoding": "identity"},
            stream=True,
            timeout=self._timeout,
        ) as response:
            _raise_for_status(response)
            blocks, checksum = self._blocks(response, max_bytes)
        if _reported(response) != checksum:
            raise Unavailable("checksum of the bytes read", code=Code.BUCKET_UNAVAILABLE)
        return b"".join(blocks)

    def _blocks(self, response: requests.Response, max_bytes: int) -> tuple[list[bytes], str]:
        """Return the bytes of an answer, and their CRC32C."""
        blocks = list[bytes]()
        size = checksum = 0
        while block := response.raw.read(BLOCK_BYTES, decode_content=False):
            size += len(block)
            if size > max_bytes:
                raise SealBroken
            self._deadline.check()
            checksum = google_crc32c.extend(checksum, block)
            blocks.append(block)
        return blocks, _encoded(checksum)


def _raise_for_status(response: requests.Response) -> None:
    if response.status_code != OK:
        raise from_http_response(response)  # type: ignore[no-untyped-call]


def _reported(response: requests.Response) -> str | None:
    """Return the CRC32C in the head of an answer."""
    found = re.search(r"crc32c=([A-Za-z0-9+/=]+)", response.headers.get("x-goog-hash", ""))
    return found and found[1]


def _encoded(checksum: int) -> str:
    """Return a CRC32C as the JSON API writes it."""
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()
