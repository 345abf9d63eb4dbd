"""Clients that send the same request again and again over HTTPS, each on a connection of its own.

They do next to nothing besides TLS: what is measured is the server.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

OK = 200
BOUNDARY = "bench"


class Server(NamedTuple):
    """Address of a server; without a context it is HTTP."""

    host: str
    port: int
    context: ssl.SSLContext | None = None


class Race(NamedTuple):
    """Seconds of each request, and of all together."""

    latencies_s: list[float]
    elapsed_s: float

    @property
    def per_s(self) -> float:
        """Requests per second."""
        return len(self.latencies_s) / self.elapsed_s


def upload_request(
    path: str,
    field: str,
    image: bytes,
    *,
    fields: Mapping[str, str] = MappingProxyType({}),
    headers: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """Return a request that uploads an image as a file, with other fields."""
    head = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head += (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="a.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    sent = {
        "Host": "bench",
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Content-Length": str(len(body)),
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def race(
    server: Server, requests: Sequence[bytes], *, clients: int, count: int, period_s: float = 0.0
) -> Race:
    """Send `count` requests in turn from so many clients.

    Each client sends one in `period_s`, and none before it has the answer to its last one.
    """
    return asyncio.run(_race(server, requests, clients, count, period_s))


async def _race(
    server: Server, requests: Sequence[bytes], clients: int, count: int, period_s: float
) -> Race:
    connections = [await Connection.open(server) for _ in range(clients)]
    left = iter(range(count))
    latencies: list[float] = []

    async def run(connection: Connection, due_s: float) -> None:
        for number in left:
            await asyncio.sleep(due_s - time.monotonic())
            begun_s = time.monotonic()
            due_s = begun_s + period_s
            await connection.send(requests[number % len(requests)])
            await connection.answer()
            latencies.append(time.monotonic() - begun_s)

    started_s = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for due_s, connection in zip(first_s(clients, period_s), connections, strict=True):
            tasks.create_task(run(connection, due_s))
    elapsed_s = time.monotonic() - started_s
    for connection in connections:
        connection.close()
    return Race(latencies, elapsed_s)


def first_s(clients: int, period_s: float) -> list[float]:
    """Return when each client sends its first request, spread over a period from now."""
    now_s = time.monotonic()
    return [now_s + period_s * number / clients for number in range(clients)]


async def hold(
    server: Server, request: bytes, clients: int, while_waiting: Callable[[], None]
) -> None:
    """Send a request from each client, call the function, and take the answers."""
    connections = [await Connection.open(server) for _ in range(clients)]
    await asyncio.gather(*(each.send(request) for each in connections))
    await asyncio.to_thread(while_waiting)
    await asyncio.gather(*(each.answer() for each in connections))
    for connection in connections:
        connection.close()


class Connection:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, server: Server) -> "Connection":
        """Connect."""
        return cls(*await asyncio.open_connection(server.host, server.port, ssl=server.context))

    async def send(self, request: bytes) -> None:
        """Send a request, all of it."""
        self._writer.write(request)
        await self._writer.drain()

    async def response(self) -> tuple[int, bytes]:
        """Return status and body of the answer.  Raises `OSError` or `EOFError` without one."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        (length,) = (int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        return int(head.split(b" ", 2)[1]), await self._reader.readexactly(length)

    async def answer(self) -> bytes:
        """Return the body of the answer; raise if it is an error."""
        status, body = await self.response()
        if status != OK:
            raise RuntimeError(f"{status}: {body.decode(errors='replace')}")
        return body

    def close(self) -> None:
        """Close the connection."""
        self._writer.transport.abort()
