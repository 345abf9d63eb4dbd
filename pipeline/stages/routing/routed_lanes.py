"""Lanes as the router needs them, derived from the catalog.  Pure."""

from datetime import timedelta

from erasestream.schemas.ids import AccountId, Lane
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.topic_names import held_of
from erasestream.topics.consent.ledger_place import Place
from erasestream.topics.consent.ledger_place import place as place_of


class RoutedLanes:
    """Limits and extra topics of each lane."""

    def __init__(self, catalog: Catalog) -> None:
        self.backlog_limits = {
            spec.name: timedelta(seconds=spec.times.backlog_limit_s) for spec in catalog.lanes
        }
        self.indexed = {spec.name for spec in catalog.lanes if spec.gateway}
        """Lanes whose results get entries in an index."""
        self._held_partitions = {
            held_of(lane): catalog[held_of(lane)].partitions for lane in self.indexed
        }

    def held_place(self, lane: Lane, account: AccountId) -> Place | None:
        """Return the place of records that count an account's uploads, if it has a page."""
        topic = held_of(lane)
        if topic not in self._held_partitions:
            return None
        return place_of(topic, account, self._held_partitions)
