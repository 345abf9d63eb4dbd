"""The eraser's place in the ledgers: pages in the vault, where no other role can read them.

    places/<topic>/<topic id>/<partition>/<number>    (`topics/consent/ledger_pages.py`)

The topic id tells a topic from one of the same name before it.  Accounts are in no page: only codes
of them under the name key.  A page that could not be written, or that is not one, costs the next
eraser time, and nothing else.
"""

import hmac
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import takewhile

from erasestream.pipeline.runtime.retry import RetryUntilStopped
from erasestream.schemas.errors import AlreadyExists, SealBroken, Unavailable
from erasestream.sinks.buckets.access_policy import PLACES
from erasestream.sinks.buckets.object_store import ObjectStore
from erasestream.sinks.keys.key_vault import OCTETS
from erasestream.topics.consent.ledger_pages import PAGE
from erasestream.topics.consent.ledger_rows import MAX_ROW_BYTES, ROW_LENGTH_BYTES
from erasestream.topics.kafka.records import Partition

log: logging.Logger = logging.getLogger(__name__)

MAX_PARALLEL = 16
MAX_BYTES = PAGE * (MAX_ROW_BYTES + ROW_LENGTH_BYTES)
"""2.3 MB; rows are some 40 to 200 bytes."""
MAX_WAITING = 100
"""Pages that wait to be written; beyond that none is kept."""
LABEL = b"erasestream/v1/place/account\0"


def account_codes(name_key: bytes) -> Callable[[bytes], bytes]:
    """Return the function from the key of an account's entries to its code in pages."""
    return lambda key: hmac.digest(name_key, LABEL + key, "sha256")[:16]


class VaultPages:
    """Pages in a vault; `topic_ids` are the current ids of the topics."""

    def __init__(
        self, *, vault: ObjectStore, topic_ids: Mapping[str, str], stopping: threading.Event
    ) -> None:
        self._vault = vault
        self._topic_ids = topic_ids
        self._retry = RetryUntilStopped(stopping, event="waiting")
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="pages")
        self._waiting = threading.Semaphore(MAX_WAITING)

    def read(self) -> dict[Partition, list[bytes]]:
        """Return the pages of each partition, from the first one on without gap."""
        found = dict[Partition, list[str]]()
        for topic, topic_id in self._topic_ids.items():
            prefix = f"{PLACES}{topic}/{topic_id}/"
            for info in self._vault.list(prefix):
                number, _, page = info.name.removeprefix(prefix).partition("/")
                names = found.setdefault(Partition(topic, int(number)), [])
                if int(page) == len(names):
                    names.append(info.name)
        with ThreadPoolExecutor(MAX_PARALLEL, thread_name_prefix="pages") as pool:
            read = {at: pool.map(self._read, names) for at, names in found.items()}
            return {at: list(takewhile(len, pages)) for at, pages in read.items()}

    def write(self, at: Partition, number: int, page: bytes) -> None:
        """Write a page in a thread of its own, once the vault is available."""
        if self._waiting.acquire(blocking=False):
            self._pool.submit(self._write, f"{self._prefix(at)}{number:012}", page)

    def close(self) -> None:
        """Stop; what is not written is left to the next eraser."""
        self._pool.shutdown(cancel_futures=True)

    def _prefix(self, at: Partition) -> str:
        return f"{PLACES}{at.topic}/{self._topic_ids[at.topic]}/{at.number}/"

    def _read(self, name: str) -> bytes:
        """Return a page; nothing of what is no page: the brokers have its records."""
        try:
            return self._vault.read(name, MAX_BYTES)
        except SealBroken:
            log.warning("place_unreadable", extra={"reason": name})
            return b""

    def _write(self, name: str, page: bytes) -> None:
        try:
            with suppress(AlreadyExists, Unavailable):
                self._retry.call(partial(self._vault.create, name, page, OCTETS))
        finally:
            self._waiting.release()
