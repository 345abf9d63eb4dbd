"""The state machine: everything that can happen to the join, in any order.

Checked at every step and at the end: no output is delivered twice and none is lost, nothing is
retained against the last decision that was confirmed when its cut-out was read, nothing that
must be retained is dropped, and nothing is purged that is still needed.
"""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.ids import AccountId
from erasestream.topics.admin.record_purge import Committed, purgeable_offsets
from erasestream.topics.kafka.records import Partition
from tests.pipeline.stages.routing.join_brokers import (
    ACCOUNTS,
    LANE,
    PARTITIONS,
    SKEW_MS,
    FakeBrokers,
    Source,
)
from tests.pipeline.stages.routing.join_decisions import result_in
from tests.pipeline.stages.routing.join_members import InferenceWorker, RouterProcess

NAMES = ("first", "second")
NUMBERS = st.integers(0, len(PARTITIONS) - 1)
INDEXES = st.integers(0, 5)
FEW = st.integers(1, 4)


class JoinMachine(RuleBasedStateMachine):
    """Owners, workers, routers and the purger, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.brokers = FakeBrokers()
        self.owners = dict.fromkeys(PARTITIONS, NAMES[0])
        self.current: dict[str, RouterProcess] = {}
        self.deposed: list[RouterProcess] = []
        for name in NAMES:
            self._start(name)
        self._start_workers()
        self.inferred = [0 for _ in PARTITIONS]
        self.has_lost_records = False
        self.purgeable: list[tuple[Partition, int]] = []

    def _start(self, name: str) -> RouterProcess:
        process = self.current[name] = RouterProcess(self.brokers, name)
        process.assign(at for at in PARTITIONS if self.owners[at] == name)
        return process

    def _start_workers(self) -> None:
        numbers = range(len(PARTITIONS))
        self.workers = [InferenceWorker(self.brokers, number, 0) for number in numbers]

    def _router(self, index: int) -> RouterProcess:
        routers = [*self.current.values(), *self.deposed]
        return routers[index % len(routers)]

    def _worker(self, index: int) -> InferenceWorker:
        return self.workers[index % len(self.workers)]

    # Owners and clocks

    @rule(account=st.sampled_from(ACCOUNTS), number=NUMBERS)
    def upload(self, account: AccountId, number: int) -> None:
        self.brokers.upload(account, number)

    @rule(
        account=st.sampled_from(ACCOUNTS),
        decision=st.sampled_from([Decision.GRANTED, Decision.GRANTED, Decision.REVOKED]),
        late_ms=st.sampled_from([0, 0, 0, 300, 9000]),
    )
    def decide(self, account: AccountId, decision: Decision, late_ms: int) -> None:
        """Append a decision, which may reach the broker late."""
        self.brokers.decide(account, decision, late_ms=late_ms)

    @rule(ms=st.sampled_from([900, 2100, 5000]))
    def time_passes(self, ms: int) -> None:
        self.brokers.now_ms += ms

    @rule(
        clock=st.sampled_from(["uploads", "consent"]),
        ms=st.sampled_from([-SKEW_MS, 0, SKEW_MS]),
    )
    def clocks_drift(self, clock: str, ms: int) -> None:
        self.brokers.skew_ms[clock] = ms

    # Inference

    @rule(number=NUMBERS, back=st.integers(0, 3))
    def worker_starts(self, number: int, back: int) -> None:
        """Another worker takes a partition over; the one before may continue as a zombie."""
        start = max(0, self.inferred[number] - back)
        others = [each for each in self.workers if each.number != number]
        zombies = [each for each in self.workers if each.number == number][-2:]
        self.workers = [*others, *zombies, InferenceWorker(self.brokers, number, start)]

    @rule(index=INDEXES, most=FEW)
    def worker_reads(self, index: int, most: int) -> None:
        self._worker(index).read(most)

    @rule(index=INDEXES, count=FEW)
    def worker_appends(self, index: int, count: int) -> None:
        for _ in range(count):
            self._worker(index).append()

    @rule(index=INDEXES)
    def worker_commits(self, index: int) -> None:
        worker = self._worker(index)
        self.inferred[worker.number] = worker.done

    @rule(account=st.sampled_from(ACCOUNTS), number=NUMBERS, count=FEW)
    def traffic(self, account: AccountId, number: int, count: int) -> None:
        """Append uploads, and results of the partition's last worker for them: the usual."""
        for _ in range(count):
            self.brokers.upload(account, number)
        worker = [each for each in self.workers if each.number == number][-1]
        worker.read(10)
        for _ in range(count):
            worker.append()

    @rule(account=st.sampled_from(ACCOUNTS), number=NUMBERS)
    def retained_traffic(self, account: AccountId, number: int) -> None:
        """Grant, and upload when that surely counts."""
        self.brokers.decide(account, Decision.GRANTED, late_ms=0)
        self.brokers.now_ms += 4 * SKEW_MS + 1
        self.traffic(account, number, 2)

    # Routers

    @rule(name=st.sampled_from(NAMES), most=FEW)
    def router_works(self, name: str, most: int) -> None:
        """Read, decide, commit: the usual."""
        self.current[name].read(most)
        self.current[name].handle()
        self.current[name].commit()

    @rule(index=INDEXES, most=FEW)
    def router_reads(self, index: int, most: int) -> None:
        self._router(index).read(most)

    @rule(index=INDEXES)
    def router_decides(self, index: int) -> None:
        self._router(index).handle()

    @rule(index=INDEXES)
    def router_commits(self, index: int) -> None:
        self._router(index).commit()

    @rule(index=INDEXES, share=st.integers(0, 3))
    def decisions_arrive(self, index: int, share: int) -> None:
        """Let a share of the decisions reach one router's view."""
        view = self._router(index).view
        end = view.mark()
        view.arrived = {at: max(view.arrived[at], end[at] * share // 3) for at in view.arrived}

    @rule(name=st.sampled_from(NAMES))
    def router_is_killed(self, name: str) -> None:
        """Start it again; the killed process may be alive as a zombie."""
        self.deposed = [*self.deposed[-2:], self.current[name]]
        self._start(name)

    @rule(owners=st.tuples(*[st.sampled_from(NAMES)] * len(PARTITIONS)), noticed=st.booleans())
    def partitions_move(self, owners: tuple[str, ...], noticed: bool) -> None:
        """Rebalance the group; one of the members may learn of it late."""
        self.owners = dict(zip(PARTITIONS, owners, strict=True))
        self.brokers.generation += 1
        for name in NAMES if noticed else NAMES[:1]:
            self.current[name].assign(at for at in PARTITIONS if self.owners[at] == name)

    @rule(name=st.sampled_from(NAMES))
    def member_joins_again(self, name: str) -> None:
        """Assign a member its partitions, late or again; a current member starts over."""
        self.current[name].assign(at for at in PARTITIONS if self.owners[at] == name)

    # Deletion

    @rule()
    def purger_reads_offsets(self) -> None:
        """Read the committed offsets; much may happen before the purger deletes."""
        found = purgeable_offsets(
            routed={
                at: Committed(start.offset, start.metadata)
                for at, start in self.brokers.commits.items()
            },
            stored={},
            topic_ids=self.brokers.topic_ids([f"uploads.{LANE}"]),
        )
        self.purgeable = sorted(found.items())

    @rule(count=FEW)
    def purger_deletes(self, count: int) -> None:
        """Delete some of what was found; the purger may be killed then, and reads again."""
        done = self.brokers.purged | set(self.brokers.ephemeral)
        for (topic, number), offset in self.purgeable[:count]:
            is_uploads = topic.startswith("uploads")
            starts = self.brokers.uploads_start if is_uploads else self.brokers.cutouts_start
            for n in range(starts[number], offset) if is_uploads else ():
                source = Source(self.brokers.topic_id, number, n)
                assert source in done, "purged while it was needed"
            starts[number] = max(starts[number], offset)
        self.purgeable = self.purgeable[count:]

    @rule(number=NUMBERS, count=FEW)
    def uploads_expire(self, number: int, count: int) -> None:
        """Delete some before a worker has read them."""
        starts = self.brokers.uploads_start
        starts[number] = min(starts[number] + count, len(self.brokers.uploads[number]))
        self.has_lost_records = True

    @precondition(lambda self: self._unrouted_results_are_of_the_current_topic())
    @rule(number=NUMBERS, count=FEW)
    def cutouts_expire(self, number: int, count: int) -> None:
        """Delete some before a router has read them: its outage was too long."""
        starts = self.brokers.cutouts_start
        starts[number] = min(starts[number] + count, len(self.brokers.cutouts[number]))
        self.has_lost_records = True

    @precondition(
        lambda self: not self.has_lost_records and self._unrouted_results_are_of_the_marked_topic()
    )
    @rule()
    def uploads_are_recreated(self) -> None:
        """Inference and purger are stopped; results of the old uploads may still be unrouted."""
        self.purgeable = []
        self.brokers.incarnation += 1
        for number in range(len(PARTITIONS)):
            self.brokers.uploads[number] = []
            self.brokers.uploads_start[number] = 0
            self.inferred[number] = 0
        self._start_workers()

    def _unrouted_results_are_of_the_marked_topic(self) -> bool:
        """If uploads are recreated twice before results are routed, the router stops by rule."""
        marks = {
            at: ReplayMark.parse(start.metadata, where=str(at))
            for at, start in self.brokers.commits.items()
        }
        return all(
            result_in(record).position.topic_id == marks[at].topic_id
            for at, start in self.brokers.commits.items()
            for record in self.brokers.cutouts[at.number][start.offset :]
        )

    def _unrouted_results_are_of_the_current_topic(self) -> bool:
        """Unrouted results of deleted uploads cannot be distinguished from lost ones."""
        return all(
            result_in(record).position.topic_id == self.brokers.topic_id
            for at, start in self.brokers.commits.items()
            for record in self.brokers.cutouts[at.number][start.offset :]
        )

    # Checks

    @invariant()
    def nothing_is_written_twice(self) -> None:
        assert len(set(self.brokers.ephemeral)) == len(self.brokers.ephemeral)
        assert set(self.brokers.retained.values()) <= {2}

    def teardown(self) -> None:
        """All members finish: then every upload has its result, or a finding."""
        for number, at in enumerate(PARTITIONS):
            self.brokers.upload(ACCOUNTS[0], number)  # shows what is missing before it
            worker = InferenceWorker(self.brokers, number, self.inferred[number])
            worker.read(1000)
            for _ in self.brokers.uploads[number]:
                worker.append()
            self.owners[at] = NAMES[0]
        self.brokers.generation += 1
        process = self._start(NAMES[0])
        process.read(1000)
        process.handle()
        assert process.commit()
        self._assert_complete()

    def _assert_complete(self) -> None:
        current = self.brokers.topic_id
        expected = {
            Source(current, number, offset)
            for number, log in enumerate(self.brokers.uploads)
            for offset in range(len(log))
        }
        for log in self.brokers.cutouts:
            positions = (result_in(record).position for record in log)
            expected |= {Source(p.topic_id, p.partition, p.offset) for p in positions}
        routed = set(self.brokers.ephemeral)
        assert not routed & self.brokers.purged, "delivered, and reported as purged"
        # A worker may append too late what was purged meanwhile: that is a finding.
        assert routed | self.brokers.purged == expected
        for number in range(len(PARTITIONS)):
            of_partition = [p.offset for p in self.brokers.ephemeral if p[:2] == (current, number)]
            assert of_partition == sorted(of_partition)
