"""`provision` and `repair`: change the cluster, as its administrator."""

from contextlib import closing
from typing import Annotated

import typer

from erasestream.pipeline.cli.console import LaneOption, operator, print_line
from erasestream.pipeline.settings import load
from erasestream.schemas.ids import Lane
from erasestream.topics.admin import provisioning
from erasestream.topics.admin.provisioning_plan import Plan, plan
from erasestream.topics.admin.router_recovery import RouterRecovery
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection


def provision(
    *,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Print the plan and change nothing.")
    ] = False,
) -> None:
    """Apply the catalog to topics, their settings and rights; prints the plan first."""
    settings = load()
    catalog = settings.catalog()
    with Admin(Connection(cluster=settings.cluster, role=ADMIN)) as admin:
        if plan_only:
            _show(plan(admin, catalog))
        else:
            refused = provisioning.provision(admin, catalog, show=_show)
            for setting in refused:
                print_line(
                    f"  this cluster does not let one edit {setting.name}: that of {setting.topic} "
                    f"stays {setting.actual}, not {setting.declared}"
                )
            print_line(f"The cluster matches the catalog{', but for these' if refused else ''}.")


def repair(lane: LaneOption) -> None:
    """Repair partitions of a lane that the routers have quarantined; routers go on meanwhile."""
    settings = load()
    connection = Connection(cluster=settings.cluster, role=ADMIN)
    recovery = RouterRecovery(connection=connection, catalog=settings.catalog(), actor=operator())
    with closing(recovery):
        for line in recovery.recover(Lane(lane)):
            print_line(line)


def _show(planned: Plan) -> None:
    for change in planned.changes:
        print_line(f"  {change}")
    for name in planned.unknown_topics:
        print_line(f"  topic {name} is not in the catalog: left unchanged")
    for rule in planned.foreign_rules:
        print_line(f"  foreign rule, left unchanged: {rule}")
    for quota in planned.unset_quotas:
        print_line(f"  this cluster does not let us set a quota, see docs/brokers.md: {quota}")
    for line in planned.shortfalls:
        print_line(f"  the promise loses, see docs/managed-kafka.md: {line}")
    for line in planned.unseen:
        print_line(f"  not visible to any client, look it up: {line}")
    for at in planned.needs_repair:
        print_line(f"  the router cannot go on with {at}: run `erasestream repair` for its lane")
    print_line(f"{len(planned.changes)} changes")
