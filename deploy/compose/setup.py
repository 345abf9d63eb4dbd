"""Create the stack's certificates, tokens and keys once, and hand each service its own.

    python setup.py --settings erasestream.toml --authority DIR --hand-out DIR

`--authority` is a volume that only this service mounts: the CA with its key, and everything
it issued.  `--hand-out` holds one folder per service, each a volume that only that service
mounts, as /stack.  Idempotent: a second run creates and replaces nothing.

No service gets a key that it does not need (`OF_SERVICE`).  The local bucket gets all tokens,
since it verifies them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

CA = "identities/ca.crt"


def pair(name: str) -> tuple[str, ...]:
    """Return certificate and key of a role or server, and the authority that it trusts."""
    return (CA, f"identities/{name}.crt", f"identities/{name}.key")


def roles(lane: str, *names: str) -> tuple[str, ...]:
    """Return the files of several roles of a lane."""
    return tuple(dict.fromkeys(file for name in names for file in pair(f"{lane}.{name}")))


def receipts(*names: str) -> tuple[str, ...]:
    """Return files of the transparency log."""
    return tuple(f"receipts/{name}" for name in names)


OF_SERVICE: dict[str, tuple[str, ...]] = {
    "kafka": (CA, "identities/broker.pem"),
    "bucket": (*pair("bucket"), "tokens"),
    "provision": pair("admin"),
    "infer": pair("inference"),
    "route": pair("router"),
    "sink": (*pair("sink"), "tokens/sink.token", "name.key"),
    "purge": pair("purger"),
    "erase": (*pair("eraser"), "tokens/eraser.token", "name.key"),
    "rotate": (*pair("rotator"), "tokens/rotator.token"),
    "attest": (*pair("eraser"), "tokens/eraser.token", *receipts("log.pub", "log.key", "secret")),
    "keys-1": (*pair("keys"), "tokens/keys.token"),
    "keys-2": (*pair("keys"), "tokens/keys.token"),
    "consent": pair("operator"),
    "log": (CA, "tokens/auditor.token", *receipts("log.pub", "auditor.pub", "auditor.key")),
    "receipt": (
        *pair("operator"),
        "tokens/auditor.token",
        *receipts("log.pub", "auditor.pub", "secret"),
    ),
    "retained": (CA, "tokens/reader.token"),
}
"""Files of each service, as paths below the folder that `erasestream dev files` writes."""

KEYRING = "keyring"
"""The grants' master keys, which `sink`, `retained` and `rotate` share.  They are moved there, so
that no copy is left of one that `rotate` destroys."""

OF_LANE: dict[str, str] = {"upload": "producer", "results": "consumer"}
"""Per lane: service `<lane>-<key>` gets the certificate of `<lane>.<value>`."""

GATEWAY_ADDRESSES = ("gateway:8443", "127.0.0.4:8443")
"""Under which other services and this machine reach the gateway."""


def files_of(settings: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the files of every service.  The gateway is the client of its lane."""
    web = settings["gateway"]["lane"]
    clients = {
        f"{lane}-{service}": pair(f"{lane}.{role}")
        for lane in settings["lanes"]
        if lane != web
        for service, role in OF_LANE.items()
    }
    gateway = (*pair("gateway"), *roles(web, "producer", "consumer", "account"), "session.key")
    return OF_SERVICE | clients | {"gateway": gateway, "key": pair(f"{web}.account")}


def create_files(settings: dict[str, Any], authority: Path) -> Path:
    """Create all files, unless they exist.  An interrupted creation starts from scratch."""
    issued, draft = authority / "made", authority / "draft"
    if issued.exists():
        return issued
    shutil.rmtree(draft, ignore_errors=True)
    command = [sys.executable, "-m", "erasestream.pipeline.cli.main", "dev", "files"]
    command += ["--directory", str(draft)]
    command += ["--bootstrap", settings["kafka"]["bootstrap_servers"][0]]
    command += ["--bucket", settings["storage"]["endpoint"].removeprefix("https://")]
    for endpoint in settings["keys"]["endpoints"]:
        command += ["--keys", endpoint.removeprefix("https://")]
    command += ["--models", settings["inference"]["models"]]
    for lane in settings["lanes"]:
        command += ["--lane", lane]
    command += ["--gateway-lane", settings["gateway"]["lane"]]
    for address in GATEWAY_ADDRESSES:
        command += ["--gateway", address]
    subprocess.run(command, check=True)
    draft.rename(issued)
    return issued


def hand_out(issued: Path, target: Path, names: tuple[str, ...]) -> None:
    """Copy the files that a service does not have yet, with their modes."""
    for name in names:
        source = issued / name
        for path in sorted(source.iterdir()) if source.is_dir() else [source]:
            copy = target / path.relative_to(issued)
            copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not copy.exists():
                draft = copy.with_name(f".{copy.name}")
                shutil.copy(path, draft)
                draft.rename(copy)


def move_keyring(issued: Path, target: Path) -> None:
    """Move the master keys to the volume that services share, unless that was done before."""
    for source in sorted((issued / KEYRING).glob("*.key")):
        if not (target / source.name).exists():
            draft = target / f".{source.name}"
            shutil.copy(source, draft)
            draft.rename(target / source.name)
        source.unlink()


def main() -> None:
    """Create the files, and hand them out."""
    parser = argparse.ArgumentParser(prog="setup", description=__doc__.partition("\n")[0])
    for name in ("--settings", "--authority", "--hand-out"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    os.umask(0o077)
    settings = tomllib.loads(arguments.settings.read_text())
    issued = create_files(settings, arguments.authority)
    for service, names in files_of(settings).items():
        hand_out(issued, arguments.hand_out / service, names)
    keyring = arguments.hand_out / KEYRING
    keyring.mkdir(mode=0o700, exist_ok=True)
    move_keyring(issued, keyring)


if __name__ == "__main__":
    main()
