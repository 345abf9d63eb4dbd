"""Open the purger: the early purge as a process."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Event

from erasestream.pipeline.runtime.quarantine import QuarantineRegistry
from erasestream.pipeline.settings import Settings
from erasestream.pipeline.stages.purge.stage import PurgerStage
from erasestream.topics.admin.record_purge import RecordPurger
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.roles import PURGER
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection


@contextmanager
def purger_stage(settings: Settings, stopping: Event) -> Iterator[PurgerStage]:
    """Open the purger."""
    catalog = settings.catalog()
    connection = Connection(cluster=settings.cluster, role=PURGER)
    purged = [topic.name for topic in catalog.topics if topic.purgers]
    with Admin(connection) as admin:
        admin.check_rights(dict.fromkeys(purged, (Operation.DELETE,)))
    with ExitStack() as opened:
        quarantine = QuarantineRegistry()
        purger = RecordPurger(connection=connection, catalog=catalog, listener=quarantine)
        opened.enter_context(closing(purger))
        stage = PurgerStage(
            purger=purger,
            quarantine=quarantine,
            stopping=stopping,
            interval_s=settings.stage.purge_interval.total_seconds(),
        )
        yield opened.enter_context(closing(stage))
