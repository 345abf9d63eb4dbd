"""Calls of the real client in the contract."""

import base64
import hashlib
from typing import Any

import google_crc32c
from google.cloud import storage

ONCE: dict[str, Any] = {"retry": None, "timeout": 30}
"""No retries of the client's own: an answer is what the server gave first."""
OCTETS = "application/octet-stream"
DATA = bytes(range(256)) * 40


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def create(bucket: storage.Bucket, name: str, data: bytes = DATA, **options: Any) -> storage.Blob:
    blob = bucket.blob(name)
    blob.upload_from_string(data, content_type=OCTETS, **ONCE, **options)
    return blob


def exists(bucket: storage.Bucket, name: str) -> bool:
    return bucket.get_blob(name, **ONCE) is not None
