"""The exactly-once loop loses all its connections at once, just when it asks or commits.

With librdkafka 2.16 it drops its brokers then before it has others, and what it was about to send
again never is: the call does not come back.

The end of a transaction is spared: a broker that is told it twice, since its first answer was
lost, may refuse the second, and the client then is fenced and its process ends.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping

import pytest

from erasestream.pipeline.local.broker import free_ports
from erasestream.pipeline.local.broker_config import SecondWay
from erasestream.schemas.errors import Unavailable
from erasestream.topics.catalog import ROUTER, cutouts_of, ephemeral_of
from erasestream.topics.connection import Cluster, Connection
from erasestream.topics.record import Partition, Record
from erasestream.topics.starts import Start
from erasestream.topics.transaction import TransactionalLoop
from tests.faults.proxy import HOST, Proxy
from tests.flow.waiting import eventually
from tests.topics.conftest import Market, opened_market
from tests.topics.copying import Copy
from tests.topics.routing import Bench

VALUES = [b"one", b"two", b"three", b"four"]


class Cutting(Copy):
    """Cuts the loop off once for each record: as it commits, or as it is to read it again."""

    def __init__(self, to: str, proxy: Proxy, *, at_commit: bool) -> None:
        super().__init__(to)
        self._proxy = proxy
        self._at_commit = at_commit
        self.cuts = 0

    def _cut(self) -> None:
        if self.cuts < len(set(self.handled)):
            self._proxy.cut_all()
            self.cuts += 1

    def before_asking(self) -> None:
        """The loop is about to ask where to begin; no transaction is open."""
        if not self._at_commit:
            self._cut()

    def metadata(self, _partition: Partition) -> str:
        """Asked for just before a commit."""
        if self._at_commit:
            self._cut()
        return ""

    def between(self, record: Record) -> None:
        """What the record needs is away for a moment, so where it lies is asked for again."""
        if not self._at_commit and record.value not in self.handled:
            self.handled.append(record.value)
            raise Unavailable("for a moment")


@pytest.fixture(scope="module")
def ways() -> SecondWay:
    """Where a second listener listens, and where the proxy before it does."""
    port, advertised_port = free_ports(2)
    return SecondWay(port=port, advertised_port=advertised_port)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory, ways: SecondWay) -> Iterator[Market]:
    """A broker of this module's own."""
    with opened_market(tmp_path_factory.mktemp("cut-off"), second_way=ways) as market:
        yield market


@pytest.fixture(scope="module")
def proxy(ways: SecondWay) -> Iterator[Proxy]:
    """What the loop goes through."""
    proxy = Proxy(port=ways.advertised_port, target=ways.port)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.mark.parametrize("at_commit", [True, False], ids=["commits", "asks where to begin"])
def test_a_loop_that_is_cut_off_goes_on(
    market: Market, proxy: Proxy, ways: SecondWay, at_commit: bool
) -> None:
    """By itself, and everything is there once."""
    bench = Bench(market, market.open_lane())
    cluster = Cluster(
        bootstrap_servers=(f"{HOST}:{ways.advertised_port}",), identities=market.identities
    )
    copy = Cutting(ephemeral_of(bench.lane), proxy, at_commit=at_commit)
    loop = TransactionalLoop(
        connection=Connection(cluster=cluster, role=ROUTER),
        topics=[cutouts_of(bench.lane)],
        instance="copy",
        handler=copy,
        stopping=threading.Event(),
    )
    of = loop._starts.of

    def of_cut_off(partitions: Iterable[Partition]) -> Mapping[Partition, Start]:
        copy.before_asking()
        return of(partitions)

    loop._starts.of = of_cut_off  # type: ignore[method-assign]
    loop.start()
    try:
        for count, value in enumerate(VALUES, start=1):
            bench.put(cutouts_of(bench.lane), [value])

            def committed(count: int = count) -> bool:
                loop.turn()
                return loop.tally.records == count

            eventually("it is committed", committed, deadline_s=60, poll_s=0)
    finally:
        loop.close()
        written = [record.value for record in bench.records(ephemeral_of(bench.lane), 2)]
        bench.close()
    assert written == VALUES
    assert copy.cuts == len(VALUES)
