"""Creation of an object in one request: `uploadType=multipart` of the JSON API.

The client's own upload copies the object four times, and above 8 MiB opens a session that lives for
a week.  This sends the same request over the client's session, whatever the size, and copies
nothing.

* Under `ifGenerationMatch=0`: the object is created once, and never overwritten.
* With its CRC32C, which the bucket compares before the object exists; then we compare its answer.
"""

import base64
import json
import secrets
from datetime import UTC, datetime
from urllib.parse import quote

import google_crc32c
from google.api_core.exceptions import from_http_response
from google.auth.transport.requests import AuthorizedSession

from erasestream.schemas.errors import InvariantBroken
from erasestream.sinks.buckets.http_transport import PartedBody

CREATED = 200


def create_object(
    session: AuthorizedSession,
    url: str,
    data: bytes,
    *,
    name: str,
    content_type: str,
    timeout: tuple[float, float],
) -> datetime | None:
    """Create an object, and return when, by the bucket; `url` is that of uploads to it.

    Raises the client's `GoogleAPICallError` for a status, `requests.RequestException` otherwise.
    """
    checksum = crc32c(data)
    metadata = {"name": name, "contentType": content_type, "crc32c": checksum}
    boundary = secrets.token_hex(16)
    head = (
        f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n"
        f"{json.dumps(metadata)}\r\n--{boundary}\r\ncontent-type: {content_type}\r\n\r\n"
    )
    response = session.request(  # type: ignore[no-untyped-call]
        "POST",
        f"{url}?uploadType=multipart&ifGenerationMatch=0",
        data=PartedBody(head.encode(), data, f"\r\n--{boundary}--".encode()),
        headers={"content-type": f'multipart/related; boundary="{boundary}"'},
        timeout=timeout,
    )
    if response.status_code != CREATED:
        raise from_http_response(response)  # type: ignore[no-untyped-call]
    created = response.json()
    if (created.get("crc32c"), created.get("size")) != (checksum, str(len(data))):
        raise InvariantBroken("the bucket stored other bytes than were sent")
    try:
        return datetime.fromisoformat(created["timeCreated"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError):
        return None


def upload_url(endpoint: str, bucket: str) -> str:
    """Return the URL of uploads to a bucket."""
    return f"{endpoint.rstrip('/')}/upload/storage/v1/b/{quote(bucket, safe='')}/o"


def crc32c(data: bytes) -> str:
    """Return the CRC32C as the JSON API writes it."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
