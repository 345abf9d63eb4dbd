"""The pools of a worker, one for each model, started and closed together."""

from collections.abc import Iterable
from contextlib import AsyncExitStack

from erasestream.pipeline.stages.inference.isolation.process_pool import ProcessPool


class Pools:
    """Pools that a worker needs all of.  Together they have as many children as it works on."""

    def __init__(self, pools: Iterable[ProcessPool]) -> None:
        self._pools = tuple(pools)

    async def start(self) -> None:
        """Start all, one after another.  Raises as the first that does not start; none is left."""
        async with AsyncExitStack() as opened:
            for pool in self._pools:
                await pool.start()
                opened.push_async_callback(pool.close)
            opened.pop_all()

    async def close(self) -> None:
        """Close all."""
        async with AsyncExitStack() as opened:
            for pool in self._pools:
                opened.push_async_callback(pool.close)
