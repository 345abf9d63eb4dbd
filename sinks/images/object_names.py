"""The name of a retained picture: `owner/grant/upload-id.part.content`.

`owner` and `content` are HMAC-SHA-256 under the name key, in lower-case hexadecimal, each with a
label of its own: of lane and account, and of the rest of the name with the picture's SHA-256.  So
the same picture of the same upload has the same name on every attempt, an existing name is the same
picture by construction, and without the name key a name reveals neither its owner nor whether two
uploads, grants or owners have the same picture.  An id that is no UUID may be any text, and becomes
a UUID derived under the name key.  `schemas/sealing/ENVELOPE.md` has the construction.
"""

import hmac
import re
from typing import NamedTuple, Self

from erasestream.schemas.errors import InvariantBroken, SealBroken
from erasestream.schemas.events.images import Part, Retained
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId, derived_uuid, is_uuid

NAME_KEY_BYTES = 32
OWNER_LABEL = b"erasestream/v1/name/owner"
UPLOAD_LABEL = b"erasestream/v1/name/upload"
CONTENT_LABEL = b"erasestream/v1/name/content"
DIGEST_PATTERN = re.compile(r"[0-9a-f]{64}")


class StoredName(NamedTuple):
    """A parsed name."""

    owner: str
    grant: GrantId
    upload_id: UploadId
    part: Part
    content: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.grant}/{self.upload_id}.{self.part}.{self.content}"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Parse a name.  Raises `SealBroken` for anything but a canonical name."""
        match re.split(r"[/.]", name):
            case [owner, grant, upload_id, part, content] if part in set(Part):
                parsed = cls(owner, GrantId(grant), UploadId(upload_id), Part(part), content)
                digests = all(DIGEST_PATTERN.fullmatch(d) for d in (owner, content))
                if digests and is_uuid(grant) and is_uuid(upload_id) and str(parsed) == name:
                    return parsed
        raise SealBroken


class ObjectNamer:
    """Derives the names of pictures."""

    def __init__(self, name_key: bytes) -> None:
        if len(name_key) != NAME_KEY_BYTES:
            raise InvariantBroken(f"the name key has {NAME_KEY_BYTES} bytes")
        self._key = name_key

    def owner(self, lane: Lane, account: AccountId) -> str:
        """Return the first segment of every name of this account."""
        return self._digest(OWNER_LABEL, f"{lane}\0{account}".encode())

    def name(self, event: Retained, sha256: bytes) -> StoredName:
        """Return the name of a picture, whose bytes have this SHA-256."""
        owner = self.owner(event.lane, event.account)
        upload = self.upload_id(event.lane, event.account, event.id)
        name = StoredName(owner, event.grant, upload, event.part, content="")
        return name._replace(content=self._digest(CONTENT_LABEL, str(name).encode(), sha256))

    def upload_id(self, lane: Lane, account: AccountId, upload: UploadId) -> UploadId:
        """Return the id of an upload as its pictures' names have it."""
        if is_uuid(upload):
            return upload
        text = f"{lane}\0{account}\0{upload}".encode()
        return UploadId(derived_uuid(bytes.fromhex(self._digest(UPLOAD_LABEL, text))))

    def _digest(self, label: bytes, *parts: bytes) -> str:
        """Return the code of the parts; only the last may contain a zero byte."""
        digest = hmac.new(self._key, label, "sha256")
        for part in parts:
            digest.update(b"\0")
            digest.update(part)
        return digest.hexdigest()
