"""Brokers hold ciphertext only, and copies of every disk are worthless once the keys are dead.

The day passes on copies of vault and master keys: a replica of the key service whose clock is ahead
destroys what is due there.  `test_worthless_copies.py` waits for it.
"""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest

from erasestream.pipeline.bootstrap.keys import key_service_stage
from erasestream.pipeline.devstack.gcs_emulator.process import BucketProcess
from erasestream.pipeline.devstack.gcs_emulator.server import BucketSettings
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import UploadId
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.catalog.topic_names import RETAINED, cutouts_of, ephemeral_of, uploads_of
from tests.flow.byte_search import files_containing, sample_slices
from tests.flow.pictures import noise
from tests.flow.pipeline_harness import SHOP, PipelineHarness
from tests.flow.sealed_records import send_sealed
from tests.flow.upload_batch import opt_in_for_later_uploads
from tests.flow.waiting import eventually
from tests.proof.copies import FoundImage, copy_disks, copy_secrets, open_all

TOPICS = {uploads_of(SHOP), cutouts_of(SHOP), ephemeral_of(SHOP)}


class Traffic(NamedTuple):
    """One upload of an account that opted in, and one of another; all images in clear."""

    sent_at: datetime
    kept: UploadId
    other: UploadId
    images: dict[tuple[UploadId, Part], bytes]

    @property
    def digests(self) -> dict[tuple[str, str], str]:
        """The SHA-256 of each image."""
        return {key: sha256(image).hexdigest() for key, image in self.images.items()}


@pytest.fixture(scope="module")
def traffic(flow: PipelineHarness) -> Traffic:
    opt_in_for_later_uploads(flow, "sealed-kept")
    sent_at, images, uploads = datetime.now(UTC), {}, []
    for account in ("sealed-kept", "sealed-other"):
        photo = noise()
        upload = send_sealed(flow.stack.cluster, SHOP, photo, account)
        images[upload, Part.ORIGINAL] = photo
        images[upload, Part.CUTOUT] = flow.cutout(upload).data
        uploads.append(upload)
    flow.wait_until_drained()
    return Traffic(sent_at, *uploads, images)


@pytest.fixture(scope="module")
def copy(
    flow: PipelineHarness, traffic: Traffic, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Copy disks and secrets while all keys are alive."""
    folder, files = tmp_path_factory.mktemp("copies"), flow.stack.files
    return copy_disks(files, folder / "disks"), copy_secrets(files, folder / "secrets")


def test_no_broker_has_a_pixel(traffic: Traffic, copy: tuple[Path, Path]) -> None:
    """Neither in topics nor anywhere else in its folder; and nor does the bucket."""
    pieces = [piece for image in traffic.images.values() for piece in sample_slices(image)]
    assert files_containing(copy[0], pieces) == []


def test_copies_and_secrets_open_everything_while_the_keys_live(
    traffic: Traffic, copy: tuple[Path, Path]
) -> None:
    """So the opener can open, and finds each image wherever it is."""
    found = own(open_all(copy[1], copy[0]), traffic)
    assert all(image.sealed for image in found)
    for image in found:
        assert image.sha256 == traffic.digests[image.upload, image.part], image.place
    topics = {image.topic for image in found if image.upload == traffic.kept}
    assert topics == {*TOPICS, RETAINED, ""}
    assert {image.topic for image in found if image.upload == traffic.other} == TOPICS


def test_a_day_later_they_open_no_image_but_those_that_are_kept(
    flow: PipelineHarness, traffic: Traffic, copy: tuple[Path, Path], tmp_path: Path
) -> None:
    """Whatever Kafka deleted: the copies have all that was there, the vault of then included."""
    times: EpochTimes = flow.settings.epochs()
    disks = copy_disks(flow.stack.files, tmp_path / "disks")
    secrets = copy_secrets(flow.stack.files, tmp_path / "secrets")
    last_moment = times.dies(times.number(traffic.sent_at)) - timedelta(seconds=1)
    let_keys_die(flow, disks, secrets, last_moment)
    assert all(image.sha256 for image in own(open_all(secrets, disks), traffic))
    let_keys_die(flow, disks, secrets, traffic.sent_at + timedelta(seconds=times.promise_s))
    found = own(open_all(secrets, disks, copy[0]), traffic)
    opened = {image.upload for image in found if image.sha256}
    closed = {image.upload for image in found if not image.sha256}
    assert (opened, closed) == ({traffic.kept}, {traffic.other})


def own(found: Iterator[FoundImage], traffic: Traffic) -> list[FoundImage]:
    """Return the images of these uploads: the others are other tests'."""
    ids = {upload for upload, _ in traffic.images}
    return [image for image in found if image.upload in ids]


def let_keys_die(flow: PipelineHarness, disks: Path, secrets: Path, now: datetime) -> None:
    """Run a replica of the key service on these copies until all that is due is destroyed."""
    settings = flow.settings
    assert settings.storage
    assert settings.keys
    bucket = BucketSettings.model_validate_json(flow.stack.files.bucket_settings.read_text())
    folder = secrets / f"{now:%H%M%S}"
    own_bucket = bucket.model_copy(
        update={"data": disks / "bucket", "port": 0, "port_file": folder / "port"}
    )
    masters = secrets / "masters"
    keys = settings.keys.model_copy(update={"masters": masters, "listen_port": 0})
    server = BucketProcess.start(own_bucket, folder)
    storage = settings.storage.model_copy(update={"endpoint": server.endpoint})
    changed = settings.model_copy(update={"storage": storage, "keys": keys})
    times, dead = settings.epochs(), f"{now.timestamp():.0f}"
    try:
        with key_service_stage(
            changed, threading.Event(), now=lambda: now, witness=lambda: now
        ) as stage:
            eventually(
                f"the keys that are dead at {dead} are destroyed",
                lambda: stage.run_once(0) or not _dead(masters, times, now),
            )
    finally:
        server.stop()


def _dead(masters: Path, times: EpochTimes, now: datetime) -> list[Path]:
    return [each for each in masters.glob("*.key") if times.is_dead(int(each.stem), now)]
