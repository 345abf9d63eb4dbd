"""Time, CPU time and memory of a block of code in a process of its own."""

import gc
import json
import random
import sys
import time
from types import TracebackType
from typing import Self

from tests.bench.servers import memory_mb


def sample_images(size: int) -> list[bytes]:
    """Return a few byte strings that begin like a JPEG and continue with reproducible noise."""
    noise = random.Random(7)
    return [b"\xff\xd8\xff\xe0" + noise.randbytes(size - 4) for _ in range(4)]


class Measurement:
    """Measures the block that it is the context of; `report` prints the result."""

    def __enter__(self) -> Self:
        gc.collect()
        self._before_mb, _ = memory_mb()
        self._begun_cpu_s, self._begun_s = time.process_time(), time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._elapsed_s = time.monotonic() - self._begun_s
        self._cpu_s = time.process_time() - self._begun_cpu_s

    def report(self) -> None:
        """Print elapsed seconds, CPU seconds, and peak memory above that before the block."""
        _, peak_mb = memory_mb()
        report = {
            "s": self._elapsed_s,
            "cpu_s": self._cpu_s,
            "peak_mb": peak_mb - self._before_mb,
        }
        sys.stdout.write(json.dumps(report) + "\n")
