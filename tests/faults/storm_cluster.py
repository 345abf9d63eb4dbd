"""The cluster of a storm: three brokers behind proxies, two lanes, all stages, and their faults.

Everything is started, stopped and killed from one thread, because a child process dies with the
thread that started it.
"""

import json
import random
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from erasestream.pipeline.devstack.certificate_authority import CertificateAuthority
from erasestream.pipeline.devstack.kafka.java_launcher import SHORT_LIVED
from erasestream.pipeline.devstack.kafka.readiness import client_context
from erasestream.pipeline.devstack.stack import Stack
from erasestream.pipeline.devstack.stack_files import IMAGE_BUCKET
from erasestream.pipeline.settings import LaneSettings
from erasestream.topics.admin.provisioning import provision
from erasestream.topics.catalog.roles import Role
from erasestream.topics.kafka.admin import Admin
from erasestream.topics.kafka.connection import Cluster, Connection
from erasestream.topics.kafka.errors import ClientErrorState
from tests.bench.running_pipeline import BULK, SHOP
from tests.faults.broker_faults import BrokerFaults
from tests.faults.bucket_listing import count_objects
from tests.faults.fault_plan import BROKERS, KEY_REPLICAS, Fault, FaultKind
from tests.faults.observer import Observer
from tests.faults.proxy import HOST, Proxy
from tests.faults.stage_exits import StageExit
from tests.faults.stage_supervisor import StageSupervisor
from tests.paths import CACHE

HEAP_MB = 320
SLOWED_S = 10.0
CHECKER = Role("checker")
PROVISION_S = 300.0


class StormCluster:
    """The whole pipeline.  `inject` causes a fault; `tick` ends faults that are due."""

    def __init__(self, folder: Path, *, models: Path, partitions: int, dice: random.Random) -> None:
        """`partitions` of each lane's uploads."""
        self.injected: Counter[str] = Counter()
        """How often each kind of fault was injected."""
        self._dice = dice
        self.stack = Stack(folder / "stack", cache=CACHE)
        lanes = {lane: LaneSettings(partitions=partitions) for lane in (SHOP, BULK)}
        self.stack.create(
            models=models,
            model="tiny",
            lanes=lanes,
            nodes=BROKERS,
            key_replicas=len(KEY_REPLICAS),
            heap_mb=HEAP_MB,
            java_options=SHORT_LIVED,
        )
        listeners = self.stack.proxied_listeners
        self._proxies = [Proxy(port=each.advertised_port, target=each.port) for each in listeners]
        servers = tuple(f"{HOST}:{each.advertised_port}" for each in listeners)
        self.proxied = Cluster(
            bootstrap_servers=servers,
            identities=self.stack.files.identities,
            key_endpoints=self.stack.cluster.key_endpoints,
        )
        """The cluster as clients reach it through the proxies."""
        self.brokers = BrokerFaults(self.stack)
        self.stages = StageSupervisor(self.stack, proxied_servers=servers)

    @property
    def exits(self) -> list[StageExit]:
        """Stages and brokers that ended without being killed."""
        return self.stages.exits + self.brokers.exits

    def start(self) -> None:
        """Start servers, create topics and rights, let the checker read, then start the stages."""
        for proxy in self._proxies:
            proxy.start()
        self.stack.start_servers()
        admin = Admin(self.stack.admin())
        provision(admin, self.stack.catalog(), show=lambda _: None, deadline_s=PROVISION_S)
        self._let_checker_read(admin)
        self.stages.start()

    def stop(self) -> None:
        """Stop every process and proxy."""
        with ExitStack() as closing:
            for proxy in self._proxies:
                closing.callback(proxy.stop)
            closing.callback(self.stack.stop)
            self.brokers.resume_all()

    def inject(self, fault: Fault) -> None:
        """Cause the fault."""
        proxy = self._proxies[fault.broker]
        match fault.kind:
            case FaultKind.KILL_STAGE:
                self.stages.kill(fault.stage)
            case FaultKind.STOP_STAGE:
                self.stages.suspend(fault.stage)
            case FaultKind.KILL_BROKER:
                self.brokers.kill(fault.broker)
            case FaultKind.STOP_BROKER:
                self.brokers.suspend(fault.broker)
            case FaultKind.SLOW:
                proxy.slow(self._dice, SLOWED_S)
            case FaultKind.CUT:
                proxy.cut(self._dice)
        self.injected[fault.kind] += 1

    def tick(self, *, heal: bool = False) -> None:
        """End the faults that are due, or all of them to `heal`; restart what has ended."""
        self.stages.resume(at_once=heal)
        self.brokers.recover(at_once=heal)
        self.stages.restart_ended()

    def is_whole(self) -> bool:
        """Return whether every stage is ready, all brokers are up and all replicas in sync."""
        return self.stages.are_ready() and self.brokers.are_back()

    def observe(self) -> Observer:
        """Start an observer of all topics."""
        topics = {topic.name: topic.partitions for topic in self.stack.catalog().topics}
        connection = Connection(cluster=self.stack.cluster, role=CHECKER)
        return Observer(connection.settings(ClientErrorState()), topics)

    def stored(self) -> Counter[tuple[str, str, str]]:
        """Count the objects in the image bucket, with the auditor's rights."""
        files = self.stack.files
        settings = json.loads(files.bucket_settings.read_text())
        token = (files.tokens / "auditor.token").read_text().strip()
        endpoint = f"https://{settings['host']}:{settings['port']}"
        context = client_context(files.identities, "auditor")
        return count_objects(endpoint, IMAGE_BUCKET, token, context)

    def _let_checker_read(self, admin: Admin) -> None:
        files = self.stack.files
        authority = CertificateAuthority.load(
            files.directory / "authority", now=lambda: datetime.now(UTC)
        )
        authority.issue_role(CHECKER, files.identities)
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
            with admin.use() as client:
                admin.ask("the checker's right", client.create_acls([right])[right])
