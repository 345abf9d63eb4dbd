"""Largest image that the brokers accept, as they are set up."""

from erasestream.schemas.errors import NotAuthorized
from erasestream.schemas.events.images import MAX_UPLOAD_BYTES
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.topic_names import RECORD_OVERHEAD_BYTES
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.topic_admin import topic_settings


def largest_writable(connection: Connection, topic: str, *, timeout_s: float) -> int:
    """Return the largest image, in bytes, that the role may write to this topic.

    That of the events, if the role may not ask: a cluster that was provisioned by an earlier
    release, or a service that shows no settings.

    Raises `Refused` if it may not write, `Unavailable` after the timeout.
    """
    with Admin(connection, timeout_s=timeout_s) as admin:
        admin.check_rights({topic: [Operation.WRITE]})
        try:
            (settings,) = topic_settings(admin, [topic])
        except NotAuthorized:
            return MAX_UPLOAD_BYTES
    largest = settings.get("max.message.bytes")
    if largest is None or largest.value is None:
        return MAX_UPLOAD_BYTES
    return max(0, int(largest.value) - RECORD_OVERHEAD_BYTES)
