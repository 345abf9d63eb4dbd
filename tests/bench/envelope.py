"""Sealing and opening a picture for a grant, against bare AES-GCM into reused buffers, in turn.

Both sides encrypt or decrypt the same bytes in one thread; the ratios are those of processor time.
Ours returns an envelope, or a picture, in memory of its own: the kernel clears its pages.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import AccountId, Lane, UploadId, grant_id
from erasestream.schemas.sealing.envelope import Context, open_sealed, seal, upload_digest
from erasestream.schemas.sealing.recipients import KEY_BYTES, TAG_BYTES, ZERO_NONCE, GrantRecipient
from tests.bench.figures import Figure, figure

SIZES = {"100KB": 100_000, "1MB": 1_000_000, "10MB": 10_000_000}
GOALS = {"100KB": 0.6, "1MB": 0.85, "10MB": 0.93}
ROUNDS = 31
ROUND_BYTES = 20_000_000
"""Bytes of each side in one round."""


def measure() -> Iterator[Figure]:
    """Measure both with each size."""
    for name, size in SIZES.items():
        for kind, ours, bare in _pairs(secrets.token_bytes(size)):
            calls = ROUND_BYTES // size
            turns = [(_seconds(bare, calls), _seconds(ours, calls)) for _ in range(ROUNDS + 1)]
            ratios = [bare_s / ours_s for bare_s, ours_s in turns[1:]]  # the first one warms up
            yield figure(f"envelope.{kind}_ratio.{name}", ratios, "ratio", at_least=GOALS[name])


def _pairs(image: bytes) -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    """Yield what is compared: its name, ours, and the bare cipher."""
    lane, account = Lane("shop"), AccountId("bench")
    upload = upload_digest(lane, account, UploadId("an-upload"))
    context = Context(upload, Part.ORIGINAL, "image/png")
    grant = GrantRecipient(grant_id(lane, account, "a"), secrets.token_bytes(KEY_BYTES), "a/name")
    sealed = seal(image, context=context, recipients=[grant])
    cipher, body = AESGCM(secrets.token_bytes(KEY_BYTES)), bytearray(len(image) + TAG_BYTES)
    encrypt = partial(cipher.encrypt_into, ZERO_NONCE, image, None, body)
    yield "seal", lambda: seal(image, context=context, recipients=[grant]), encrypt
    encrypt()
    decrypt = partial(cipher.decrypt_into, ZERO_NONCE, bytes(body), None, bytearray(len(image)))
    yield (
        "open",
        lambda: open_sealed(sealed, upload=None, part=Part.ORIGINAL, opener=grant),
        decrypt,
    )


def _seconds(call: Callable[[], object], times: int) -> float:
    begun = time.process_time()
    for _ in range(times):
        call()
    return time.process_time() - begun
