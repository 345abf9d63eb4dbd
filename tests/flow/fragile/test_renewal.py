"""Certificates are renewed while stages run: each stage reloads its own and loses nothing."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.schemas.errors import Unavailable
from erasestream.topics.catalog.roles import ERASER, INFERENCE, PURGER, ROUTER, SINK, Role
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.consent.writer import RecordedDecision
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from tests.flow.pipeline_harness import SHOP, STAGES, PipelineHarness
from tests.flow.upload_batch import UploadBatch, opt_in
from tests.flow.waiting import eventually

ROLES = (INFERENCE, ROUTER, SINK)
DELETING = {"purge": PURGER, "erase": ERASER}
"""The stages that delete, and their roles."""
VALID = timedelta(seconds=45)
UPLOADS = 20


def issue(flow: PipelineHarness, *roles: Role, valid: timedelta = timedelta(days=1)) -> datetime:
    """Issue new certificates for these roles and return when they expire."""
    authority = CertificateAuthority.load(
        flow.stack.files.directory / "authority", now=lambda: datetime.now(UTC)
    )
    issued_at = datetime.now(UTC) - timedelta(days=authority.days) + valid
    issuer = replace(authority, now=lambda: issued_at)
    for role in roles:
        issuer.issue_role(role, flow.stack.files.identities)
    return datetime.now(UTC) + valid


@pytest.mark.long
def test_stages_outlive_their_certificates(fragile: PipelineHarness) -> None:
    """The first certificates expire and every connection is lost; uploads are routed once."""
    flow = fragile
    for stage in STAGES:
        flow.stack.stop_stage(stage)
    expiry = issue(flow, *ROLES, valid=VALID)
    flow.start_stages()
    opt_in(flow, "renewal")
    processes = {stage: flow.stack.stage(stage).process_id for stage in STAGES}
    issue(flow, *ROLES)
    before = UploadBatch(
        flow, opted_in="renewal", not_opted_in="renewal-of-no-matter", count=UPLOADS
    )
    for stage in STAGES:
        flow.wait_for_event(stage, "certificate_renewed")
    before.assert_exact()
    assert processes == {stage: flow.stack.stage(stage).process_id for stage in STAGES}

    wait_for_expiry(expiry)
    flow.stack.broker.stop()
    flow.stack.broker.start()
    after = UploadBatch(
        flow, opted_in="renewal", not_opted_in="renewal-of-no-matter", count=UPLOADS
    )

    def is_done() -> bool:
        flow.restart_ended()
        return after.is_done()

    eventually("all are routed", is_done, poll_s=0.5)
    after.assert_exact()
    before.assert_exact()


def wait_for_expiry(expiry: datetime) -> None:
    """Wait until certificates that expire then are no longer valid."""
    eventually("they expire", lambda: datetime.now(UTC) > expiry + timedelta(seconds=1))


def wait_for_purge(flow: PipelineHarness) -> None:
    """Upload, and wait until the upload is routed and deleted from the brokers."""
    receipt = flow.upload("renewal-of-no-matter")
    at = Partition(uploads_of(SHOP), receipt.partition)
    offsets = OffsetQueries(Admin(flow.stack.admin()))
    end = offsets.log_end(at)

    def is_gone() -> bool:
        flow.restart_ended()
        return offsets.log_start(at) >= end

    eventually("the upload is purged", is_gone, poll_s=0.5)


def wait_for_erasure(flow: PipelineHarness, account: str) -> None:
    """Opt in and out, and wait until the revocation is confirmed."""

    def revoked() -> RecordedDecision | None:
        with suppress(Unavailable):  # the writer's own clients lost their broker too
            flow.grant(account)
            return flow.revoke(account)
        return None

    revocation = eventually("a revocation is recorded", revoked, poll_s=0.5)
    flow.consent().await_confirmed(account, revocation, timeout_s=60)


@pytest.mark.long
def test_purger_and_eraser_outlive_their_certificates(fragile: PipelineHarness) -> None:
    """Each works before and after the first certificates expire, in one and the same process."""
    flow = fragile
    expiry = issue(flow, *DELETING.values(), valid=VALID)
    flow.start_stages(DELETING, ERASESTREAM_STAGE__PURGE_INTERVAL="PT1S")
    try:
        processes = {stage: flow.stack.stage(stage).process_id for stage in DELETING}
        wait_for_purge(flow)
        wait_for_erasure(flow, "erased-before")
        issue(flow, *DELETING.values())
        for stage in DELETING:
            flow.wait_for_event(stage, "certificate_renewed")
        wait_for_expiry(expiry)
        flow.stack.broker.stop()
        flow.stack.broker.start()
        wait_for_purge(flow)
        wait_for_erasure(flow, "erased-after")
        assert processes == {stage: flow.stack.stage(stage).process_id for stage in DELETING}
    finally:
        for stage in DELETING:
            flow.stack.stop_stage(stage)
