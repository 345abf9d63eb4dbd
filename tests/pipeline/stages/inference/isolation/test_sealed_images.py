"""Sealed images: opened, cut out and sealed again in a child that has this one's ciphers."""

import asyncio
import io

import pytest
from PIL import Image

from erasestream.pipeline.runtime.sandbox.restrictions import Isolation
from erasestream.pipeline.stages.inference.cutout_pipeline import cut_out_once
from erasestream.pipeline.stages.inference.isolation import time_limits
from erasestream.pipeline.stages.inference.isolation.ciphers import ImageCiphers
from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool
from erasestream.pipeline.stages.inference.isolation.time_limits import SlowImages
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import Installed
from erasestream.schemas.errors import Code, SealBroken
from erasestream.schemas.events.images import Part
from erasestream.schemas.options import CutoutOptions, OutputFormat
from erasestream.schemas.sealing.body import BodyCipher
from erasestream.schemas.sealing.envelope import Context, UploadDigest, cipher_of
from tests.pipeline.stages.inference.isolation.pool_harness import (
    BLACK,
    CIPHERS,
    OPTIONS,
    PHOTO,
    refusal,
)


@pytest.mark.parametrize("isolation", list(Isolation))
async def test_the_cutout_of_a_sealed_image_is_that_of_the_image(
    tiny_model: Installed, isolation: Isolation
) -> None:
    """Whatever its length; sealed under the other key, and in one process for all or in many."""
    pool = ProcessPool(model=tiny_model, children=1, isolation=isolation)
    await pool.start()
    longest = Context(UploadDigest(bytes(32)), Part.CUTOUT, "a" * 63 + "/" + "b" * 64)
    for ciphers in (CIPHERS, ImageCiphers(CIPHERS.photo, cipher_of(longest, bytes(32)))):
        for output in (OutputFormat.PNG, OutputFormat.AUTO):
            options = CutoutOptions(format=output)
            body = memoryview(b"head" + ciphers.photo.encrypt(PHOTO))[4:]
            cutout = await pool.cut_out(body, options, ciphers)
            here = cut_out_once(Segmenter(tiny_model), PHOTO, options)
            assert ciphers.cutout.decrypt(cutout.data) == here.data
            assert (cutout.content_type, cutout.width) == (output.content_type, 200)
            with pytest.raises(SealBroken):
                ciphers.photo.decrypt(cutout.data)
    await pool.close()


async def test_a_broken_body_has_another_code_than_a_broken_image(pool: ProcessPool) -> None:
    """By the child; the process goes on."""
    pids = pool.pids
    body = CIPHERS.photo.encrypt(PHOTO)
    flipped = body[:-1] + bytes([body[-1] ^ 1])
    for broken in (flipped, body[:-1], b"", CIPHERS.cutout.encrypt(PHOTO), PHOTO):
        assert await refusal(pool, broken, CIPHERS) is Code.SEAL_BROKEN
    other = ImageCiphers(BodyCipher(CIPHERS.photo.key, b"another upload"), CIPHERS.cutout)
    assert await refusal(pool, body, other) is Code.SEAL_BROKEN
    for image, code in ((b"", Code.EMPTY), (PHOTO[:900], Code.TRUNCATED)):
        assert await refusal(pool, CIPHERS.photo.encrypt(image), CIPHERS) is code
    assert pool.pids == pids


async def test_a_sealed_image_ends_at_the_deadline_of_its_own_size(
    stalling_model: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child ends itself: here the parent allows it ten minutes."""
    monkeypatch.setattr(time_limits, "_MORE_FOR_LARGEST", 600.0)
    slow = SlowImages()
    pool = ProcessPool(
        model=stalling_model, children=1, deadline_s=1.0, slow_images=slow, memory_bytes=1 << 30
    )
    await pool.start()
    sealed = CIPHERS.photo.encrypt(BLACK)
    assert await refusal(pool, sealed, CIPHERS) is Code.PROCESSING_TIMEOUT
    assert slow.count == 1
    cutout = await pool.cut_out(CIPHERS.photo.encrypt(PHOTO), OPTIONS, CIPHERS)
    assert Image.open(io.BytesIO(CIPHERS.cutout.decrypt(cutout.data))).size == (200, 120)
    await pool.close()


async def test_sealed_and_unsealed_images_work_side_by_side(pool: ProcessPool) -> None:
    sealed, unsealed = await asyncio.gather(
        pool.cut_out(CIPHERS.photo.encrypt(PHOTO), OPTIONS, CIPHERS), pool.cut_out(PHOTO, OPTIONS)
    )
    assert CIPHERS.cutout.decrypt(sealed.data) == unsealed.data
