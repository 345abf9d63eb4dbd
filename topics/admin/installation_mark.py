"""Mark the installation as development or production, as its administrator."""

import os
from contextlib import closing
from dataclasses import dataclass

from erasestream.schemas.clocks import utc_now
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.events.installation import Environment, InstallationMarked
from erasestream.schemas.ids import new_event_id
from erasestream.topics.catalog.topic_names import INSTALLATION
from erasestream.topics.consent.installation import LOAD_DEADLINE_S, MARKS, InstallationMark
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.consumer.partition_reader import PartitionReader
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter

WRITE_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class MarkInstallation:
    """A mark that differs from the declared one; without any, an installation is in production."""

    declared: Environment

    def __str__(self) -> str:
        return f"mark the installation as {self.declared}"


def marked_environment(connection: Connection) -> Environment:
    """Return how the installation is marked."""
    mark = InstallationMark()
    with closing(PartitionReader(connection)) as reader:
        reader.read(MARKS, mark.apply, deadline_s=LOAD_DEADLINE_S)
    return mark.environment


def write_mark(connection: Connection, environment: Environment) -> None:
    """Write a mark, and wait until it is acknowledged."""
    now = utc_now()
    event = InstallationMarked(
        id=new_event_id(now, os.urandom(10)),
        time=now,
        environment=environment,
    )
    writer = AcknowledgedWriter(connection=connection, timeout_s=WRITE_TIMEOUT_S)
    with closing(writer):
        writer.write(MARKS, INSTALLATION.encode(), to_wire(event, source="/provision"))
