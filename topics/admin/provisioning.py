"""Provisioning: apply the plan that makes the cluster match the catalog.

A broker acknowledges a change of rights or quotas before it enforces it, so provisioning returns
only once the broker reports them as in effect.
"""

import time
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import assert_never

from erasestream.schemas.clocks import Deadline
from erasestream.schemas.codec.replay_mark import ReplayMark
from erasestream.schemas.errors import Unavailable
from erasestream.topics.admin.cluster_checks import SetBrokerConfig
from erasestream.topics.admin.installation_mark import MarkInstallation, write_mark
from erasestream.topics.admin.provisioning_plan import (
    AddPartitions,
    Change,
    CommitFirstMark,
    CreateTopic,
    Plan,
    SetConfig,
    plan,
)
from erasestream.topics.admin.quota_plan import SetQuota, plan_quotas, set_quotas
from erasestream.topics.admin.refused_settings import create_as_far_as_editable, set_if_editable
from erasestream.topics.admin.rights_plan import GrantRight, RevokeRight, plan_rights
from erasestream.topics.catalog.acl import Right
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.roles import ROUTER
from erasestream.topics.catalog.topic import Topic
from erasestream.topics.catalog.topic_names import cutouts_of, uploads_of
from erasestream.topics.kafka.acl_bindings import binding_of, exactly
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.backoff import retry
from erasestream.topics.kafka.broker_settings import set_broker_setting
from erasestream.topics.kafka.group_offsets import Committed, GroupOffsets
from erasestream.topics.kafka.offset_queries import OffsetQueries
from erasestream.topics.kafka.records import Partition
from erasestream.topics.kafka.topic_admin import (
    TopicDeclaration,
    create_topics,
    grow_topic,
)

MAX_PAUSE_S = 0.5
EFFECT_S = 15.0
"""Longest wait for acknowledged changes to take effect, before what is missing is applied again."""


def provision(
    admin: Admin, catalog: Catalog, *, show: Callable[[Plan], None], deadline_s: float = 180.0
) -> tuple[SetConfig, ...]:
    """Plan, show the plan, apply it and wait until rights and quotas are in effect.

    Returns the settings that the cluster does not let one edit, with the values that stay.
    Retries while the brokers are not ready: one that has just started loads its coordinators
    first.  Raises `Unavailable` after the deadline, and `PromiseExceeded` if a setting that stays
    would break the promise; rights are granted only after that is known.
    """

    def attempt() -> tuple[SetConfig, ...]:
        planned = plan(admin, catalog)
        show(planned)
        refused = apply(admin, catalog, planned.changes)
        effect = Deadline(deadline.slice_s(EFFECT_S), time.monotonic)
        retry(lambda: _check_effect(admin, catalog), deadline=effect, max_pause_s=MAX_PAUSE_S)
        return refused

    deadline = Deadline(deadline_s, time.monotonic)
    return retry(attempt, deadline=deadline, max_pause_s=MAX_PAUSE_S)


def _check_effect(admin: Admin, catalog: Catalog) -> None:
    """Raise `Unavailable` while rights or quotas differ from the catalog."""
    pending = (*plan_rights(admin, catalog).changes, *plan_quotas(admin, catalog).changes)
    if pending:
        raise Unavailable(f"{len(pending)} changes are not in effect yet, such as: {pending[0]}")


def apply(admin: Admin, catalog: Catalog, changes: Iterable[Change]) -> tuple[SetConfig, ...]:
    """Apply the changes in their order; consecutive ones of a kind in one request.

    Rights and quotas may take effect a moment later.  Returns the settings that are refused.
    """
    refused: list[SetConfig] = []
    for _, run in groupby(changes, key=type):
        same = tuple(run)
        if topics := [change.topic for change in same if isinstance(change, CreateTopic)]:
            refused += _create(admin, catalog, topics)
        elif granted := [change.right for change in same if isinstance(change, GrantRight)]:
            _grant(admin, granted)
        elif quotas := [change for change in same if isinstance(change, SetQuota)]:
            set_quotas(admin, quotas)
        elif marks := [change for change in same if isinstance(change, CommitFirstMark)]:
            _commit_first_marks(admin, marks)
        elif settings := [change for change in same if isinstance(change, SetConfig)]:
            tried = (set_if_editable(admin, catalog, each) for each in settings)
            refused += [each for each in tried if each]
        else:
            for change in same:
                _apply(admin, change)
    return tuple(refused)


def _apply(admin: Admin, change: Change) -> None:
    match change:
        case AddPartitions(topic):
            grow_topic(admin, topic.name, topic.partitions, context=str(change))
        case SetBrokerConfig(name, _, declared):
            set_broker_setting(admin, name, declared)
        case RevokeRight(binding):
            only = exactly(binding)
            with admin.use() as client:
                admin.ask(str(change), client.delete_acls([only])[only])
        case MarkInstallation(environment):
            write_mark(admin.connection, environment)
        case CreateTopic() | SetConfig() | GrantRight() | SetQuota() | CommitFirstMark():
            raise AssertionError("applied in batches")
        case _:
            assert_never(change)


def _create(admin: Admin, catalog: Catalog, topics: list[Topic]) -> list[SetConfig]:
    declared = [
        TopicDeclaration(
            topic.name, topic.partitions, catalog.durability.replication, catalog.config(topic)
        )
        for topic in topics
    ]
    return [
        setting
        for topic in create_topics(admin, declared)
        for setting in create_as_far_as_editable(admin, catalog, topic)
    ]


def _grant(admin: Admin, rights: list[Right]) -> None:
    bindings = [binding_of(right) for right in rights]
    with admin.use() as client:
        futures = client.create_acls(bindings)
        for right, binding in zip(rights, bindings, strict=True):
            admin.ask(str(GrantRight(right)), futures[binding])


def _commit_first_marks(admin: Admin, marks: list[CommitFirstMark]) -> None:
    topic_ids = OffsetQueries(admin).topic_ids({uploads_of(mark.lane) for mark in marks})
    first = {
        Partition(cutouts_of(mark.lane), mark.partition): Committed(
            0, str(ReplayMark(topic_id=topic_ids[uploads_of(mark.lane)], offset=-1))
        )
        for mark in marks
    }
    GroupOffsets(admin.connection, timeout_s=admin.timeout_s).commit_all(ROUTER, first)
