"""A day of the whole stack, scaled to minutes by the code that computes the real lifetimes.

Three brokers, both routes, killed stages.  All disks are copied at the start and after the
deadline, all secrets after it.  Meanwhile one broker is down, so that it deletes nothing, and
another has a stray directory, which Kafka never deletes.
"""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from erasestream.pipeline.settings import LifetimeSettings
from erasestream.schemas.ids import UploadId
from erasestream.topics.catalog.topic_names import (
    RETAINED,
    cutouts_of,
    ephemeral_of,
    uploads_of,
)
from erasestream.topics.kafka.admin import Admin
from tests.flow.byte_search import files_containing, sample_slices
from tests.flow.pictures import noise
from tests.flow.pipeline_harness import BULK, SHOP, PipelineHarness
from tests.flow.sealed_records import send_sealed
from tests.flow.upload_batch import opt_in_for_later_uploads
from tests.flow.waiting import eventually
from tests.proof.copies import brokers_of, copy_disks, copy_secrets, open_all

PROMISE = timedelta(minutes=6)
LIFETIMES = LifetimeSettings(
    promise=PROMISE,
    reserve=PROMISE / 24,
    segment=PROMISE / 96,
    router_outage=PROMISE / 6,
    sink_outage=PROMISE / 4,
    pick_up=PROMISE / 48,
    judged_to_appended=PROMISE / 24,
    check_interval=PROMISE / 288,
    delete_delay=PROMISE / 1440,
)
KEYS = {
    "epoch": PROMISE / 24,
    "clock_error": PROMISE / 288,
    "destruction": PROMISE / 36,
    "delivery": PROMISE / 4,
}
BACKLOG_LIMIT = PROMISE / 4
PHOTOS = 4
TOPICS = {topic(SHOP) for topic in (uploads_of, cutouts_of, ephemeral_of)}


@pytest.fixture
def flow(tmp_path: Path) -> PipelineHarness:
    options = {"nodes": 3, "heap_mb": 320, "lifetimes": LIFETIMES, "key_times": KEYS}
    return PipelineHarness(
        tmp_path / "flow", options=options, backlog_limit=BACKLOG_LIMIT, sealing="required"
    )


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_copies_of_every_disk_are_worthless_after_the_deadline(
    flow: PipelineHarness, tmp_path: Path
) -> None:
    """Those at the start open all; those after it, with every secret, none but what is kept."""
    try:
        flow.start()
        _prove(flow, tmp_path)
    finally:
        flow.stop()


def _prove(flow: PipelineHarness, folder: Path) -> None:
    files, brokers = flow.stack.files, flow.stack.brokers
    images = _traffic(flow)
    kept = {upload for upload, account in images if account == "kept"}
    last = datetime.now(UTC)
    digests: dict[str, set[str]] = defaultdict(set)
    pieces = []
    for (upload, _), (photo, cutout) in images.items():
        digests[upload] |= {sha256(each).hexdigest() for each in (photo, cutout)}
        pieces += [*sample_slices(photo), *sample_slices(cutout)]
    _leave_stray_directory(flow)

    start = copy_disks(files, folder / "start")
    found = list(open_all(copy_secrets(files, folder / "secrets-at-start"), start))
    assert all(image.sealed for image in found)
    assert all(image.sha256 in digests[image.upload] for image in found)
    places = {(image.place.split("/")[0], image.topic) for image in found}
    assert {(broker.name, topic) for broker in brokers_of(files) for topic in TOPICS} <= places
    assert {RETAINED, ""} <= {topic for _, topic in places}
    assert any("-stray/" in image.place for image in found)
    assert files_containing(start, pieces) == []

    brokers[-1].kill()
    deadline = last + PROMISE
    eventually(
        "the deadline passes",
        lambda: datetime.now(UTC) >= deadline,
        deadline_s=PROMISE.total_seconds(),
        poll_s=1,
    )
    after = copy_disks(files, folder / "after")
    found_after = list(open_all(copy_secrets(files, folder / "secrets-after"), start, after))
    left = [image for image in open_all(folder / "secrets-after", after) if not image.sha256]
    assert {image.upload for image in found_after if image.sha256} == kept
    # A killed worker repeats a result under another data key, which is not kept.
    assert {image.upload for image in found_after if not image.sha256} >= digests.keys() - kept
    # Kafka did not delete everything: not on the broker that is down, nor the stray directory.
    assert any(image.place.startswith(brokers_of(files)[-1].name) for image in left)
    assert any("-stray/" in image.place for image in left)


def _traffic(flow: PipelineHarness) -> dict[tuple[UploadId, str], tuple[bytes, bytes]]:
    """Send through both routes while stages are killed; return photo and cut-out of each upload."""
    opt_in_for_later_uploads(flow, "kept")
    sent: dict[tuple[UploadId, str], bytes] = {}
    for number in range(PHOTOS):
        for account, lane in (("kept", SHOP), ("other", SHOP), ("bulk", BULK)):
            photo = noise()
            sent[send_sealed(flow.stack.cluster, lane, photo, account), account] = photo
        if number == PHOTOS // 2:
            for name in ("infer", "route", "sink"):
                flow.stack.stage(name).kill()
    flow.start_stages()
    images = {}
    for (upload, account), photo in sent.items():
        lane = BULK if account == "bulk" else SHOP
        images[upload, account] = photo, flow.cutout(upload, lane).data
    flow.wait_until_drained()
    return images


def _leave_stray_directory(flow: PipelineHarness) -> None:
    """Delete a topic while a broker is down: it finds files of no topic when it comes back."""
    broker = flow.stack.brokers[1]
    broker.kill()
    with Admin(flow.stack.admin()) as admin, admin.use() as client:
        topic = ephemeral_of(BULK)
        eventually(
            "the topic is deleted",
            lambda: (
                client.delete_topics([topic])[topic].exception() is None
                or topic not in client.list_topics(timeout=10).topics
            ),
            poll_s=1,
        )
    broker.launch()
    broker.wait_until_ready(timeout_s=120)
    eventually("the stray directory", lambda: [*broker.data.glob("*-stray")])
