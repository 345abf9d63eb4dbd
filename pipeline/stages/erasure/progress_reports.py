"""Report how far erasures are, to `erasures.L`: for owners, and for nothing else.

Each grant once its keys are deleted, then every `REPORT_S` while objects are being deleted, and
once none is left.
"""

import os
import time
from collections.abc import Mapping
from typing import NamedTuple

from erasestream.pipeline.stages.erasure.ended_grants import EndedGrant
from erasestream.pipeline.stages.erasure.grant_entries import GrantEntries
from erasestream.schemas.clocks import Clock, Deadline, WallClock, utc_now
from erasestream.schemas.codec.cloudevents import Wire, to_wire
from erasestream.schemas.events.ledger import ErasureProgress
from erasestream.schemas.ids import new_event_id
from erasestream.topics.catalog.topic_names import erasures_of
from erasestream.topics.kafka.records import Partition

REPORT_S = 5.0
"""The topic is kept without limit: a grant with a million objects has some hundred reports."""


class Progress(NamedTuple):
    """Numbers of objects of a grant whose keys are deleted."""

    deleted: int
    left: int


class _Report(NamedTuple):
    progress: Progress
    wire: Wire


class ProgressReports:
    """Writes reports; `entries` are for nothing else."""

    def __init__(
        self, *, entries: GrantEntries, clock: Clock = time.monotonic, now: WallClock = utc_now
    ) -> None:
        self._entries = entries
        self._clock = clock
        self._now = now
        self._reported: dict[EndedGrant, Progress] = {}
        self._due: dict[EndedGrant, Deadline] = {}
        self._unwritten: dict[EndedGrant, _Report] = {}

    def write(self, progress: Mapping[EndedGrant, Progress], shown: set[Partition]) -> None:
        """Write what is new and due; `progress` has all unfinished erasures.

        `shown` are the partitions whose leaders answer.
        """
        for each in self._reported.keys() - progress.keys():
            del self._reported[each]
            del self._due[each]
        for each, new in progress.items():
            if each not in self._unwritten and self._is_due(each, new):
                self._unwritten[each] = _Report(new, self._wire(each, new))
        wires = {each: report.wire for each, report in self._unwritten.items()}
        for each in self._entries.write(erasures_of, wires, shown):
            self._reported[each] = self._unwritten.pop(each).progress
            self._due[each] = Deadline(REPORT_S, self._clock)

    def _is_due(self, ended: EndedGrant, new: Progress) -> bool:
        if ended not in self._reported:
            return True
        return self._reported[ended] != new and (new.left == 0 or self._due[ended].has_passed)

    def _wire(self, ended: EndedGrant, progress: Progress) -> Wire:
        now = self._now()
        entry = ErasureProgress(
            id=new_event_id(now, os.urandom(10)),
            time=now,
            lane=ended.lane,
            account=ended.account,
            grant=ended.grant,
            deleted=progress.deleted,
            left=progress.left,
        )
        return to_wire(entry, source="/eraser")
