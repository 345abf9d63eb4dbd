"""The time that an image may take, and the count of those that took long.

The time follows from the declared size (`frame_size`): an image of the largest accepted size has
three times that of a small one, which is more than the steps take in proportion (with IS-Net on
one core: a second for two megapixels, 10 s for 50).  One of more than 50 megapixels is scaled down
to so many, and has no more time.

The parent does not see the size of a sealed image: it allows the time of the largest, and the
child, which opens the image, limits itself.
"""

import logging
import signal
import threading

from erasestream.pipeline.stages.inference.imaging import frame_size
from erasestream.schemas.events.images import MAX_CUTOUT_PIXELS

log: logging.Logger = logging.getLogger(__name__)

DEADLINE_S = 20.0
"""For a small image; 22 s for two megapixels, 60 s for the largest."""
_MORE_FOR_LARGEST = 2.0
SLOW = 0.5
"""Share of its time from which an image is slow."""
COUNTER = "erasestream_slow_images_total"


def deadline_of(image: bytes, deadline_s: float) -> float:
    """Return the seconds that this image may take, where a small one has `deadline_s`."""
    share = min(1.0, frame_size.pixels(image) / MAX_CUTOUT_PIXELS)
    return deadline_s * (1 + _MORE_FOR_LARGEST * share)


def longest_deadline(deadline_s: float) -> float:
    """Return the seconds that the largest image may take."""
    return deadline_s * (1 + _MORE_FOR_LARGEST)


def limit_own_time(image: bytes, deadline_s: float) -> None:
    """Let the kernel end this process (SIGALRM) once the image's time is over."""
    signal.setitimer(signal.ITIMER_REAL, deadline_of(image, deadline_s))


class SlowImages:
    """Counts slow images, those that exceeded their deadline included.  Thread-safe."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Slow images so far."""
        return self._count

    def add_if_slow(self, seconds: float, *, deadline_s: float) -> None:
        """Count an image that took so long, and log it, by its time only."""
        if seconds >= SLOW * deadline_s:
            with self._lock:
                self._count += 1
            log.warning("slow_image", extra={"seconds": round(seconds, 1), "count": self._count})

    def metrics_text(self) -> str:
        """Return the counter in the text format of Prometheus."""
        return (
            f"# HELP {COUNTER} Images that took half of their deadline or longer.\n"
            f"# TYPE {COUNTER} counter\n"
            f"{COUNTER} {self._count}\n"
        )
