"""The state machine: everything that can happen to the join, in any order.

Checked at every step and at the end: no output twice, none lost, none retained against the
last decision that was confirmed when its cut-out was read, none forgotten that should have
been kept, nothing purged that is still needed.
"""

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.events.consent import Decision
from erasestream.schemas.ids import AccountId
from erasestream.topics.admin.record_purge import Committed, purgeable_offsets
from erasestream.topics.kafka.records import Partition
from tests.pipeline.stages.routing.join_harness import (
    ACCOUNTS,
    LANE,
    PARTITIONS,
    SKEW_MS,
    Brokers,
    Place,
)
from tests.pipeline.stages.routing.join_members import Process, Worker, result_in

NAMES = ("first", "second")
NUMBERS = st.integers(0, len(PARTITIONS) - 1)
WHICH = st.integers(0, 5)
FEW = st.integers(1, 4)


class Join(RuleBasedStateMachine):
    """Owners, workers, routers and the purger, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.brokers = Brokers()
        self.owners = dict.fromkeys(PARTITIONS, NAMES[0])
        self.current: dict[str, Process] = {}
        self.deposed: list[Process] = []
        for name in NAMES:
            self._start(name)
        self.workers = [Worker(self.brokers, number, 0) for number in range(len(PARTITIONS))]
        self.inferred = [0 for _ in PARTITIONS]
        self.has_lost_records = False
        self.purgeable_offsets: list[tuple[Partition, int]] = []

    def _start(self, name: str) -> Process:
        process = self.current[name] = Process(self.brokers, name)
        process.assign(at for at in PARTITIONS if self.owners[at] == name)
        return process

    def _router(self, which: int) -> Process:
        everybody = [*self.current.values(), *self.deposed]
        return everybody[which % len(everybody)]

    # Owners and clocks

    @rule(account=st.sampled_from(ACCOUNTS), number=NUMBERS)
    def upload(self, account: AccountId, number: int) -> None:
        """A picture comes in."""
        self.brokers.upload(account, number)

    @rule(
        account=st.sampled_from(ACCOUNTS),
        made=st.sampled_from([Decision.GRANTED, Decision.GRANTED, Decision.REVOKED]),
        late_ms=st.sampled_from([0, 0, 0, 300, 9000]),
    )
    def decide(self, account: AccountId, made: Decision, late_ms: int) -> None:
        """An owner opts in or out; the record may be held up on its way."""
        self.brokers.decide(account, made, late_ms=late_ms)

    @rule(ms=st.sampled_from([900, 2100, 5000]))
    def time_passes(self, ms: int) -> None:
        """For everybody."""
        self.brokers.now_ms += ms

    @rule(
        clock=st.sampled_from(["uploads", "consent"]),
        ms=st.sampled_from([-SKEW_MS, 0, SKEW_MS]),
    )
    def clocks_drift(self, clock: str, ms: int) -> None:
        """As far as they may."""
        self.brokers.skew_ms[clock] = ms

    # Inference

    @rule(number=NUMBERS, back=st.integers(0, 3))
    def worker_starts(self, number: int, back: int) -> None:
        """Another worker takes a partition over; the one before may go on as a zombie."""
        start = max(0, self.inferred[number] - back)
        others = [each for each in self.workers if each.number != number]
        zombies = [each for each in self.workers if each.number == number][-2:]
        self.workers = [*others, *zombies, Worker(self.brokers, number, start)]

    @rule(which=WHICH, most=FEW)
    def worker_reads(self, which: int, most: int) -> None:
        """A batch."""
        self.workers[which % len(self.workers)].read(most)

    @rule(which=WHICH, count=FEW)
    def worker_appends(self, which: int, count: int) -> None:
        """Some of what it has read."""
        for _ in range(count):
            self.workers[which % len(self.workers)].append()

    @rule(which=WHICH)
    def worker_commits(self, which: int) -> None:
        """What it appended."""
        worker = self.workers[which % len(self.workers)]
        self.inferred[worker.number] = worker.done

    @rule(account=st.sampled_from(ACCOUNTS), number=NUMBERS, count=FEW)
    def traffic(self, account: AccountId, number: int, count: int) -> None:
        """The usual: pictures come in, and the partition's last worker has results for them."""
        for _ in range(count):
            self.brokers.upload(account, number)
        worker = [each for each in self.workers if each.number == number][-1]
        worker.read(10)
        for _ in range(count):
            worker.append()

    @rule(account=st.sampled_from(ACCOUNTS), number=NUMBERS)
    def kept_traffic(self, account: AccountId, number: int) -> None:
        """An owner opts in, and uploads when that surely counts."""
        self.brokers.decide(account, Decision.GRANTED, late_ms=0)
        self.brokers.now_ms += 4 * SKEW_MS + 1
        self.traffic(account, number, 2)

    # Routers

    @rule(name=st.sampled_from(NAMES), most=FEW)
    def router_works(self, name: str, most: int) -> None:
        """The usual: read, decide, commit."""
        self.current[name].read(most)
        self.current[name].handle()
        self.current[name].commit()

    @rule(which=WHICH, most=FEW)
    def router_reads(self, which: int, most: int) -> None:
        """Some records, and takes its mark."""
        self._router(which).read(most)

    @rule(which=WHICH)
    def router_decides(self, which: int) -> None:
        """What it has read."""
        self._router(which).handle()

    @rule(which=WHICH)
    def router_commits(self, which: int) -> None:
        """What it has decided; nothing if it was deposed."""
        self._router(which).commit()

    @rule(which=WHICH, share=st.integers(0, 3))
    def decisions_arrive(self, which: int, share: int) -> None:
        """At one router, as far as they do."""
        view = self._router(which).view
        reached = view.mark()
        view.arrived = {at: max(view.arrived[at], reached[at] * share // 3) for at in view.arrived}

    @rule(name=st.sampled_from(NAMES))
    def router_is_killed(self, name: str) -> None:
        """And started again; the killed one may only seem dead."""
        self.deposed = [*self.deposed[-2:], self.current[name]]
        self._start(name)

    @rule(owners=st.tuples(*[st.sampled_from(NAMES)] * len(PARTITIONS)), noticed=st.booleans())
    def partitions_move(self, owners: tuple[str, ...], noticed: bool) -> None:
        """Between members; one of them may be told late."""
        self.owners = dict(zip(PARTITIONS, owners, strict=True))
        self.brokers.generation += 1
        for name in NAMES if noticed else NAMES[:1]:
            self.current[name].assign(at for at in PARTITIONS if self.owners[at] == name)

    @rule(name=st.sampled_from(NAMES))
    def member_joins_again(self, name: str) -> None:
        """One that was told late learns of it; a member that is current starts over."""
        self.current[name].assign(at for at in PARTITIONS if self.owners[at] == name)

    # Deletion

    @rule()
    def purger_looks(self) -> None:
        """At what is committed; much may happen before it deletes."""
        found = purgeable_offsets(
            routed={
                at: Committed(start.offset, start.metadata)
                for at, start in self.brokers.commits.items()
            },
            stored={},
            topic_ids=self.brokers.topic_ids([f"uploads.{LANE}"]),
        )
        self.purgeable_offsets = sorted(found.items())

    @rule(count=FEW)
    def purger_deletes(self, count: int) -> None:
        """Some of what it found, and may be killed then: the next one looks anew."""
        done = self.brokers.purged | set(self.brokers.ephemeral)
        for (topic, number), offset in self.purgeable_offsets[:count]:
            is_uploads = topic.startswith("uploads")
            starts = self.brokers.uploads_start if is_uploads else self.brokers.cutouts_start
            for n in range(starts[number], offset) if is_uploads else ():
                place = Place(self.brokers.topic_id, number, n)
                assert place in done, "purged while it was needed"
            starts[number] = max(starts[number], offset)
        self.purgeable_offsets = self.purgeable_offsets[count:]

    @rule(number=NUMBERS, count=FEW)
    def uploads_outlive_their_time(self, number: int, count: int) -> None:
        """Some are deleted before anybody worked on them."""
        starts = self.brokers.uploads_start
        starts[number] = min(starts[number] + count, len(self.brokers.uploads[number]))
        self.has_lost_records = True

    @precondition(lambda self: self._waits_for_current_topic_only())
    @rule(number=NUMBERS, count=FEW)
    def cutouts_outlive_their_time(self, number: int, count: int) -> None:
        """Some are deleted before a router has read them: it was away for too long."""
        starts = self.brokers.cutouts_start
        starts[number] = min(starts[number] + count, len(self.brokers.cutouts[number]))
        self.has_lost_records = True

    @precondition(lambda self: not self.has_lost_records and self._waits_for_one_topic_only())
    @rule()
    def uploads_are_made_anew(self) -> None:
        """While inference and purger are stopped: results of the old ones may still wait."""
        self.purgeable_offsets = []
        self.brokers.incarnation += 1
        for number in range(len(PARTITIONS)):
            self.brokers.uploads[number] = []
            self.brokers.uploads_start[number] = 0
            self.inferred[number] = 0
        self.workers = [Worker(self.brokers, number, 0) for number in range(len(PARTITIONS))]

    def _waits_for_one_topic_only(self) -> bool:
        """Made anew twice while results wait, the router stops and says so: that is the rule."""
        marks = {
            at: ReplayMark.parse(start.metadata, where=str(at))
            for at, start in self.brokers.commits.items()
        }
        return all(
            result_in(record).position.topic_id == marks[at].topic_id
            for at, start in self.brokers.commits.items()
            for record in self.brokers.cutouts[at.number][start.offset :]
        )

    def _waits_for_current_topic_only(self) -> bool:
        """What waits of uploads that are not there any more can not be told from what is lost."""
        return all(
            result_in(record).position.topic_id == self.brokers.topic_id
            for at, start in self.brokers.commits.items()
            for record in self.brokers.cutouts[at.number][start.offset :]
        )

    # What holds

    @invariant()
    def nothing_comes_twice(self) -> None:
        """No result is delivered twice, no picture is kept twice."""
        assert len(set(self.brokers.ephemeral)) == len(self.brokers.ephemeral)
        assert set(self.brokers.retained.values()) <= {2}

    def teardown(self) -> None:
        """Everybody finishes: then every upload has its result, or is a finding."""
        for number, at in enumerate(PARTITIONS):
            self.brokers.upload(ACCOUNTS[0], number)  # what is missing before it shows
            worker = Worker(self.brokers, number, self.inferred[number])
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
        now = self.brokers.topic_id
        expected = {
            Place(now, number, offset)
            for number, log in enumerate(self.brokers.uploads)
            for offset in range(len(log))
        }
        for log in self.brokers.cutouts:
            positions = (result_in(record).position for record in log)
            expected |= {Place(p.topic_id, p.partition, p.offset) for p in positions}
        routed = set(self.brokers.ephemeral)
        assert not routed & self.brokers.purged, "delivered, and said to be purged"
        # A worker may come too late with what was purged meanwhile: that is a finding.
        assert routed | self.brokers.purged == expected
        for number in range(len(PARTITIONS)):
            of_partition = [p.offset for p in self.brokers.ephemeral if p[:2] == (now, number)]
            assert of_partition == sorted(of_partition)
