"""Run a program for which a host name leads to a server of a test: `run_for_host`.

Clients whose address is fixed run unchanged: in a network namespace of their own with an
`/etc/hosts` of their own, where the name is 127.0.0.1.  This module also is the program that runs
inside it, passes connections on through sockets from outside, and starts the client.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

CONNECTIONS = 8
"""Each needs a socket from outside: one belongs to the namespace in which it was made."""
HTTPS = 443
NAMESPACES = ["unshare", "--map-root-user", "--net", "--mount"]


def run_for_host(
    name: str,
    server: tuple[str, int],
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    timeout_s: float,
) -> subprocess.CompletedProcess[str]:
    """Run a command for which `https://name` is this server."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(CONNECTIONS)]
        numbers = [each.fileno() for each in sockets]
        host, port = server
        inside = [sys.executable, __file__, name, host, str(port), ",".join(map(str, numbers))]
        return subprocess.run(
            [*NAMESPACES, *inside, *command],
            cwd=folder,
            env={**os.environ, **environment},
            pass_fds=numbers,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )


def main(name: str, host: str, port: str, numbers: str, *command: str) -> int:
    """Run a command inside, and return its exit status."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        hosts = Path(folder) / "hosts"
        shutil.copy("/etc/hosts", hosts)
        with hosts.open("a") as file:
            file.write(f"\n127.0.0.1 {name}\n")
        subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
        sockets = [socket.socket(fileno=int(number)) for number in numbers.split(",")]
        with socket.create_server(("127.0.0.1", HTTPS)) as server:
            arguments = server, sockets, (host, int(port))
            threading.Thread(target=_pass_on, args=arguments, daemon=True).start()
            return subprocess.run(command, check=False).returncode


def _pass_on(server: socket.socket, sockets: list[socket.socket], address: tuple[str, int]) -> None:
    for outside in sockets:
        inside, _ = server.accept()
        outside.connect(address)
        for ends in ((inside, outside), (outside, inside)):
            threading.Thread(target=_copy, args=ends, daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
