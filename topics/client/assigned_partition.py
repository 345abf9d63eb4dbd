"""One assigned partition: its progress, and how much of that is committed.  Pure."""

from erasestream.topics.client.acknowledged_offsets import from_metadata
from erasestream.topics.client.partition_progress import PartitionProgress
from erasestream.topics.kafka.consumer.offset_committer import DueCommit


class AssignedPartition:
    """The progress of a partition since it was assigned."""

    def __init__(self, committed: int | None = None, metadata: str = "") -> None:
        """Begin at the group's committed offset; None if it has none."""
        start = committed or 0
        self.progress = PartitionProgress(start, from_metadata(start, metadata))
        self._committed = None if committed is None else DueCommit(committed, metadata, 0, 0)

    @property
    def unsaved(self) -> int:
        """Number of acknowledgements that no commit has covered."""
        saved = self._committed.acknowledgements if self._committed else 0
        return self.progress.acknowledgements - saved

    def due(self, max_metadata_bytes: int) -> DueCommit | None:
        """Return what is to be committed; None if it is committed."""
        offset = self.progress.committable
        if offset is None:
            return None
        metadata = self.progress.metadata(max_metadata_bytes)
        if self._committed is not None and self._committed[:2] == (offset, metadata):
            return None
        return DueCommit(offset, metadata, self.progress.acknowledgements, self.unsaved)

    def mark_committed(self, commit: DueCommit) -> None:
        """Record that this is committed."""
        self._committed = commit
