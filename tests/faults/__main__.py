"""kill -9 of the stages while uploads flow: `python -m tests.faults storm`.

One broker, two workers, two routers, a sink, two lanes, six accounts, of which two have opted
in and two never do.  Every two seconds one stage is killed and started again.  At the end the
checker counts.  The purger is left out: it would take away what is counted.
"""

import argparse
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path

from erasestream.pipeline.local.stack import Stack
from erasestream.schemas.consent import Channel
from erasestream.topics.catalog import ADMIN, RETAINED, LaneRole, ephemeral_of, lane_role
from erasestream.topics.connection import Connection, ErrorWatch
from erasestream.topics.consent import ConsentWriter
from erasestream.topics.producer import UploadProducer
from tests.bench.figures import Figure, publish
from tests.bench.running import BULK, SHOP, pipeline, wait_ready
from tests.faults import hostile
from tests.faults.checker import Verdict, judge, read
from tests.flow.pictures import noise, photo
from tests.inference.tiny_model import build_tiny_model

SECOND = {"infer": "infer-2", "route": "route-2"}
COMMANDS = {
    "infer": "infer",
    "route": "route",
    "sink": "sink",
    "infer-2": "infer",
    "route-2": "route",
}
KILL_EVERY_S = 2.0
SKEW_S = 3.0
DRAIN_S = 180.0
OPTED_IN, OPTED_OUT, FLIPPING = ("yes-1", "yes-2"), ("no-1", "no-2"), ("maybe-1", "maybe-2")

Sent = dict[str, tuple[str, str]]


def main() -> int:
    """Run, print, write `docs/figures/faults.json`; 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(prog="faults")
    parser.add_argument("only", nargs="?", choices=("storm", "hostile"))
    parser.add_argument("--uploads", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    given = parser.parse_args()
    sys.stderr.write(f"seed {given.seed}\n")
    if given.only == "hostile":
        return hostile.run(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        build_tiny_model(Path(folder))
        with pipeline(models=Path(folder), model="tiny") as stack:
            for first, second in SECOND.items():
                stack.start_stage(first, name=second, ERASESTREAM_STAGE__INSTANCE="2")
                wait_ready(stack, second)
            kills, sent, verdict = _storm(stack, given.uploads, random.Random(given.seed))
    for what, count in verdict.details.items():
        if count:
            sys.stderr.write(f"{count} {what}\n")
    wrong = {name: getattr(verdict, name) for name in ("lost", "duplicated", "misrouted")}
    publish(
        "faults.json",
        [
            Figure("faults.uploads", len(sent), "1"),
            Figure("faults.kills", kills, "1"),
            *(Figure(f"faults.{n}", count, "1", "= 0", count == 0) for n, count in wrong.items()),
        ],
    )
    return int(any(wrong.values())) | (0 if given.only else hostile.run(given.seed))


def _storm(stack: Stack, uploads: int, dice: random.Random) -> tuple[int, Sent, Verdict]:
    writers = {
        lane: ConsentWriter(
            connection=Connection(cluster=stack.cluster, role=lane_role(lane, LaneRole.ACCOUNT)),
            lane=lane,
        )
        for lane in (SHOP, BULK)
    }
    for writer in writers.values():
        for account in OPTED_IN:
            writer.grant(account, actor="owner", channel=Channel.LIBRARY)
    time.sleep(SKEW_S)
    kills = 0
    sent: Sent = {}
    next_kill = time.monotonic() + KILL_EVERY_S
    with UploadProducer(stack.cluster, SHOP) as shop, UploadProducer(stack.cluster, BULK) as bulk:
        producers = {SHOP: shop, BULK: bulk}
        for number in range(uploads):
            lane = dice.choice((SHOP, BULK))
            account = dice.choice(OPTED_IN + OPTED_OUT + FLIPPING)
            image = noise() if dice.random() < 0.1 else photo()
            receipt = producers[lane].send(image, account=account).result(60)
            sent[receipt.upload_id] = (lane, account)
            if number % 50 == 0:
                _flip(writers[lane], dice)
                sys.stderr.write(f"\r{number} uploads, {kills} kills")
            if time.monotonic() > next_kill:
                kills += _kill(stack, dice.choice(sorted(COMMANDS)))
                next_kill = time.monotonic() + KILL_EVERY_S
            _supervise(stack)
    sys.stderr.write("\nwaiting for the rest\n")
    return kills, sent, _settled(stack, sent)


def _flip(writer: ConsentWriter, dice: random.Random) -> None:
    account = dice.choice(FLIPPING)
    decide = writer.grant if dice.random() < 0.5 else writer.revoke
    decide(account, actor="owner", channel=Channel.LIBRARY)


def _kill(stack: Stack, name: str) -> int:
    stack.stage(name).kill()
    return 1


def _supervise(stack: Stack) -> None:
    """Start again what has ended, as a supervisor would."""
    for name, command in COMMANDS.items():
        if stack.stage(name).process_id is None:
            instance = "2" if name in SECOND.values() else "1"
            stack.start_stage(command, name=name, ERASESTREAM_STAGE__INSTANCE=instance)


def _settled(stack: Stack, sent: Sent) -> Verdict:
    """The verdict once it changes no more, or after the deadline."""
    settings = Connection(cluster=stack.cluster, role=ADMIN).settings(ErrorWatch())
    always = {upload for upload, (_, account) in sent.items() if account in OPTED_IN}
    never = {upload for upload, (_, account) in sent.items() if account in OPTED_OUT}
    end = time.monotonic() + DRAIN_S
    while True:
        _supervise(stack)
        delivered = {lane: read(settings, ephemeral_of(lane)) for lane in (SHOP, BULK)}
        retained = read(settings, RETAINED)
        verdict = judge(sent, delivered, retained, always=always, never=never)
        if not verdict.lost or time.monotonic() > end:
            return verdict
        time.sleep(2.0)


if __name__ == "__main__":
    sys.exit(main())
