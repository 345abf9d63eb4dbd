"""The assignor of the workers' group: the leader divides all partitions (`sticky_assignment.py`).

Faust's own assigns partition k of all topics of one size to one member, for its tables, of which
there are none here: with 50 lanes of 4 partitions all but four workers would be idle.

The messages and the protocol's name are those of Faust's assignor, so workers of this release and
of earlier ones, which assign as Faust does, are members of one group; its leader assigns for all.
A worker lists what it has in a field that the earlier ones do not read in a member's message.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.types import TP

from erasestream.pipeline.stages.inference.worker.sticky_assignment import assign


class StickyAssignor(PartitionAssignor):
    """Assigns partitions one by one, and lets members keep them."""

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Return the metadata with which a worker joins: its topics and its partitions."""
        has = ClientMetadata(
            assignment=ClientAssignment(actives={}, standbys={}),
            url=str(self._url),
            changelog_distribution={},
            external_topic_distribution={str(self._url): self._assignment.actives},
        )
        return ConsumerProtocolMemberMetadata(self.version, sorted(topics), has.dumps())

    def _perform_assignment(
        self, cluster: Any, member_metadata: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> Any:
        subscriptions = {name: each.subscription for name, each in member_metadata.items()}
        members = {name: self._get_client_metadata(each) for name, each in member_metadata.items()}
        shares = assign(
            (
                TP(topic, number)
                for topic in set().union(*subscriptions.values())
                for number in cluster.partitions_for_topic(topic) or ()
            ),
            subscriptions=subscriptions,
            previous={name: _partitions(each) for name, each in members.items()},
        )
        self._update_member_urls(members)
        return self._protocol_assignments(
            {
                name: ClientAssignment(actives=_by_topic(owned), standbys={})
                for name, owned in shares.items()
            },
            {},
            {},
            {},
        )


def _partitions(member: ClientMetadata) -> list[TP]:
    topics = member.external_topic_distribution.get(member.url, {})
    return [TP(topic, number) for topic, numbers in topics.items() for number in numbers]


def _by_topic(partitions: Iterable[TP]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for topic, number in sorted(partitions):
        numbers[topic].append(number)
    return dict(numbers)
