"""Three brokers, two lanes, all stages, proxies before the second ways: and what breaks them.

Everything is started, stopped and killed from one thread, since a child dies with the thread
that started it.  One broker at most is away; the next fault of a broker waits until every
partition of every topic has all its copies in sync.
"""

import json
import random
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.kafka.readiness import client_context
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.devstack.stack_files import IMAGE_BUCKET
from erasestream.pipeline.settings import LaneSettings
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.errors import ClientErrorState
from tests.bench.running_pipeline import BULK, CACHE, SHOP, wait_ready
from tests.faults.fault_plan import BROKERS, STAGES, Fault, FaultKind
from tests.faults.observer import Observer, count_objects
from tests.faults.proxy import HOST, Proxy
from tests.faults.stage_exits import StageExit, TransactionCounts, count_transactions

HEAP_MB = 320
SECOND_COMPILER_LATER = (
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)
"""Ten times Java's defaults.  A broker lives for some minutes here, and compiling is much of what
it takes of the processor; but without the second compiler it has none of AES's instructions, and
50 MB through TLS take it 2.5 s instead of 0.3 (measured)."""
STOPPED_S = 15.0
SLOWED_S = 10.0
AWAY_S = 1.0
SETTLED_S = 30.0
"""How long after its return the next broker may be broken at the earliest: first its own answers
are not believed, since it may not know yet, and then there shall be traffic to be hit."""
PARTITIONS = 8
PROXIED = frozenset({"infer-2", "route-2", "sink"})
CHECKER = Role("checker")
PROVISION_S = 60.0


