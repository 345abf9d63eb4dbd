"""`dev`: the embedded development stack (extra dev)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from erasestream.pipeline.cli.console import (
    CACHE,
    CacheOption,
    host_and_port,
    lane_name,
    print_line,
)
from erasestream.pipeline.settings import (
    SETTINGS_VARIABLE,
    KeySettings,
    LaneSettings,
    LifetimeSettings,
)
from erasestream.schemas.ids import Lane
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.catalog.roles import KEYS
from erasestream.topics.kafka.admin import Admin

if TYPE_CHECKING:
    from erasestream.pipeline.devstack.stack import Stack

dev = typer.Typer(no_args_is_help=True, help="Run a whole stack on this machine (extra dev).")

DirectoryOption = Annotated[Path, typer.Option(help="Folder of the stack.")]
DIRECTORY = Path(".cache/stack")
STAGES = ("infer", "route", "sink", "purge", "erase", "attest", "rotate", "gateway")


def _stack(directory: Path, cache: Path) -> "Stack":
    from erasestream.pipeline.devstack.child_process import Attachment
    from erasestream.pipeline.devstack.stack import Stack

    return Stack(directory, cache=cache, attachment=Attachment.DETACHED, progress=print_line)


@dev.command()
def up(
    *,
    directory: DirectoryOption = DIRECTORY,
    cache: CacheOption = CACHE,
    model: Annotated[str, typer.Option(help="An installed model.")] = "isnet",
) -> None:
    """Start broker, bucket and all stages; they run until `dev down`."""
    from erasestream.pipeline.devstack.stack import AUDIT

    stack = _stack(directory, cache)
    if not stack.exists:
        stack.create(model=model)
    running = stack.running()
    if "broker" not in running:
        stack.start_servers()
    elif KEYS not in running:
        stack.start_keys()
    with Admin(stack.admin()) as admin:
        provision(
            admin,
            stack.catalog(),
            show=lambda plan: print_line(f"provisioning: {len(plan.changes)} changes"),
        )
    for stage in STAGES:
        if stage not in running:
            stack.start_stage(stage)
    if AUDIT not in running:
        stack.start_audit()
    stack.wait_for_gateway()
    authority = stack.files.identities / "ca.crt"
    print_line(f"Gateway: {stack.gateway_url}, for curl with --cacert {authority}")
    print_line(f"Account page: {stack.gateway_url}/account, for a key with --kind owner")
    print_line(f"Running. Now: export {SETTINGS_VARIABLE}={stack.files.settings}")


@dev.command()
def down(
    *,
    directory: DirectoryOption = DIRECTORY,
    cache: CacheOption = CACHE,
    wipe: Annotated[
        bool, typer.Option("--wipe", help="Delete the folder, images and keys included.")
    ] = False,
) -> None:
    """Stop everything that `dev up` started; images remain on disk without `--wipe`."""
    stack = _stack(directory, cache)
    if wipe:
        stack.wipe()
        print_line(f"Stopped, and {directory} is deleted.")
        return
    stack.stop()
    if stack.exists:
        print_line(
            f"Stopped. Images remain in {directory}, and a broker that is stopped deletes none:"
            " `erasestream dev down --wipe` removes them."
        )


@dev.command()
def status(*, directory: DirectoryOption = DIRECTORY, cache: CacheOption = CACHE) -> None:
    """Show the running processes, with process ids and logs."""
    stack = _stack(directory, cache)
    running = stack.running()
    for name, pid in running.items():
        print_line(f"{name:<8} {pid:>8}  {stack.log_of(name)}")
    if not running:
        print_line("nothing runs")


@dev.command()
def gateway(*, directory: DirectoryOption = DIRECTORY, cache: CacheOption = CACHE) -> None:
    """Print the gateway's address."""
    print_line(_stack(directory, cache).gateway_url)


@dev.command()
def install(*, cache: CacheOption = CACHE) -> None:
    """Fetch the embedded broker's files; prints their size first, and skips those in place."""
    from erasestream.pipeline.devstack.kafka.cds_archive import make_class_archive
    from erasestream.pipeline.devstack.kafka.distribution import install_kafka

    make_class_archive(install_kafka(cache, print_line), print_line)


@dev.command()
def files(
    directory: Annotated[Path, typer.Option(help="A new folder.")],
    *,
    lane: Annotated[list[str], typer.Option(help="Lane; may be repeated.")],
    bootstrap: Annotated[str, typer.Option(help="The broker's address, as clients see it.")],
    bucket: Annotated[str, typer.Option(help="The bucket's host and port, as clients see it.")],
    keys: Annotated[
        list[str], typer.Option(help="A replica of the key service, host and port; repeated.")
    ],
    gateway: Annotated[
        list[str], typer.Option(help="The gateway, host and port, as clients see it; repeated.")
    ],
    gateway_lane: Annotated[str, typer.Option(help="The lane that the gateway serves.")],
    models: Annotated[Path, typer.Option(help="The folder of models, as stages see it.")],
) -> None:
    """Write certificates, tokens, keys and settings for servers that run elsewhere."""
    from erasestream.pipeline.devstack.certificate_authority import LOCAL_HOSTS
    from erasestream.pipeline.devstack.stack_files import StackFiles

    names = [Lane(lane_name(name)) for name in lane]
    if gateway_lane not in names:
        raise typer.BadParameter("--gateway-lane: none of the lanes")
    broker_host, _ = host_and_port(bootstrap)
    host, port = host_and_port(bucket)
    key_servers = [host_and_port(address) for address in keys]
    gateways = [host_and_port(address) for address in gateway]
    stack_files = StackFiles(directory)
    stack_files.create_identities(
        names,
        broker_hosts=tuple(dict.fromkeys((*LOCAL_HOSTS, broker_host))),
        bucket_hosts=(host,),
        key_hosts=tuple(host for host, _ in key_servers),
        gateway_hosts=tuple(host for host, _ in gateways),
    )
    stack_files.create_secrets()
    stack_files.write_bucket_settings(host="0.0.0.0", port=port)  # noqa: S104 (TLS and tokens guard it)
    stack_files.write_settings(
        bootstrap=(bootstrap,),
        endpoint=f"https://{bucket}",
        keys=KeySettings(
            endpoints=tuple(f"https://{address}" for address in keys),
            listen_host="0.0.0.0",  # noqa: S104 (mutual TLS guards it)
            listen_port=key_servers[0][1],
        ),
        gateway=("0.0.0.0", gateways[0][1]),  # noqa: S104 (TLS and API keys guard it)
        lanes={name: LaneSettings(gateway=name == gateway_lane) for name in names},
        lifetimes=LifetimeSettings(),
        models=models,
        model="isnet",
    )
