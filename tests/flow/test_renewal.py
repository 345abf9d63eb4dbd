"""Certificates are renewed under running stages: each takes the new one up, and loses nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from erasestream.pipeline.local.certificates import Authority
from erasestream.pipeline.running import EX_SOFTWARE, EX_UNAVAILABLE
from erasestream.topics.catalog import INFERENCE, ROUTER, SINK
from tests.flow.running import STAGES, Flow
from tests.flow.tallies import Tally, opt_in
from tests.flow.waiting import eventually

VALID = timedelta(seconds=45)
UPLOADS = 20


def issue(flow: Flow, *, valid: timedelta = timedelta(days=1)) -> datetime:
    """New certificates for the stages, and when they end."""
    authority = Authority.load(
        flow.stack.files.directory / "authority", now=lambda: datetime.now(UTC)
    )
    begun = datetime.now(UTC) - timedelta(days=authority.days) + valid
    issuer = replace(authority, now=lambda: begun)
    for role in (INFERENCE, ROUTER, SINK):
        issuer.issue_role(role, flow.stack.files.identities)
    return datetime.now(UTC) + valid


def restart_what_ended(flow: Flow) -> None:
    """As a supervisor does: a client library may give up when its broker goes."""
    for stage in STAGES:
        if flow.stack.stage(stage).process_id is None:
            assert flow.exit_code(stage) in (EX_SOFTWARE, EX_UNAVAILABLE)
            flow.restart(stage)


@pytest.mark.long
def test_stages_outlive_their_certificates(fragile: Flow) -> None:
    """The first ones end, and with the broker every connection; all uploads are routed once."""
    flow = fragile
    for stage in STAGES:
        flow.stack.stop_stage(stage)
    ends = issue(flow, valid=VALID)
    flow.start_stages()
    opt_in(flow, "renewal")
    processes = {stage: flow.stack.stage(stage).process_id for stage in STAGES}
    issue(flow)
    before = Tally(flow, keeper="renewal", forgetter="renewal-of-no-matter", count=UPLOADS)
    for stage in STAGES:
        flow.wait_for(stage, "certificate_renewed")
    before.assert_exact()
    assert processes == {stage: flow.stack.stage(stage).process_id for stage in STAGES}

    eventually("the first have ended", lambda: datetime.now(UTC) > ends + timedelta(seconds=1))
    flow.stack.broker.stop()
    flow.stack.broker.start()
    after = Tally(flow, keeper="renewal", forgetter="renewal-of-no-matter", count=UPLOADS)

    def is_done() -> bool:
        restart_what_ended(flow)
        return after.delivered().keys() == after.ids and after.stored().keys() == after.objects

    eventually("all are routed", is_done, deadline_s=120, poll_s=0.5)
    after.assert_exact()
    before.assert_exact()
