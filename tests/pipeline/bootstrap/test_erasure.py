"""An erasure from the revocation to the receipt: a real broker, real buckets, the real client."""

import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from erasestream.pipeline.bootstrap import erasure
from erasestream.pipeline.bootstrap.consent import erasure_requests
from erasestream.pipeline.bootstrap.erasure import eraser_stage
from erasestream.pipeline.bootstrap.receipts import attested_about, cosigner, receipt_stage
from erasestream.pipeline.bootstrap.storage import open_images, open_vault, storage_of
from erasestream.pipeline.settings import KeySettings, Settings
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.ledger import OTHERS, KeyDestroyed, KeyState
from erasestream.schemas.events.receipts import (
    ConsentLeaf,
    ErasureLeaf,
    UnrecoverableLeaf,
    UploadErasureLeaf,
)
from erasestream.schemas.ids import Lane, UploadId
from erasestream.sinks.buckets.access_policy import MASTERS
from erasestream.sinks.images.object_names import NAME_KEY_BYTES, ObjectNamer
from erasestream.sinks.keys.key_vault import key_prefix
from erasestream.sinks.secret_file import read_secret
from erasestream.topics.catalog.lane_spec import Sealing
from erasestream.topics.catalog.purposes import KEPT, results_of, uploads_for
from erasestream.topics.catalog.roles import AUDITOR, ERASER, KEYS, ROTATOR, SINK
from erasestream.topics.catalog.topic_names import LEDGER, erasures_of
from erasestream.topics.consent.account_erasures import AccountErasures
from erasestream.topics.consent.upload_erasures import UploadErasures
from erasestream.topics.kafka.records import Partition
from tests.flow.waiting import eventually
from tests.kafka_fixture import KafkaFixture
from tests.pipeline.bootstrap import test_receipts
from tests.pipeline.bootstrap.test_receipts import Log, with_log  # noqa: F401 (a fixture)
from tests.topics.consent.consent_harness import ACCOUNT, OWNER, write_as, writer

OBJECTS = 3
OTHER_GRANT = "018f3c4e-0000-7000-8000-0000000000aa"
"""A grant that the ledger does not have."""
LONG_AGO = datetime(2019, 5, 6, 7, 30, tzinfo=UTC)
UPLOAD = UploadId("018f3c4e-0000-7000-8000-0000000000bb")


