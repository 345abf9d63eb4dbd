"""A fetcher that a server has taken over: it tries what it must not be able to do.

It is confined as the real one is; its image is JSON with the outcome of each attempt, before and
after it has connected: the name of the error, or `succeeded`.
"""

import errno
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from erasestream.pipeline.gateway.egress import confinement
from erasestream.pipeline.gateway.egress.fetcher import connect_to
from erasestream.pipeline.gateway.egress.protocol import Answer, Kind, encode_answer
from erasestream.pipeline.runtime.sandbox.restrictions import end_with


def _connected(family: int, kind: int, address: object) -> Callable[[], object]:
    def attempt() -> None:
        with socket.socket(family, kind) as each:
            each.connect(address)

    return attempt


def _read(path: str) -> Callable[[], object]:
    return lambda: Path(path).read_bytes()


def attempts(port: int, parent: int, authorities: str) -> dict[str, Callable[[], object]]:
    """Return the attempts by name."""
    tcp = _connected(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port))
    return {
        "read a key": _read(authorities),
        "read the gateway's memory": _read(f"/proc/{parent}/mem"),
        "read the gateway's settings": _read(f"/proc/{parent}/environ"),
        "read its own environment": _read("/proc/self/environ"),
        "list a folder": lambda: [*Path("/etc").iterdir()],
        "write a file": lambda: Path("/tmp/fetched").write_bytes(b""),  # noqa: S108
        "read the resolver's file": _read("/etc/resolv.conf"),
        "start a program": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
        "fork": os.fork,
        "signal the gateway": lambda: os.kill(parent, 0),
        "a local socket": lambda: socket.socket(socket.AF_UNIX),
        "a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "listen": lambda: socket.create_server(("127.0.0.1", 0)),
        "connect to the allowed port": tcp,
        "connect to another port": _connected(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 9)),
        "send a datagram": _connected(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 53)),
    }


def outcome(attempt: Callable[[], object]) -> str:
    """Return the name of the error, or `succeeded`."""
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "OSError")
    return "succeeded"


def main(argument: str) -> None:
    config = json.loads(argument)
    end_with(config["parent"])
    channel = socket.socket(fileno=config["socket"])
    while channel.recv(4096):
        pass
    authorities = Path(config["authorities"])
    described = json.loads((authorities.parent / "network.json").read_text())
    port = next(iter(described["ports"].values()))
    tried = attempts(port, config["parent"], str(authorities))
    found: dict[str, object] = {
        "environment": sorted(os.environ),
        "descriptors": len([*Path("/proc/self/fd").iterdir()]),
        "arguments": sys.argv[1:],
    }
    confinement.confine([port])
    found["before"] = {name: outcome(each) for name, each in tried.items()}
    with connect_to("127.0.0.1", port):
        confinement.confine_to_connection()
        found["after"] = {name: outcome(each) for name, each in tried.items()}
        channel.sendall(encode_answer(Answer(Kind.IMAGE, json.dumps(found).encode())))


if __name__ == "__main__":
    main(sys.argv[1])
