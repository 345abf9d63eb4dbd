"""Read the mark of the installation (`schemas/events/installation.py`).

The last record of the topic counts.  Without one, or if it is unreadable, the installation is in
production.  Read once, when a reader starts: restart the processes after the mark has changed.
"""

from erasestream.schemas.codec.cloudevents import from_wire
from erasestream.schemas.errors import InvalidEvent
from erasestream.schemas.events.installation import Environment, InstallationMarked
from erasestream.topics.catalog.topic_names import INSTALLATION
from erasestream.topics.kafka.records import Partition, Record

MARKS = Partition(INSTALLATION, 0)
LOAD_DEADLINE_S = 15.0


class InstallationMark:
    """The mark as of the records that were applied."""

    def __init__(self) -> None:
        self.environment: Environment = Environment.PRODUCTION

    def apply(self, record: Record) -> None:
        """Apply one record of the topic."""
        try:
            marked = from_wire(InstallationMarked, record.headers, record.value)
        except InvalidEvent:
            self.environment = Environment.PRODUCTION
        else:
            self.environment = marked.environment

    @property
    def has_operator_grants(self) -> bool:
        """Whether grants by operators count."""
        return self.environment is Environment.DEVELOPMENT
