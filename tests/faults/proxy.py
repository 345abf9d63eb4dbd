"""A TCP proxy before a broker's second listener that can cut, slow or mute a connection.

It forwards bytes without reading them: TLS is between client and broker.
"""

import asyncio
import contextlib
import random
import threading
from collections.abc import Coroutine
from typing import Any

HOST = "127.0.0.1"
CHUNK_BYTES = 16_384
SLOW_STEP_S = 0.3
"""Pause after each chunk of a slowed connection: 54 KB/s at most."""
START_S = 10.0


class _Connection:
    """One client's connection, in both directions."""

    def __init__(self, *ends: asyncio.StreamWriter) -> None:
        self.ends = ends
        self.slow_until = 0.0
        self.is_mute = False

    def close(self) -> None:
        for end in self.ends:
            end.transport.abort()


class Proxy:
    """Forwards connections from `port` to `target`, on a thread of its own."""

    def __init__(self, *, port: int, target: int) -> None:
        self._port, self._target = port, target
        self._loop = asyncio.new_event_loop()
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._is_shut = False
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Start the thread and listen."""
        self._thread.start()
        self._run(self._listen())

    def stop(self) -> None:
        """Close every connection and end the thread."""
        self._run(self._cut_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S)

    def cut(self, dice: random.Random) -> None:
        """Reset one connection."""
        if connection := self._one(dice):
            self._loop.call_soon_threadsafe(connection.close)

    def cut_all(self) -> None:
        """Reset every connection, and return once it is done."""
        self._run(self._reset())

    def mute_all(self) -> None:
        """Drop the broker's answers on all connections that are open now."""
        for connection in list(self._connections):
            connection.is_mute = True

    def shut(self) -> None:
        """Reset every connection, and refuse new ones until `open`."""
        self._is_shut = True
        self.cut_all()

    def open(self) -> None:
        """Accept connections again."""
        self._is_shut = False

    def slow(self, dice: random.Random, seconds: float) -> None:
        """Slow one connection for this many seconds."""
        if connection := self._one(dice):
            connection.slow_until = self._loop.time() + seconds

    def _one(self, dice: random.Random) -> _Connection | None:
        return dice.choice(list(self._connections)) if self._connections else None

    def _run(self, step: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(START_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self._port)

    async def _reset(self) -> None:
        for connection in list(self._connections):
            connection.close()

    async def _cut_all(self) -> None:
        if self._server:
            self._server.close()
        await self._reset()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio reports a cancelled connection task as an error (Python 3.11).
        with contextlib.suppress(asyncio.CancelledError):
            await self._forward(reader, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_shut:
            writer.close()
            return
        try:
            there, back = await asyncio.open_connection(HOST, self._target)
        except OSError:
            writer.close()
            return
        connection = _Connection(writer, back)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(connection, reader, back))
                both.create_task(self._pump(connection, there, writer))
        finally:
            self._connections.discard(connection)
            connection.close()

    async def _pump(
        self, of: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if of.is_mute and writer is of.ends[0]:
                    continue
                writer.write(data)
                await writer.drain()
                if self._loop.time() < of.slow_until:
                    await asyncio.sleep(SLOW_STEP_S)
        of.close()  # closes the other direction too
