"""Fetch images from URLs for the gateway, each request in a process of its own.

* A URL is parsed here and in no other way later; redirects lead to the same host, at most three
  times, and each is checked as the URL was.
* Names, addresses, certificates and answers of servers are the fetcher's (`fetcher.py`).  Its
  answer is bounded and checked; it is killed when the time is over.
* All that may be wrong beyond the URL itself is one problem: a caller learns nothing about names
  and addresses of the network that the gateway is in.
* One account has at most half of the fetchers.

For one event loop.
"""

import asyncio
import json
import logging
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path

from erasestream.pipeline.gateway.egress.image_url import ImageUrl, InvalidUrl
from erasestream.pipeline.gateway.egress.protocol import (
    FAILED,
    MAX_ANSWER_BYTES,
    MAX_IMAGE_BYTES,
    Answer,
    BrokenAnswer,
    Kind,
    encode_request,
    parse_answer,
)
from erasestream.pipeline.gateway.problems import (
    HTTP_SENTENCES,
    RETRY_AFTER_S,
    HttpCode,
    Problem,
    of_failure,
    problem,
    try_later,
)
from erasestream.schemas.error_codes import SENTENCES, Code
from erasestream.schemas.ids import AccountId

log = logging.getLogger(__name__)

PROGRAM = "erasestream.pipeline.gateway.egress.fetcher"
FETCHERS = 8
FETCH_S = 20.0
MAX_REDIRECTS = 3
_PIECE_BYTES = 1 << 18
_PASSED_ON = ("PYTHONPATH", "LD_LIBRARY_PATH")


class Fetchers:
    """At most `most` fetchers at once; they trust the `authorities` in this file.

    `program`: the module that runs; tests replace it to lead connections to their own servers.
    """

    def __init__(
        self,
        authorities: Path,
        *,
        program: str = PROGRAM,
        most: int = FETCHERS,
        timeout_s: float = FETCH_S,
    ) -> None:
        self._authorities = authorities
        self._program = program
        self._most = most
        self._timeout_s = timeout_s
        self._of_accounts = Counter[AccountId]()

    async def fetch(self, text: str, account: AccountId) -> bytes:
        """Return what is at a URL.

        Raises `Problem` (invalid_image_url, image_url_failed, too_large, too_many_at_once,
        overloaded).
        """
        try:
            url = ImageUrl.parse(text)
        except InvalidUrl:
            raise problem(HTTPStatus.BAD_REQUEST, HttpCode.INVALID_URL) from None
        with self._admit(account):
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._follow(url)
            except TimeoutError:
                raise _failed() from None

    @contextmanager
    def _admit(self, account: AccountId) -> Iterator[None]:
        if self._of_accounts[account] >= max(1, self._most // 2):
            code, headers = HttpCode.TOO_MANY_AT_ONCE, {"Retry-After": f"{RETRY_AFTER_S}"}
            status = HTTPStatus.TOO_MANY_REQUESTS
            raise Problem(status, code, HTTP_SENTENCES[code], headers=headers)
        if self._of_accounts.total() >= self._most:
            raise try_later(HttpCode.OVERLOADED)
        self._of_accounts[account] += 1
        try:
            yield
        finally:
            self._of_accounts[account] -= 1
            self._of_accounts += Counter()  # drops those that have none

    async def _follow(self, url: ImageUrl) -> bytes:
        for _ in range(1 + MAX_REDIRECTS):
            answer = await self._ask_fetcher(url)
            match answer.kind:
                case Kind.IMAGE:
                    return answer.data
                case Kind.TOO_LARGE:
                    limit = f"at most {MAX_IMAGE_BYTES / 1e6:g} MB"
                    raise of_failure(Code.TOO_LARGE, f"{SENTENCES[Code.TOO_LARGE]} ({limit})")
                case Kind.REDIRECT:
                    with suppress(InvalidUrl, UnicodeDecodeError):
                        url = url.redirected(answer.data.decode())
                        continue
            break
        raise _failed()

    async def _ask_fetcher(self, url: ImageUrl) -> Answer:
        ours, theirs = socket.socketpair()
        try:
            with ours:
                with theirs:
                    process = await self._start(theirs.fileno())
                try:
                    ours.settimeout(0)
                    return await _ask(ours, url)
                finally:
                    with suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        except (BrokenAnswer, OSError):
            log.warning("fetcher_failed")
            return FAILED

    async def _start(self, descriptor: int) -> Process:
        config = {
            "parent": os.getpid(),
            "socket": descriptor,
            "authorities": str(self._authorities),
        }
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # -P: modules in the working directory are not imported by accident.
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", self._program, json.dumps(config)),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,  # a library's message may quote the server
            pass_fds=(descriptor,),
            start_new_session=True,
            env={"LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "1", **passed_on},
        )


async def _ask(ours: socket.socket, url: ImageUrl) -> Answer:
    """Return the answer of a fetcher.  Raises `BrokenAnswer`, `OSError`."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(ours, encode_request(url))
    ours.shutdown(socket.SHUT_WR)
    untrusted_answer = bytearray()
    while piece := await loop.sock_recv(ours, _PIECE_BYTES):
        untrusted_answer += piece
        if len(untrusted_answer) > MAX_ANSWER_BYTES:
            raise BrokenAnswer
    return parse_answer(untrusted_answer)


def _failed() -> Problem:
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, HttpCode.URL_FAILED)
