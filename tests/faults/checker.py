"""What came of it, counted by somebody who shares no code with the router.

Reads every topic as it lies there, with a bare client: headers and values, nothing parsed by
our own events.
"""

from collections import Counter
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

SILENCE_S = 5.0


@dataclass
class Verdict:
    """What is wrong, in numbers; all zero is right."""

    lost: int = 0
    duplicated: int = 0
    misrouted: int = 0
    details: Counter[str] = field(default_factory=Counter)


def read(settings: dict[str, object], topic: str) -> list[dict[str, str]]:
    """The headers of every committed record of a topic."""
    consumer = Consumer(
        settings
        | {
            "group.id": "checker",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        open_ends, found = set(partitions), []
        while open_ends:
            message = consumer.poll(SILENCE_S)
            if message is None:
                continue
            error = message.error()
            if error is None:
                found.append(_headers(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                open_ends.discard(message.partition() or 0)
        return found
    finally:
        consumer.close()


def _headers(message: Message) -> dict[str, str]:
    return {str(name): bytes(value or b"").decode() for name, value in message.headers() or []}  # type: ignore[arg-type]


def judge(
    sent: dict[str, tuple[str, str]],
    delivered: dict[str, list[dict[str, str]]],
    retained: list[dict[str, str]],
    *,
    always: set[str],
    never: set[str],
) -> Verdict:
    """Compare what was sent (id: lane, account) with what lies in the topics.

    `always` are ids that must be retained, `never` those that must not; of the others nothing
    is said, since a decision was being made beside them.
    """
    verdict = Verdict()
    seen = Counter(h["ce_id"] for headers in delivered.values() for h in headers)
    verdict.lost = len(sent.keys() - seen.keys())
    verdict.duplicated = sum(count - 1 for count in seen.values())
    for lane, headers in delivered.items():
        for each in headers:
            if sent.get(each["ce_id"]) != (lane, each["ce_account"]):
                verdict.details["delivered in another lane or account"] += 1
    parts = Counter((h["ce_id"], h["ce_part"]) for h in retained)
    verdict.duplicated += sum(count - 1 for count in parts.values())
    kept = {upload for upload, _part in parts}
    verdict.details["retained though not opted in"] += len(kept & never)
    verdict.details["not retained though opted in"] += len(always - kept)
    verdict.details["one part without the other"] += sum(
        (upload, part) not in parts for upload in kept for part in ("original", "cutout")
    )
    for each in retained:
        if sent.get(each["ce_id"]) != (each["ce_lane"], each["ce_account"]):
            verdict.details["retained under another lane or account"] += 1
    verdict.misrouted = verdict.details.total()
    return verdict
