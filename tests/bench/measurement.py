"""One turn of a client in a process of its own: how long it took, and what it used."""

import gc
import json
import random
import sys
import time
from types import TracebackType
from typing import Self

from tests.bench.servers import memory_mb


def sample_images(size: int) -> list[bytes]:
    """A few that begin like a JPEG and go on with noise, the same in every process."""
    noise = random.Random(7)
    return [b"\xff\xd8\xff\xe0" + noise.randbytes(size - 4) for _ in range(4)]


class Measurement:
    """Clocks that run from entering until leaving the block; `say` tells what they showed."""

    def __enter__(self) -> Self:
        gc.collect()
        self._before_mb, _ = memory_mb()
        self._cpu_s, self._started_s = time.process_time(), time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._took_s, self._used_s = (
            time.monotonic() - self._started_s,
            time.process_time() - self._cpu_s,
        )

    def say(self) -> None:
        """Seconds, seconds of processors, and peak memory above what it was before."""
        _, peak_mb = memory_mb()
        report = {
            "s": self._took_s,
            "cpu_s": self._used_s,
            "peak_mb": peak_mb - self._before_mb,
        }
        sys.stdout.write(json.dumps(report) + "\n")
