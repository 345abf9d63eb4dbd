"""`topics`, `schemas` and `codes`: print what the code declares."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from erasestream.pipeline.cli.console import console, print_line
from erasestream.pipeline.cli.tables import print_rows
from erasestream.pipeline.settings import load
from erasestream.topics.catalog.catalog import Catalog
from erasestream.topics.catalog.epochs import EpochTimes
from erasestream.topics.catalog.lane_spec import Sealing
from erasestream.topics.catalog.quotas import CONSUME, PRODUCE, REQUESTS
from erasestream.topics.catalog.retention_budget import Lifetime, SupersededLifetime
from erasestream.topics.catalog.topic import Topic


def topics() -> None:
    """Show each topic, when its bytes go, when they become worthless, and the lanes' quotas."""
    settings = load()
    catalog, times = settings.catalog(), settings.epochs() if settings.keys else None
    rows = []
    for topic in catalog.topics:
        rows.append(
            (
                topic.name,
                ", ".join(topic.writers),
                ", ".join(topic.readers),
                str(topic.partitions),
                f"{topic.max_record_bytes / 1e6:.1f} MB",
                _lifetime(topic),
            )
        )
        if topic.sealing:
            rows.append(("", "", "", "", "", _worthless(topic.sealing, times)))
    print_rows(
        ("topic", "writers", "readers", "partitions", "largest", "lifetime"),
        rows,
        narrow=(("topic", "partitions", "largest", "lifetime"), ("topic", "writers", "readers")),
    )
    print_line(f"\n{_legend(catalog)}\n{_sealing(catalog, times)}\n")
    print_rows(
        ("quota on each broker", "sends, MB/s", "takes, MB/s", "threads, %"),
        [
            (
                role,
                f"{limits[PRODUCE] / 1e6:g}",
                f"{limits[CONSUME] / 1e6:g}",
                f"{limits[REQUESTS]:g}",
            )
            for role, limits in catalog.quotas.items()
        ],
    )


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d}"


def _lifetime(topic: Topic) -> str:
    if topic.lifetime:
        return _until_deleted(topic.lifetime)
    if topic.metadata_lifetime:
        return f"{_until_deleted(topic.metadata_lifetime)}; holds no image"
    if topic.superseded:
        return _until_superseded(topic.superseded)
    return "kept; holds no image"


def _until_superseded(lifetime: SupersededLifetime) -> str:
    parts = (lifetime.segment_s, lifetime.heartbeat_s, lifetime.cleaner_s, lifetime.delete_delay_s)
    return f"superseded: {' + '.join(map(_hours, parts))} = {_hours(lifetime.worst_age_s)} h"


def _until_deleted(lifetime: Lifetime) -> str:
    parts = (
        lifetime.age_when_appended_s,
        lifetime.retention_s,
        lifetime.segment_s,
        lifetime.check_interval_s + lifetime.delete_delay_s,
    )
    return f"{' + '.join(map(_hours, parts))} = {_hours(lifetime.worst_age_s)} h"


def _worthless(sealing: Sealing, times: EpochTimes | None) -> str:
    if times is None:
        return "not sealed: the settings have no keys"
    worst = _hours(times.worst_age_s)
    if sealing is Sealing.ACCEPTED:
        return f"worthless: {worst} h, unless unsealed"
    parts = (times.life_s, times.clock_error_s, times.destruction_s)
    return f"worthless: {' + '.join(map(_hours, parts))} = {worst} h"


def _sealing(catalog: Catalog, times: EpochTimes | None) -> str:
    if times is None:
        return "Nothing is sealed: the settings have no section keys."
    lines = [
        "Worthless: life of a record's key, from its publication, + clock error + destruction.",
        f"Any upload can be opened for at least {_hours(times.window_s)} h.",
    ]
    unsealed = [lane.name for lane in catalog.lanes if lane.sealing is Sealing.ACCEPTED]
    if unsealed:
        lines.append(f"Lanes that accept unsealed uploads: {', '.join(unsealed)}.")
    return "\n".join(lines)


def _legend(catalog: Catalog) -> str:
    policy = catalog.policy
    worst = max(topic.lifetime.worst_age_s for topic in catalog.topics if topic.lifetime)
    return (
        "Lifetime: age when appended + retention + segment + check and deletion = worst age.\n"
        f"Worst of all {_hours(worst)} h; promised {_hours(policy.promise_s)} h from the upload, "
        f"of which {_hours(policy.reserve_s)} h are kept in reserve.\n"
        "The last decision of an account is kept; a superseded one is removed from disk after "
        "segment + heartbeat + cleaner + deletion.\n"
        "Routed records are deleted earlier under traffic; on an idle partition their bytes stay, "
        "hidden, until the lifetime ends."
    )


def schemas(
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder to write to, one file per event.")
    ] = None,
) -> None:
    """Print or write the JSON Schemas of all events."""
    from erasestream.schemas.codec.json_schema import json_schemas

    documents = json_schemas()
    if output is None:
        console.print_json(json.dumps(documents))
        return
    output.mkdir(parents=True, exist_ok=True)
    for name, schema in documents.items():
        (output / f"{name}.json").write_text(json.dumps(schema, indent=2) + "\n")
    print_line(f"{len(documents)} schemas in {output}")


def codes() -> None:
    """Print each error code with its sentence, as Markdown."""
    from erasestream.schemas.error_reference import document

    sys.stdout.write(document())
