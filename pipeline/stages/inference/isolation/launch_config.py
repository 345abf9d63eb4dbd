"""The configuration that a worker process is started with."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from erasestream.pipeline.runtime.sandbox.restrictions import Enforcement, Isolation
from erasestream.pipeline.stages.inference.imaging.limits import Limits


class LaunchConfig(BaseModel):
    """The only argument of a worker process, as JSON; `socket` is the descriptor of its end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Path
    parent: int
    socket: int
    memory_bytes: int
    isolation: Isolation
    enforcement: Enforcement
    limits: Limits
