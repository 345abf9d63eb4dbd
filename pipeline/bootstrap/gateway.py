"""Open a gateway."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from threading import Event

from erasestream.pipeline.bootstrap.account_page import account_page
from erasestream.pipeline.bootstrap.consent import consent_writer
from erasestream.pipeline.bootstrap.credentials import account_connection
from erasestream.pipeline.gateway.accepted_marks import AcceptedMarks
from erasestream.pipeline.gateway.accepting import ConnectionLimits
from erasestream.pipeline.gateway.adapter import Services
from erasestream.pipeline.gateway.app import application
from erasestream.pipeline.gateway.bounded_calls import BoundedCalls
from erasestream.pipeline.gateway.callers import Callers
from erasestream.pipeline.gateway.core import ImageCore
from erasestream.pipeline.gateway.egress.fetcher import authorities_file
from erasestream.pipeline.gateway.egress.fetchers import Fetchers
from erasestream.pipeline.gateway.fetching import Fetching
from erasestream.pipeline.gateway.https_server import HttpsServer
from erasestream.pipeline.gateway.image_index import ImageIndex
from erasestream.pipeline.gateway.loop_thread import LoopThread
from erasestream.pipeline.gateway.memory_budget import MemoryBudget
from erasestream.pipeline.gateway.rate_limits import REQUESTS, RateLimits
from erasestream.pipeline.gateway.reference import routes as reference
from erasestream.pipeline.gateway.retention_deadline import RetentionDeadlines
from erasestream.pipeline.gateway.routes import images, removebg, v2
from erasestream.pipeline.gateway.routes.image_upload import CONVERTING_BYTES
from erasestream.pipeline.gateway.stage import GatewayStage, UsedKeys
from erasestream.pipeline.gateway.tls_context import ServerTls
from erasestream.pipeline.runtime.heartbeat_schedule import HeartbeatSchedule
from erasestream.pipeline.runtime.sandbox.restrictions import missing
from erasestream.pipeline.settings import GatewaySettings, Settings
from erasestream.schemas.clocks import WallClock, utc_now
from erasestream.schemas.errors import IsolationMissing, Refused
from erasestream.schemas.events.consent import Channel
from erasestream.schemas.events.image_index import ImageState
from erasestream.schemas.ids import AccountId, Lane, UploadId
from erasestream.topics.catalog.acl import Operation
from erasestream.topics.catalog.roles import LaneRole, lane_role
from erasestream.topics.catalog.topic_names import held_of, receipts_of
from erasestream.topics.client.async_upload_producer import AsyncUploadProducer
from erasestream.topics.client.result_fetcher import ResultFetcher
from erasestream.topics.consent.erasure_requests import ErasureRequests
from erasestream.topics.consent.reader import ConsentReader
from erasestream.topics.credentials.view import credential_view
from erasestream.topics.credentials.writer import credential_writer
from erasestream.topics.index.marks import ImageMarks, image_marks
from erasestream.topics.index.view import ImageIndexView, image_index_view
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Connection

FETCHERS = 4
"""Results that are fetched at once."""
READS_AT_ONCE = 64
"""Requests of one API key about images by their ids, which may wait for a fetcher."""


@contextmanager
def gateway_stage(
    settings: Settings,
    _stopping: Event,
    *,
    now: WallClock = utc_now,
    fetchers: Fetchers | None = None,
) -> Iterator[GatewayStage]:
    """Open a gateway.  Its Kafka clients and its server follow renewed certificates.

    `fetchers`: instead of those that the settings ask for.
    """
    section = gateway_of(settings)
    if section.fetch_urls and fetchers is None:
        fetchers = url_fetchers()
    account = account_connection(settings, section.lane)
    with ExitStack() as opened:
        tls = ServerTls(section.certificate, section.certificate_key)
        keys = opened.enter_context(credential_view(account, section.lane))
        writer = opened.enter_context(credential_writer(account, section.lane))
        role = lane_role(section.lane, LaneRole.ACCOUNT)
        consent = opened.enter_context(consent_writer(settings, section.lane, role=role))
        page_calls = opened.enter_context(closing(BoundedCalls("account")))
        calls = opened.enter_context(closing(BoundedCalls("images")))
        marking = opened.enter_context(closing(BoundedCalls("accepted", threads=8, most=1024)))
        loop = opened.enter_context(LoopThread("gateway"))
        view = opened.enter_context(image_index_view(account, section.lane, now=now))
        marks = opened.enter_context(image_marks(account, section.lane))
        erasures = ErasureRequests(connection=account, lane=section.lane, now=now)
        opened.enter_context(closing(erasures))
        core = image_core(settings, section, view, now=now)
        opened.callback(lambda: loop.call(core.close()))
        loop.call(core.open())
        accepted = AcceptedMarks(_Marks(marks, marking), _OptIn(consent.reader, marking))
        opened.callback(lambda: loop.call(accepted.close()))
        used = UsedKeys()
        server = opened.enter_context(
            closing(
                HttpsServer(
                    section.listen_host,
                    section.listen_port,
                    tls,
                    limits=ConnectionLimits(
                        most=section.max_connections,
                        of_address=section.connections_per_address,
                    ),
                )
            )
        )
        services = Services(
            core=core,
            callers=Callers(keys, now=now, note_use=used.note),
            memory=MemoryBudget(section.max_memory_bytes - CONVERTING_BYTES),
            limits=RateLimits(
                per_minute=section.rate_per_minute,
                at_once=section.images_at_once,
                clock=time.monotonic,
                now=now,
            ),
            reads=RateLimits(
                per_minute=section.reads_per_minute,
                at_once=READS_AT_ONCE,
                clock=time.monotonic,
                now=now,
                names=REQUESTS,
            ),
            deadlines=_deadlines(settings, section),
            mark=_Marks(marks, calls),
            accepted=accepted,
            erase=_Erasures(erasures, calls),
            now=now,
            has_opted_in=_OptIn(consent.reader, calls),
            is_ready=lambda: keys.is_fresh and core.index.is_loaded,
            plan=section.plan,
            fetchers=fetchers,
        )
        page = account_page(
            section,
            services,
            keys=keys,
            key_writer=writer,
            consent=consent,
            calls=page_calls,
            partitions=_partitions(account, section.lane),
            now=now,
        )
        primary = v2.adapter(services)
        described = reference.adapter(section.service, primary)
        adapters = [
            primary,
            images.adapter(services),
            removebg.adapter(services),
            page,
            described,
        ]
        app = application(adapters, services.memory)
        serving = loop.begin(server.serve(app, give_up=core.give_up))
        stage = GatewayStage(
            server=server,
            serving=serving,
            core=core,
            keys=keys,
            records=writer,
            used=used,
            heartbeats=HeartbeatSchedule(
                beat=writer.heartbeat().beat,
                every_s=settings.catalog().policy.heartbeat_s,
                clock=time.monotonic,
            ),
            tls=tls,
        )
        yield opened.enter_context(closing(stage))


def _partitions(account: Connection, lane: Lane) -> Mapping[str, int]:
    """Return the partition counts of what only the account page reads.  Raises `Refused`."""
    with Admin(account) as admin:
        return admin.check_rights(
            {name(lane): (Operation.READ,) for name in (held_of, receipts_of)}
        )


def gateway_of(settings: Settings) -> GatewaySettings:
    """Return the section `gateway`.  Raises `Refused` if there is none."""
    if settings.gateway is None:
        raise Refused("settings: the section gateway is missing")
    return settings.gateway


def url_fetchers() -> Fetchers:
    """Return what fetches images from URLs.

    Raises `IsolationMissing`, and `Refused` if the system trusts no authority.
    """
    if lacks := missing():
        raise IsolationMissing(f"{' and '.join(lacks)}, for gateway.fetch_urls")
    authorities = authorities_file()
    if authorities is None:
        raise Refused("gateway.fetch_urls: this system has no certificates of authorities")
    return Fetchers(authorities)


def image_core(
    settings: Settings, section: GatewaySettings, view: ImageIndexView, *, now: WallClock
) -> ImageCore:
    """Return the core with its Kafka clients, which are not opened yet."""
    cluster, lane = settings.cluster, section.lane
    return ImageCore(
        lane=lane,
        producer=AsyncUploadProducer(cluster, lane, sealed=settings.seals(lane), now=now),
        index=ImageIndex(lane, view, now=now),
        fetching=Fetching([ResultFetcher(cluster, lane, now=now) for _ in range(FETCHERS)]),
        wait_s=section.result_wait.total_seconds(),
        most=section.max_waiting,
        now=now,
    )


def _deadlines(settings: Settings, section: GatewaySettings) -> RetentionDeadlines:
    is_sealed = settings.seals(section.lane)
    times = settings.epochs() if is_sealed else None
    return RetentionDeadlines(times, promise=settings.lifetimes.promise)


class _Marks:
    """Writes marks without blocking the loop."""

    def __init__(self, marks: ImageMarks, calls: BoundedCalls) -> None:
        self._marks = marks
        self._calls = calls

    async def __call__(
        self,
        account: AccountId,
        upload_id: UploadId,
        state: ImageState,
        is_retained: bool,  # noqa: FBT001 (the type of a callable has no names)
    ) -> None:
        await self._calls.run(self._marks.write, account, upload_id, state, is_retained=is_retained)


class _Erasures:
    """Requests erasures without blocking the loop."""

    def __init__(self, requests: ErasureRequests, calls: BoundedCalls) -> None:
        self._requests = requests
        self._calls = calls

    async def __call__(self, account: AccountId, upload_id: UploadId, key_id: str) -> None:
        await self._calls.run(
            self._requests.request,
            account,
            upload_id,
            actor=f"key:{key_id}",
            channel=Channel.LIBRARY,
        )


class _OptIn:
    """Reads whether an account has opted in, at the freshness mark, without blocking the loop."""

    def __init__(self, reader: ConsentReader, calls: BoundedCalls) -> None:
        self._reader = reader
        self._calls = calls

    async def __call__(self, account: AccountId) -> bool:
        return await self._calls.run(self._reader.active_grant, account) is not None
