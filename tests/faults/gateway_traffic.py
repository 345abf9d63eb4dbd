"""Customers of a gateway that retry each upload until it is answered, and then fetch it again."""

import asyncio
import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from tests.bench.https_clients import OK, Connection, Server, upload_request

ANSWER_S = 90.0
"""Longer than a gateway lets a request wait."""
PAUSE_S, MAX_PAUSE_S = 0.5, 8.0
"""Pause after a refusal, doubled with each one and shortened at random by up to half: many clients
that ask again at once, each with its whole image, would keep a gateway from what it recovers."""
AGAIN = frozenset({408, 429, 503, 504})
IN_PROGRESS = "in_progress"


class Finished(NamedTuple):
    """An upload that was answered; the digests are of both answers."""

    key: str
    photo: int
    """Number of the photo that was uploaded."""
    first: str
    again: str


class GatewayTraffic:
    """Clients that each send one upload after the other, with keys of their own."""

    def __init__(self, server: Server, photos: Sequence[bytes], headers: Mapping[str, str]) -> None:
        self._server = server
        self._photos = photos
        self._headers = headers
        self._stopping = asyncio.Event()
        self.begun = Counter[str]()
        """How often each upload was tried."""
        self.finished: list[Finished] = []
        self.refused = Counter[str]()
        """Answers after which a client goes on to try."""
        self.wrong = Counter[str]()
        """Answers that no client should get."""

    async def run(self, clients: int, drain_s: float) -> None:
        """Send until `stop`; then every client finishes its upload, within `drain_s` in all."""
        tasks = [asyncio.create_task(self._client(n)) for n in range(clients)]
        await self._stopping.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await asyncio.gather(*tasks)

    async def stop(self) -> None:
        """Begin no more uploads."""
        self._stopping.set()

    async def _client(self, number: int) -> None:
        count = 0
        while not self._stopping.is_set():
            key, photo = f"{number}-{count}", count % len(self._photos)
            headers = {**self._headers, "Idempotency-Key": key}
            request = upload_request("/v2", "image_file", self._photos[photo], headers=headers)
            first = await self._until_answered(key, request)
            again = await self._until_answered(key, request)
            self.finished.append(Finished(key, photo, first, again))
            count += 1

    async def _until_answered(self, key: str, request: bytes) -> str:
        """Return the digest of the answer, or the error that is one."""
        pause_s = PAUSE_S
        while True:
            self.begun[key] += 1
            try:
                async with asyncio.timeout(ANSWER_S):
                    status, body = await self._ask(request)
            except TimeoutError:  # before `OSError`, which it is: each request ends within its time
                self.wrong["silence"] += 1
                return "silence"
            except (OSError, EOFError) as error:  # its gateway was killed, or is not there
                self.refused[type(error).__name__] += 1
            else:
                if status == OK:
                    return hashlib.sha256(body).hexdigest()
                code = str(json.loads(body)["error"]["code"])
                if status not in AGAIN and code != IN_PROGRESS:
                    self.wrong[code] += 1
                    return code
                self.refused[code] += 1
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    async def _ask(self, request: bytes) -> tuple[int, bytes]:
        connection = await Connection.open(self._server)
        try:
            await connection.send(request)
            return await connection.response()
        finally:
            connection.close()