class StormCluster:
    """The whole pipeline.  `break_` does a fault; `tick` undoes what is due and supervises."""

    def __init__(self, folder: Path, *, models: Path, dice: random.Random) -> None:
        self.done: Counter[str] = Counter()
        """How often each kind of fault was done."""
        self.endings: list[StageExit] = []
        """Of stages and brokers that ended without being killed."""
        self._starts = 0
        self._dice = dice
        self.stack = Stack(folder / "stack", cache=CACHE)
        lanes = {lane: LaneSettings(partitions=PARTITIONS) for lane in (SHOP, BULK)}
        self.stack.create(
            models=models,
            model="tiny",
            lanes=lanes,
            nodes=BROKERS,
            heap_mb=HEAP_MB,
            java_options=SECOND_COMPILER_LATER,
        )
        self._proxies = [
            Proxy(port=way.advertised_port, target=way.port) for way in self.stack.proxied_listeners
        ]
        self._stopped: dict[str, float] = {}
        self._away: dict[int, float] = {}
        self._paused: dict[int, float] = {}
        self._settled_at = 0.0
        self._killed: set[str] = set()
        self._admin: AdminClient | None = None

    @property
    def proxied(self) -> Cluster:
        """The way in through the proxies."""
        servers = tuple(f"{HOST}:{way.advertised_port}" for way in self.stack.proxied_listeners)
        return Cluster(bootstrap_servers=servers, identities=self.stack.files.identities)

    def start(self) -> None:
        """Servers, topics and rights, the checker's right to read, then the stages."""
        for proxy in self._proxies:
            proxy.start()
        self.stack.start_servers()
        admin = Admin(self.stack.admin())
        provision(admin, self.stack.catalog(), show=lambda _: None, deadline_s=PROVISION_S)
        self._let_checker_read()
        for stage in STAGES:
            self._start_stage(stage)
        for stage in STAGES:
            wait_ready(self.stack, stage)

    def stop(self) -> None:
        """End everything."""
        for broker in self.stack.brokers:
            broker.resume()
        self.stack.stop()
        for proxy in self._proxies:
            proxy.stop()

    def observe(self) -> Observer:
        """Begin to read along."""
        topics = {topic.name: topic.partitions for topic in self.stack.catalog().topics}
        connection = Connection(cluster=self.stack.cluster, role=CHECKER)
        return Observer(connection.settings(ClientErrorState()), topics)

    def stored(self) -> Counter[tuple[str, str, str]]:
        """What lies in the bucket now."""
        files = self.stack.files
        settings = json.loads(files.bucket_settings.read_text())
        token = (files.tokens / "auditor.token").read_text().strip()
        endpoint = f"https://{HOST}:{settings['port']}"
        context = client_context(files.identities, "auditor")
        return count_objects(endpoint, IMAGE_BUCKET, token, context)

    def may_break_a_broker(self) -> bool:
        """Whether all are there, and every copy is in sync."""
        if self._away or self._paused or time.monotonic() < self._settled_at:
            return False
        if self._admin is None:
            self._admin = AdminClient(self.stack.admin().settings(ClientErrorState()))
        try:
            topics = self._admin.list_topics(timeout=3).topics.values()
        except KafkaException:
            return False
        partitions = [each for topic in topics for each in topic.partitions.values()]
        return all(len(p.isrs) == len(p.replicas) == BROKERS for p in partitions)

    def break_(self, fault: Fault) -> None:
        """Do it."""
        now = time.monotonic()
        broker, proxy = self.stack.brokers[fault.broker], self._proxies[fault.broker]
        match fault.kind:
            case FaultKind.KILL_STAGE:
                self._stopped.pop(fault.stage, None)
                self._killed.add(fault.stage)
                self.stack.stage(fault.stage).kill()
            case FaultKind.STOP_STAGE:
                self.stack.stage(fault.stage).send(SIGSTOP)
                self._stopped[fault.stage] = now + STOPPED_S
            case FaultKind.KILL_BROKER:
                broker.kill()
                self._away[fault.broker] = now + AWAY_S
            case FaultKind.STOP_BROKER:
                broker.pause()
                self._paused[fault.broker] = now + STOPPED_S
            case FaultKind.SLOW:
                proxy.slow(self._dice, SLOWED_S)
            case FaultKind.CUT:
                proxy.cut(self._dice)
        self.done[fault.kind] += 1

    def tick(self, *, heal: bool = False) -> None:
        """Let go on what was stopped long enough, start again what has ended.

        `heal`: all at once, since the storm is over.
        """
        now = time.monotonic() + (STOPPED_S if heal else 0)
        for stage in [name for name, at in self._stopped.items() if at <= now]:
            del self._stopped[stage]
            self.stack.stage(stage).send(SIGCONT)
        for index in [index for index, at in self._paused.items() if at <= now]:
            del self._paused[index]
            self.stack.brokers[index].resume()
            self._settled_at = time.monotonic() + SETTLED_S
        for index in [index for index, at in self._away.items() if at <= now]:
            del self._away[index]
            self.stack.brokers[index].launch()
            self._settled_at = time.monotonic() + SETTLED_S
        for index, broker in enumerate(self.stack.brokers):
            if broker.process_id is None and index not in self._away:
                self.endings.append(StageExit(f"broker {index}", None, ""))
                self._away[index] = time.monotonic() + AWAY_S
        for stage in STAGES:
            ended = self.stack.stage(stage)
            # Its first thread may be gone before the others are: then it has no status yet.
            if ended.process_id is None and ended.exit_code is not None:
                self._note_end(stage)
                self._start_stage(stage)

    def is_whole(self) -> bool:
        """Whether every stage does its work, and every copy is in sync."""
        return self.are_stages_ready() and self.may_break_a_broker()

    def are_stages_ready(self) -> bool:
        """Whether every stage runs and has said that it is ready."""
        return all(map(self._is_ready, STAGES))

    def transactions(self) -> TransactionCounts:
        """What the routers said of theirs."""
        return count_transactions(self.stack.files.logs.glob("route*"))

    def _is_ready(self, stage: str) -> bool:
        runs = self.stack.stage(stage).process_id is not None
        return runs and '"ready"' in self.stack.log_of(stage).read_text()

    def _note_end(self, stage: str) -> None:
        log = self.stack.log_of(stage)
        status = self.stack.stage(stage).exit_code
        if status == -SIGKILL and stage in self._killed:
            how = "killed"
        else:
            self.endings.append(StageExit.of(stage, status, log))
            how = f"ended-with-{status}"
        self._killed.discard(stage)
        self._starts += 1
        log.replace(log.with_name(f"{stage}.{self._starts}.{how}"))

    def _start_stage(self, name: str) -> None:
        command, _, number = name.partition("-")
        more = {
            "ERASESTREAM_STAGE__INSTANCE": number or "1",
            "ERASESTREAM_STAGE__PURGE_INTERVAL": "PT10S",
            "ERASESTREAM_INFERENCE__CHILDREN": "1",
        }
        if name in PROXIED:
            servers = json.dumps(self.proxied.bootstrap_servers)
            more["ERASESTREAM_KAFKA__BOOTSTRAP_SERVERS"] = servers
        self.stack.start_stage(command, name=name, **more)

    def _let_checker_read(self) -> None:
        files = self.stack.files
        authority = CertificateAuthority.load(
            files.directory / "authority", now=lambda: datetime.now(UTC)
        )
        authority.issue_role(CHECKER, files.identities)
        admin = Admin(self.stack.admin())
        for kind in (ResourceType.TOPIC, ResourceType.GROUP):
            right = AclBinding(
                kind,
                "*",
                ResourcePatternType.LITERAL,
                f"User:{CHECKER}",
                "*",
                AclOperation.READ,
                AclPermissionType.ALLOW,
            )
            admin.ask("the checker's right", admin.client.create_acls([right])[right])
