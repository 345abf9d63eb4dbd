"""Watches what one hostile lane does to the lanes of a running pipeline.

Each lane has an account whose revocation is confirmed, and uploads for it.  A lane is disturbed if
an offset of its uploads has not exactly one result, if an upload after the revocation is retained,
or if a stage has ended, which concerns all lanes.
"""

from collections import Counter
from collections.abc import Iterable

from erasestream.schemas.ids import Lane, UploadId
from erasestream.topics.catalog.topic_names import uploads_of
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from tests.flow.pipeline_harness import PARTITIONS, STAGES, PipelineHarness
from tests.flow.topic_reader import event_of, ids_in
from tests.flow.waiting import eventually

CONFIRM_S = 180.0
RESULTS_S = 600.0
WATCHED = (*STAGES, "erase")


class LaneWatch:
    """The lanes of a pipeline whose stages run, the eraser among them."""

    def __init__(self, flow: PipelineHarness, lanes: Iterable[Lane]) -> None:
        self._flow = flow
        self.lanes = tuple(lanes)
        self._accounts = {lane: self._revoked_account(lane) for lane in self.lanes}
        self._uploads: dict[Lane, list[UploadId]] = {lane: [] for lane in self.lanes}
        self._processes = self._running()

    def upload(self) -> None:
        """Send an upload in each lane."""
        for lane in self.lanes:
            receipt = self._flow.upload(self._accounts[lane], lane=lane)
            self._uploads[lane].append(receipt.upload_id)

    def wait_for_results(self) -> None:
        """Wait until every offset has a result; fail after `RESULTS_S`."""
        for lane in self.lanes:
            eventually(
                f"all results of {lane}",
                lambda lane=lane: not self._miscounted(lane),  # type: ignore[misc]
                deadline_s=RESULTS_S,
                poll_s=0.2,
            )

    def disturbances(self) -> dict[Lane, list[str]]:
        """Return the complaints about each disturbed lane."""
        retained = set(self._flow.in_retained())
        has_ended = self._running() != self._processes
        found: dict[Lane, list[str]] = {}
        for lane in self.lanes:
            results = Counter(ids_in(self._flow.results(lane)))
            complaints = [f"results: {self._miscounted(lane)}"] if self._miscounted(lane) else []
            complaints += [
                f"{results[each]} results of {each}"
                for each in self._uploads[lane]
                if results[each] != 1
            ]
            complaints += [f"{each} is kept" for each in self._uploads[lane] if each in retained]
            complaints += ["a stage has ended"] if has_ended else []
            if complaints:
                found[lane] = complaints
        return found

    def _revoked_account(self, lane: Lane) -> str:
        account = f"watched-{lane}"
        self._flow.grant(account, lane)
        revoked = self._flow.revoke(account, lane)
        self._flow.consent(lane).await_confirmed(account, revoked, timeout_s=CONFIRM_S)
        return account

    def _running(self) -> dict[str, int]:
        running = self._flow.stack.running()
        return {name: running[name] for name in WATCHED if name in running}

    def _miscounted(self, lane: Lane) -> Counter[tuple[int, int]]:
        """Return the positions that have not exactly one result, and how many they have."""
        with Admin(self._flow.stack.admin()) as admin:
            partitions = [Partition(uploads_of(lane), n) for n in range(PARTITIONS[lane])]
            ends = OffsetQueries(admin).log_ends(partitions)
        expected = {(at.number, offset) for at, end in ends.items() for offset in range(end)}
        positions = (event_of(record).position for record in self._flow.results(lane))
        found = Counter((position.partition, position.offset) for position in positions)
        return Counter({at: found[at] for at in expected.union(found) if found[at] != 1})
