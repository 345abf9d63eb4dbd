"""A lane gets more partitions: running clients use them, long before librdkafka would by itself."""

from erasestream.schemas.ids import Lane
from erasestream.topics.client.result_subscription import ResultSubscription
from erasestream.topics.client.upload_producer import UploadProducer
from tests.flow.waiting import eventually
from tests.kafka_fixture import PARTITIONS, KafkaFixture
from tests.topics.client.results import ResultWriter, cutout, take
from tests.topics.client.uploads import PNG, TIMEOUT_S

GROWN = PARTITIONS + 2
DEADLINE_S = 120.0
"""On a busy machine; librdkafka's own interval is 300 s."""


def test_added_partitions_are_used(
    kafka: KafkaFixture, lane: Lane, router: ResultWriter, results: ResultSubscription
) -> None:
    with UploadProducer(kafka.cluster, lane, sealed=False) as producer:
        used = {producer.send(PNG, account="a").result(TIMEOUT_S).partition}
        router.write(cutout(1))
        take(results, 1)[0].ack()

        kafka.grown[lane] = GROWN
        kafka.provision(kafka.catalog())
        later = ResultWriter(kafka, lane)
        for partition in range(PARTITIONS, GROWN):
            later.write(cutout(10 + partition), partition=partition)

        def uses_all() -> bool:
            used.add(producer.send(PNG, account="a").result(TIMEOUT_S).partition)
            return used == set(range(GROWN))

        eventually("the producer uses every partition", uses_all, deadline_s=DEADLINE_S)
        assert {each.partition for each in take(results, 2)} == set(range(PARTITIONS, GROWN))
