"""Format the storage of a new broker."""

from pathlib import Path

from erasestream.pipeline.devstack.kafka.broker_config import BrokerConfig
from erasestream.pipeline.devstack.kafka.java_launcher import JavaLauncher

_TIMEOUT_S = 180.0


def format_storage(java: JavaLauncher, settings: Path, config: BrokerConfig) -> None:
    """Format the storage that the `settings` file names, as a voter of the broker's cluster."""
    quorum = ["--standalone"]
    if len(config.voters) > 1:
        voters = (f"{v.node_id}@{v.address}:{v.directory_id}" for v in config.voters)
        quorum = ["--initial-controllers", ",".join(voters)]
    java.run_tool(
        "kafka.tools.StorageTool",
        # A kill during an earlier format left a part of it: no broker has used that.
        *("format", "--ignore-formatted", "-t", config.cluster_id),
        *("-c", str(settings), *quorum),
        purpose="formatting the broker's storage",
        timeout_s=_TIMEOUT_S,
    )
