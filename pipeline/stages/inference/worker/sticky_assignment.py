"""Divide partitions among the members of a group: evenly, and with few moves.

Each partition counts by itself, whatever its topic: members have equally many, give or take one,
as far as their subscriptions allow.  Rules, in this order:

1. A member keeps what it had.
2. Partitions that no member had go to the members with the fewest.
3. Partitions move from members with more to members with fewer, until no move evens the numbers
   out further; if no partition can move directly, along the shortest chain of members.

Where members are equal, the one with the fewest partitions of the topic gets one, and of the topic
of which a member has the most it gives one: a lane is worked on by many workers.

If all members subscribe to the same topics, no other even assignment moves fewer partitions.

Pure.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from faust.types import TP


def assign(
    partitions: Iterable[TP],
    *,
    subscriptions: Mapping[str, Iterable[str]],
    previous: Mapping[str, Iterable[TP]],
) -> dict[str, set[TP]]:
    """Return the partitions of each member.

    `subscriptions`: the topics of each member.  `previous`: what members had; anything may be
    claimed.  A partition to whose topic no member subscribes is not assigned.
    """
    shares = _Shares(subscriptions)
    unassigned = set(partitions)
    for member, owned in shares.owned.items():
        for at in unassigned.intersection(previous.get(member, ())):
            if member in shares.subscribers(at):
                shares.give(at, member)
        unassigned -= owned
    for at in sorted(unassigned, key=lambda at: (len(shares.subscribers(at)), at)):
        if subscribers := shares.subscribers(at):
            shares.give(at, min(subscribers, key=lambda member: shares.load(member, at.topic)))
    while shares.even_out():
        pass
    return shares.owned


class _Shares:
    """The partitions of each member, so far."""

    def __init__(self, subscriptions: Mapping[str, Iterable[str]]) -> None:
        self.owned: dict[str, set[TP]] = {member: set() for member in sorted(subscriptions)}
        self._of_topic: dict[str, Counter[str]] = {member: Counter() for member in self.owned}
        subscribers: dict[str, list[str]] = {}
        for member in self.owned:
            for topic in set(subscriptions[member]):
                subscribers.setdefault(topic, []).append(member)
        self._subscribers = {topic: tuple(members) for topic, members in subscribers.items()}

    def subscribers(self, at: TP) -> tuple[str, ...]:
        return self._subscribers.get(at.topic, ())

    def load(self, member: str, topic: str = "") -> tuple[int, int]:
        """Return how many partitions a member has, and how many of the topic."""
        return len(self.owned[member]), self._of_topic[member][topic]

    def give(self, at: TP, member: str) -> None:
        self.owned[member].add(at)
        self._of_topic[member][at.topic] += 1

    def even_out(self) -> bool:
        """Move one partition, or one along each link of a chain; False if none has to move."""
        fewest = min(map(self.load, self.owned), default=(0, 0))[0]
        for member in sorted(self.owned, key=self.load, reverse=True):
            if len(self.owned[member]) < fewest + 2:
                return False
            if chain := self._chain(member):
                for at, giver, taker in chain:
                    self._move(at, giver, taker)
                return True
        return False

    def _move(self, at: TP, giver: str, taker: str) -> None:
        self.owned[giver].remove(at)
        self._of_topic[giver][at.topic] -= 1
        self.give(at, taker)

    def _chain(self, first: str) -> list[tuple[TP, str, str]]:
        """Return the moves by which this member gives one to a member with two fewer, or more."""
        limit = len(self.owned[first]) - 2
        moves: dict[str, tuple[TP, str, str]] = {}
        givers = [first]
        while givers:
            takers = []
            for giver in givers:
                for at, taker in self._possible(giver):
                    if taker != first and taker not in moves:
                        moves[taker] = (at, giver, taker)
                        takers.append(taker)
            last = min(
                takers, key=lambda taker: self.load(taker, moves[taker][0].topic), default=""
            )
            if last and len(self.owned[last]) <= limit:
                return self._back(moves, last)
            givers = takers
        return []

    @staticmethod
    def _back(moves: Mapping[str, tuple[TP, str, str]], last: str) -> list[tuple[TP, str, str]]:
        chain = []
        while last in moves:
            chain.append(moves[last])
            last = moves[last][1]
        return chain

    def _possible(self, giver: str) -> Iterator[tuple[TP, str]]:
        """Yield each member to which this one can give a partition, with the one to give."""
        counts = self._of_topic[giver]
        given: dict[tuple[str, ...], TP] = {}
        for at in sorted(self.owned[giver], key=lambda at: (-counts[at.topic], at)):
            given.setdefault(self.subscribers(at), at)
        for subscribers, at in given.items():
            for taker in subscribers:
                yield at, taker
