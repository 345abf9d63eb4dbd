"""Owners who let pictures be kept and take that back, while the router's last ones still arrive.

Of three accounts one revokes, one revokes and grants again, and one has single uploads erased.  An
owner acts when some of the account's last pictures are stored and others are not, so that these are
under way; more arrive afterwards, for what has just ended.
"""

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

from erasestream.pipeline.bootstrap.consent import consent_writer, erasure_requests
from erasestream.pipeline.settings import Settings
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.events.images import Part
from erasestream.schemas.ids import AccountId, GrantId, UploadId
from erasestream.topics.catalog.roles import LaneRole, lane_role
from tests.bench.running_pipeline import SHOP
from tests.faults.erasure_evidence import Account
from tests.faults.erasure_pictures import ErasurePictures, persist

OWNERS = 6
"""Owners who act at the same time."""
TRIES = 3
"""Sets of pictures that are written until an owner acts while some of one are under way."""
OWNER: Any = {"actor": "owner", "channel": Channel.LIBRARY}


class ErasureTraffic:
    """Runs `accounts` accounts, with `pictures` pictures at a time, as `allow` lets them begin."""

    def __init__(self, settings: Settings, *, accounts: int, pictures: int, seed: int) -> None:
        self._count, self._pictures_at_a_time = accounts, pictures
        self._stopping = threading.Event()
        self._allowed = threading.Semaphore(0)
        self.accounts: list[Account] = []
        """Those whose decisions are all recorded."""
        with ExitStack() as opened:
            role = lane_role(SHOP, LaneRole.ACCOUNT)
            self._consent = opened.enter_context(consent_writer(settings, SHOP, role=role))
            self._requests = opened.enter_context(erasure_requests(settings, SHOP))
            self.pictures: ErasurePictures = opened.enter_context(
                closing(ErasurePictures(settings, random.Random(seed)))
            )
            self._opened = opened.pop_all()

    def run(self) -> None:
        """Run all; return once everything is recorded."""
        run = os.urandom(4).hex()  # a pipeline may have had such accounts before
        with ThreadPoolExecutor(OWNERS) as pool:
            for account in pool.map(self._account, range(self._count), [run] * self._count):
                if account is not None:
                    self.accounts.append(account)

    def allow(self, accounts: int) -> None:
        """Let so many more accounts begin."""
        if accounts:
            self._allowed.release(accounts)

    def stop(self) -> None:
        """Begin with no more accounts."""
        self._stopping.set()
        self._allowed.release(self._count)

    def close(self) -> None:
        """Disconnect."""
        self._opened.close()

    def _account(self, number: int, run: str) -> Account | None:
        self._allowed.acquire()
        if self._stopping.is_set():
            return None
        account = Account(AccountId(f"erasure-{run}-{number}"))
        grant = self._grant(account)
        match number % 3:
            case 0:
                self._end(account, grant)
            case 1:
                self._end(account, grant)
                account.living = self._grant(account)
                account.kept = self._write(account, account.living)
            case _:
                account.living, account.kept = grant, self._write(account, grant)
                self._erase_some(account, grant)
        return account

    def _grant(self, account: Account) -> GrantId:
        recorded = persist(lambda: self._consent.grant(account.name, **OWNER))
        assert recorded.grant
        return recorded.grant

    def _write(self, account: Account, grant: GrantId) -> dict[UploadId, int]:
        return self.pictures.write_new(account, grant, self._pictures_at_a_time)

    def _end(self, account: Account, grant: GrantId) -> None:
        for _ in range(TRIES):
            written = self._write(account, grant)
            if self.pictures.are_under_way(account, grant, written, Part.ORIGINAL):
                break
        persist(lambda: self._consent.revoke(account.name, **OWNER))
        account.ended.append(grant)
        self._write(account, grant)  # as a router that has not seen it yet

    def _erase_some(self, account: Account, grant: GrantId) -> None:
        """Have half of the uploads erased, whose cut-outs are under way or arrive afterwards."""
        erased = {upload: account.kept.pop(upload) for upload in list(account.kept)[::2]}
        late = dict(list(erased.items())[::4])
        early = {upload: size for upload, size in erased.items() if upload not in late}
        self.pictures.write(account, grant, early, Part.CUTOUT)
        self.pictures.are_under_way(account, grant, early, Part.CUTOUT)
        for upload in reversed(erased):
            account.requested.add(upload)
            persist(partial(self._requests.request, account.name, upload, **OWNER))
        self.pictures.write(account, grant, late, Part.CUTOUT)
