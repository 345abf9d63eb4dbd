"""The real fetcher on a network of a test: names and public addresses lead to servers on loopback.

`network.json` beside the certificate of the authority has, by name, the addresses of each further
resolution, and by address the port that it leads to.  The real rules refuse addresses; one
without a port cannot be reached.
"""

import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from erasestream.pipeline.gateway.egress.fetcher import Network, connect_to, main


def network_of(argument: str) -> Network:
    """Return the network beside the authority that this argument names."""
    authorities = Path(json.loads(argument)["authorities"])
    described = json.loads((authorities.parent / "network.json").read_text())
    names = {name: iter(each) for name, each in described["names"].items()}
    ports: dict[str, int] = described["ports"]

    def resolve(host: str) -> Sequence[str]:
        if host not in names:
            raise OSError("no such name")
        return list(next(names[host]))

    def connect(address: str) -> socket.socket:
        if address not in ports:
            raise OSError("unreachable")
        return connect_to("127.0.0.1", ports[address])

    return Network(resolve, connect, [*ports.values()])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], network_of(sys.argv[1])))
