"""Probe whether the brokers deny what no rule names; they do not show the setting that decides.

A role asks about a topic that is in no rule, and does not exist.  Brokers that deny by
default answer that it may not; others, that there is no such topic.
"""

from collections.abc import Iterable

from erasestream.schemas.errors import ErasestreamError, MissingTopic, NotAuthorized, Refused
from erasestream.topics.catalog.roles import ADMIN, Role
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Cluster, Connection

UNNAMED_TOPIC = "erasestream-default-deny-probe"
PROBE_S = 5.0
"""Longest wait for the answer: a role's user may not exist yet."""


def is_denied_by_default(cluster: Cluster, roles: Iterable[Role]) -> bool | None:
    """Return the answer for the first of these roles whose identity is at hand.

    None without one, or without an answer.  The administrator is not asked: it may do everything.
    """
    connection = _first_identity(cluster, roles)
    if connection is None:
        return None
    with Admin(connection, timeout_s=PROBE_S) as admin:
        try:
            admin.check_rights({UNNAMED_TOPIC: ()})
        except NotAuthorized:
            return True
        except MissingTopic:
            return False
        except ErasestreamError:
            return None
    return False  # there is one, and the role may see it


def _first_identity(cluster: Cluster, roles: Iterable[Role]) -> Connection | None:
    for role in roles:
        if role != ADMIN:
            try:
                return Connection(cluster=cluster, role=role)
            except Refused:  # the administrator's machine need not have it
                continue
    return None