def test_a_revocation_deletes_what_is_held_and_leaves_a_receipt(
    kafka: KafkaFixture,
    lane: Lane,
    with_log: Settings,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The auditor, who looks into both buckets, cosigns it."""
    monkeypatch.setattr(erasure, "PUT_ENDS_S", -4.0)  # no sink runs here
    settings, storage = with_log, storage_of(with_log)
    writes = writer(kafka, lane)
    grant = writes.grant(ACCOUNT, **OWNER).grant
    assert grant is not None
    owner = ObjectNamer(read_secret(storage.name_key, size=NAME_KEY_BYTES)).owner(lane, ACCOUNT)
    with closing(open_vault(storage, SINK)) as vault, closing(open_images(storage, SINK)) as images:
        vault.create(f"{key_prefix(grant)}1", b"wrapped", "application/octet-stream")
        for number in range(OBJECTS):
            images.create(f"{owner}/{grant}/{number}", b"sealed", "application/octet-stream")
            name = f"{owner}/{OTHER_GRANT}/{UPLOAD}.{number}"
            images.create(name, b"sealed", "application/octet-stream")
    page = AccountErasures(writes.reader, lane, ACCOUNT)
    assert page.now() == []
    uploads = UploadErasures(writes.reader, lane, ACCOUNT)
    with erasure_requests(settings, lane) as requests:
        requests.request(ACCOUNT, UPLOAD, **OWNER)
    revoked = writes.revoke(ACCOUNT, **OWNER)
    (shown,) = page.now()
    assert (shown.grant, shown.confirmed) == (grant, None)

    def receipts() -> list[ErasureLeaf]:
        found = [each.leaf for each in attested_about(settings, lane, ACCOUNT)]
        return [leaf for leaf in found if isinstance(leaf, ErasureLeaf)]

    stopping = threading.Event()
    with eraser_stage(settings, stopping) as eraser:

        def has_ended() -> bool:
            eraser.run_once()
            return " 0\n" in eraser.metrics() and uploads.now()[0].gone

        eventually("the erasure has ended", has_ended, poll_s=0)
    writes.await_confirmed(ACCOUNT, revoked, timeout_s=0)
    with closing(open_vault(storage, AUDITOR)) as vault:
        assert not list(vault.list(key_prefix(grant)))
    with closing(open_images(storage, AUDITOR)) as images:
        assert not list(images.list(f"{owner}/"))
    (shown,) = page.now()
    steps = [shown.recorded, shown.confirmed, shown.keys_deleted, shown.gone]
    assert steps == sorted(filter(None, steps))
    assert (shown.objects, shown.objects_left) == (OBJECTS, 0)
    (leaf,) = receipts()
    assert (leaf.recorded, leaf.confirmed, leaf.unreachable) == (*steps[:2], shown.gone)
    assert (leaf.grant, leaf.objects, leaf.keys) == (grant, OBJECTS, ("1",))
    decisions = [each.leaf for each in attested_about(settings, lane, ACCOUNT)]
    assert leaf.decision in {each.id for each in decisions if isinstance(each, ConsentLeaf)}
    (upload,) = (each for each in decisions if isinstance(each, UploadErasureLeaf))
    assert (upload.objects, upload.confirmed) == (OBJECTS, uploads.now()[0].confirmed)
    with receipt_stage(settings, stopping) as attest:

        def is_attested() -> bool:
            attest.run_once()
            return attest.size >= len(decisions)

        eventually("the log has it", is_attested, poll_s=0)
    with cosigner(settings) as auditor:
        assert auditor.cosign() is not None


def test_a_grant_is_unrecoverable_once_its_master_key_was_seen_destroyed(
    kafka: KafkaFixture,
    lane: Lane,
    with_log: Settings,  # noqa: F811
) -> None:
    """Once, however often the eraser starts; never if some of its keys are not listed.

    The keys of its epoch were seen destroyed, too, in an hour of a year that no other test has.
    """
    required = with_log.lanes[lane].model_copy(update={"sealing": Sealing.REQUIRED})
    keys = KeySettings(endpoints=("https://127.0.0.1:1",))
    sealed = with_log.model_copy(update={"lanes": {lane: required}, "keys": keys})
    log, times = Log(sealed, kafka, lane), sealed.epochs()
    for hours, purpose in enumerate((KEPT, uploads_for(lane), results_of(lane))):
        dead = KeyDestroyed(
            id=test_receipts.new_id(),
            time=LONG_AGO + timedelta(days=1, hours=hours),
            purpose=purpose,
            epoch=times.number(LONG_AGO),
            public_key_sha256="ab" * 32,
            state=KeyState.UNRECOVERABLE,
        )
        write_as(kafka, KEYS, Partition(LEDGER, 0), b"", to_wire(dead, source="/test"))
    grant, other = log.decide(rounds=2)
    unlisted = log.erased(other, KeyState.UNREACHABLE).model_copy(update={"keys": ("1", OTHERS)})
    log.write(ERASER, erasures_of(lane), unlisted)
    erased = log.erased(grant, KeyState.UNREACHABLE).model_copy(update={"recorded": LONG_AGO})
    log.write(ERASER, erasures_of(lane), erased)

    def leaves() -> list[UnrecoverableLeaf]:
        found = [each.leaf for each in attested_about(sealed, lane, test_receipts.ACCOUNT)]
        return [each for each in found if isinstance(each, UnrecoverableLeaf)]

    def run_eraser(until: Callable[[], object]) -> None:
        with eraser_stage(sealed, threading.Event()) as eraser:
            eventually("the eraser is done", lambda: eraser.run_once() or until(), poll_s=0)

    def reads_ends() -> Callable[[], bool]:
        turns = count()
        return lambda: next(turns) > 3

    run_eraser(reads_ends())
    assert leaves() == []
    with closing(open_vault(storage_of(sealed), ROTATOR)) as vault:
        vault.create(f"{MASTERS}1", b"", "application/octet-stream")
    run_eraser(leaves)
    run_eraser(reads_ends())
    (leaf,) = leaves()
    assert (leaf.grant, leaf.keys) == (grant, ("1",))
    assert leaf.topics_worthless == LONG_AGO + timedelta(days=1, hours=2)
