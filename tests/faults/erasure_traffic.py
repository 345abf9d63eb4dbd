"""Owners who let pictures be kept and take that back, while the router's last ones still arrive.

Of three accounts one revokes, one revokes and grants again, and one has single uploads erased.
Pictures are written to `retained` as the router does, also some for what has just ended.
"""

import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

from erasestream.pipeline.bootstrap.consent import consent_writer, erasure_requests
from erasestream.pipeline.settings import Settings
from erasestream.schemas.codec.cloudevents import to_wire
from erasestream.schemas.errors import Unavailable
from erasestream.schemas.events.base import Position
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.events.images import Part, Retained
from erasestream.schemas.ids import AccountId, GrantId, UploadId, new_upload_id
from erasestream.topics.catalog.roles import ROUTER, LaneRole, lane_role
from erasestream.topics.catalog.topic_names import RETAINED
from erasestream.topics.kafka.connection import Connection
from erasestream.topics.kafka.producer.acknowledged_writer import AcknowledgedWriter
from erasestream.topics.kafka.records import Partition
from tests.bench.running_pipeline import SHOP

T = TypeVar("T")

OWNERS = 4
"""Owners who act at the same time."""
PNG = b"\x89PNG\r\n\x1a\n"
MAX_BYTES = 50_000
OWNER: Any = {"actor": "owner", "channel": Channel.LIBRARY}


@dataclass
class Account:
    """Fate of an account."""

    name: AccountId
    ended: list[GrantId] = field(default_factory=list)
    living: GrantId | None = None
    kept: dict[UploadId, int] = field(default_factory=dict)
    """Size of each upload that was written under the living grant, and is not to be erased."""
    requested: set[UploadId] = field(default_factory=set)
    """Uploads under the living grant that are to be erased."""


class ErasureTraffic:
    """Runs `accounts` accounts, with `pictures` pictures at a time, in `seconds` or longer."""

    def __init__(
        self, settings: Settings, *, accounts: int, pictures: int, seconds: float, seed: int
    ) -> None:
        self._count, self._pictures = accounts, pictures
        self._pause_s = seconds * OWNERS / accounts
        self._dice = random.Random(seed)
        self._partitions = settings.kafka.retained_partitions
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.ends: dict[Partition, int] = {}
        """Per partition of `retained` the offset after the last picture."""
        self.accounts: list[Account] = []
        """Those whose decisions are all recorded."""
        with ExitStack() as opened:
            role = lane_role(SHOP, LaneRole.ACCOUNT)
            self._consent = opened.enter_context(consent_writer(settings, SHOP, role=role))
            self._requests = opened.enter_context(erasure_requests(settings, SHOP))
            connection = Connection(cluster=settings.cluster, role=ROUTER)
            writes = AcknowledgedWriter(connection=connection, timeout_s=60)
            self._writes = opened.enter_context(closing(writes))
            self._opened = opened.pop_all()
        self.reader = self._consent.reader

    def run(self) -> None:
        """Run all; return once everything is recorded."""
        run = os.urandom(4).hex()  # a pipeline may have had such accounts before
        with ThreadPoolExecutor(OWNERS) as pool:
            for account in pool.map(self._account, range(self._count), [run] * self._count):
                if account is not None:
                    self.accounts.append(account)

    def stop(self) -> None:
        """Begin with no more accounts."""
        self._stopping.set()

    def close(self) -> None:
        """Disconnect."""
        self._opened.close()

    def _account(self, number: int, run: str) -> Account | None:
        if self._stopping.wait(self._pause_s):
            return None
        account = Account(AccountId(f"erasure-{run}-{number}"))
        grant = self._grant(account)
        written = self._write(account, grant)
        match number % 3:
            case 0:
                self._end(account, grant)
            case 1:
                self._end(account, grant)
                account.living = self._grant(account)
                account.kept = self._write(account, account.living)
            case _:
                account.living, account.kept = grant, written
                self._erase_some(account, grant)
        return account

    def _grant(self, account: Account) -> GrantId:
        recorded = _persist(lambda: self._consent.grant(account.name, **OWNER))
        assert recorded.grant
        return recorded.grant

    def _end(self, account: Account, grant: GrantId) -> None:
        _persist(lambda: self._consent.revoke(account.name, **OWNER))
        account.ended.append(grant)
        self._write(account, grant)  # as a router that has not seen it yet

    def _erase_some(self, account: Account, grant: GrantId) -> None:
        """Have half of the uploads erased; their cut-outs arrive afterwards."""
        for upload in list(account.kept)[::2]:
            size = account.kept.pop(upload)
            account.requested.add(upload)
            _persist(partial(self._requests.request, account.name, upload, **OWNER))
            self._keep(account, grant, {upload: size}, Part.CUTOUT)

    def _write(self, account: Account, grant: GrantId) -> dict[UploadId, int]:
        now_ms = round(time.time() * 1000)
        sizes = {
            new_upload_id(now_ms, os.urandom(10)): self._dice.randint(len(PNG), MAX_BYTES)
            for _ in range(self._pictures)
        }
        self._keep(account, grant, sizes, Part.ORIGINAL)
        return sizes

    def _keep(
        self, account: Account, grant: GrantId, sizes: dict[UploadId, int], part: Part
    ) -> None:
        records = [
            (
                Partition(RETAINED, self._dice.randrange(self._partitions)),
                b"key",
                to_wire(_picture(account, grant, upload, size, part), source="/router"),
            )
            for upload, size in sizes.items()
        ]
        # A repetition is the same object.
        written = _persist(lambda: [each.result() for each in self._writes.write_all(records)])
        with self._lock:
            for (at, _, _), each in zip(records, written, strict=True):
                self.ends[at] = max(self.ends.get(at, 0), each.offset + 1)


def _persist(attempt: Callable[[], T]) -> T:
    """Repeat it until the brokers have acknowledged it, as an owner's service does."""
    while True:
        try:
            return attempt()
        except Unavailable:
            time.sleep(1)


def bytes_of(upload: UploadId, size: int) -> bytes:
    """Return the bytes of an upload's pictures, which follow from its id."""
    digest = sha256(upload.encode()).digest()
    return (PNG + digest * (1 + size // len(digest)))[:size]


def _picture(account: Account, grant: GrantId, upload: UploadId, size: int, part: Part) -> Retained:
    now = datetime.now(UTC)
    return Retained(
        id=upload,
        time=now,
        lane=SHOP,
        account=account.name,
        part=part,
        grant=grant,
        mark="0/0",
        position=Position(topic_id="A" * 22, partition=0, offset=0),
        uploaded_at=now,
        content_type="image/png",
        data=bytes_of(upload, size),
    )
