"""Certificates are renewed under running stages: each takes the new one up, and loses nothing."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.runtime.runner import EX_SOFTWARE, EX_UNAVAILABLE
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
TIDYING = {"purge": PURGER, "erase": ERASER}
"""The stages that delete, and their roles."""
VALID = timedelta(seconds=45)
UPLOADS = 20


def issue(flow: PipelineHarness, *roles: Role, valid: timedelta = timedelta(days=1)) -> datetime:
    """New certificates for these, and when they end."""
    authority = CertificateAuthority.load(
        flow.stack.files.directory / "authority", now=lambda: datetime.now(UTC)
    )
    begun = datetime.now(UTC) - timedelta(days=authority.days) + valid
    issuer = replace(authority, now=lambda: begun)
    for role in roles:
        issuer.issue_role(role, flow.stack.files.identities)
    return datetime.now(UTC) + valid


def restart_what_ended(flow: PipelineHarness) -> None:
    """As a supervisor does: a client library may give up when its broker goes."""
    for stage in STAGES:
        if flow.stack.stage(stage).process_id is None:
            assert flow.exit_code(stage) in (EX_SOFTWARE, EX_UNAVAILABLE)
            flow.restart(stage)


@pytest.mark.long
def test_stages_outlive_their_certificates(fragile: PipelineHarness) -> None:
    """The first ones end, and with the broker every connection; all uploads are routed once."""
    flow = fragile
    for stage in STAGES:
        flow.stack.stop_stage(stage)
    ends = issue(flow, *ROLES, valid=VALID)
    flow.start_stages()
    opt_in(flow, "renewal")
    processes = {stage: flow.stack.stage(stage).process_id for stage in STAGES}
    issue(flow, *ROLES)
    before = UploadBatch(flow, keeper="renewal", forgetter="renewal-of-no-matter", count=UPLOADS)
    for stage in STAGES:
        flow.wait_for(stage, "certificate_renewed")
    before.assert_exact()
    assert processes == {stage: flow.stack.stage(stage).process_id for stage in STAGES}

    eventually("the first have ended", lambda: datetime.now(UTC) > ends + timedelta(seconds=1))
    flow.stack.broker.stop()
    flow.stack.broker.start()
    after = UploadBatch(flow, keeper="renewal", forgetter="renewal-of-no-matter", count=UPLOADS)

    def is_done() -> bool:
        restart_what_ended(flow)
        return after.delivered().keys() == after.ids and after.stored().keys() == after.objects

    eventually("all are routed", is_done, deadline_s=120, poll_s=0.5)
    after.assert_exact()
    before.assert_exact()


def await_purged(flow: PipelineHarness) -> None:
    """Upload, and wait until that is routed and gone from the brokers."""
    receipt = flow.upload("renewal-of-no-matter")
    at = Partition(uploads_of(SHOP), receipt.partition)
    offsets = OffsetQueries(Admin(flow.stack.admin()))
    end = offsets.log_end(at)

    def is_gone() -> bool:
        restart_what_ended(flow)
        return offsets.log_start(at) >= end

    eventually("the upload is purged", is_gone, deadline_s=120, poll_s=0.5)


def await_erased(flow: PipelineHarness, account: str) -> None:
    """Opt in and out, and wait until that is confirmed."""

    def revoked() -> RecordedDecision | None:
        with suppress(Unavailable):  # the writer's clients too have lost their broker
            flow.grant(account)
            return flow.revoke(account)
        return None

    revocation = eventually("a revocation is recorded", revoked, poll_s=0.5)
    flow.consent().await_confirmed(account, revocation, timeout_s=60)


@pytest.mark.long
def test_purger_and_eraser_outlive_their_certificates(fragile: PipelineHarness) -> None:
    """Before and after the first ones have ended each does its work, in one process all along."""
    flow = fragile
    ends = issue(flow, *TIDYING.values(), valid=VALID)
    flow.start_stages(TIDYING, ERASESTREAM_STAGE__PURGE_INTERVAL="PT1S")
    try:
        processes = {stage: flow.stack.stage(stage).process_id for stage in TIDYING}
        await_purged(flow)
        await_erased(flow, "erased-before")
        issue(flow, *TIDYING.values())
        for stage in TIDYING:
            flow.wait_for(stage, "certificate_renewed")
        eventually("the first have ended", lambda: datetime.now(UTC) > ends + timedelta(seconds=1))
        flow.stack.broker.stop()
        flow.stack.broker.start()
        await_purged(flow)
        await_erased(flow, "erased-after")
        assert processes == {stage: flow.stack.stage(stage).process_id for stage in TIDYING}
    finally:
        for stage in TIDYING:
            flow.stack.stop_stage(stage)
