"""The rows of the catalog: every topic, with its events, writers and readers."""

from collections.abc import Iterator
from typing import NamedTuple

from erasestream.schemas.events.consent import ConsentDecision
from erasestream.schemas.events.credentials import (
    CredentialsClosed,
    CredentialSet,
    CredentialUsed,
)
from erasestream.schemas.events.image_index import ImageMarked, ResultIndexed
from erasestream.schemas.events.images import Cutout, Failure, Retained, Upload
from erasestream.schemas.events.installation import InstallationMarked
from erasestream.schemas.events.ledger import (
    DecisionEntry,
    ErasureEntry,
    ErasureProgress,
    Finding,
    GrantErased,
    KeyDestroyed,
    MasterDestroyed,
    ReceiptIssued,
    Repair,
    UploadErased,
    UploadErasureRequested,
    UploadHeld,
)
from erasestream.schemas.ids import Lane
from erasestream.topics.catalog import retention_budget
from erasestream.topics.catalog.lane_spec import LaneSpec, Sealing
from erasestream.topics.catalog.retention_budget import Policy
from erasestream.topics.catalog.roles import (
    ADMIN,
    AUDITOR,
    ERASER,
    INFERENCE,
    KEYS,
    OPERATOR,
    PURGER,
    ROTATOR,
    ROUTER,
    SINK,
    LaneRole,
    Role,
    lane_role,
)
from erasestream.topics.catalog.topic import Key, Topic
from erasestream.topics.catalog.topic_names import (
    INSTALLATION,
    LEDGER,
    RETAINED,
    consent_of,
    credentials_of,
    cutouts_of,
    ephemeral_of,
    erasures_of,
    held_of,
    index_of,
    ledger_of,
    marks_of,
    receipts_of,
    revocations_of,
    uploads_of,
)


class PartitionCounts(NamedTuple):
    """Partitions of the topics that are not sized for each lane."""

    consent: int
    """Of each lane's decisions: never changeable."""
    history: int
    """Of each lane's ledger, erasures and counts, and of `ledger`: never changeable."""
    retained: int


def topics_of(
    lanes: tuple[LaneSpec, ...],
    policy: Policy,
    counts: PartitionCounts,
    granting: tuple[Role, ...],
) -> Iterator[Topic]:
    """Yield all topics; `granting`: the operators that may grant."""
    for spec in lanes:
        if spec.gateway:  # first: a partition of results has its partition of the index
            yield from _index_topics(spec, policy)
        yield from _image_topics(spec, policy)
        yield _consent_topic(spec.name, policy, counts.consent, granting)
        yield from _history_topics(spec.name, counts.history, granting)
        if spec.gateway:
            yield _credentials_topic(spec.name, policy)
            yield from _page_topics(spec.name, counts.history)
    yield Topic(
        name=RETAINED,
        events=(Retained,),
        key=Key.UPLOAD_ID,
        partitions=counts.retained,
        writers=(ROUTER,),
        readers=(SINK,),
        purgers=(PURGER,),
        lifetime=retention_budget.retained(policy, tuple(spec.times for spec in lanes)),
        sealing=_sealing_of(lanes),
    )
    yield Topic(
        name=LEDGER,
        events=(Finding, Repair, KeyDestroyed, MasterDestroyed),
        key=Key.LANE,
        partitions=counts.history,
        writers=(ROUTER, SINK, ERASER, ADMIN, KEYS, ROTATOR),
        readers=(OPERATOR, ERASER, AUDITOR),
    )
    yield Topic(
        name=INSTALLATION,
        events=(InstallationMarked,),
        key=Key.NONE,
        partitions=1,
        writers=(ADMIN,),
        readers=(
            *(lane_role(spec.name, LaneRole.ACCOUNT) for spec in lanes),
            OPERATOR,
            ROUTER,
            SINK,
            AUDITOR,
        ),
    )


def _sealing_of(lanes: tuple[LaneSpec, ...]) -> Sealing:
    """Return the sealing of a topic that all lanes share."""
    is_required = all(spec.sealing is Sealing.REQUIRED for spec in lanes)
    return Sealing.REQUIRED if is_required else Sealing.ACCEPTED


def _image_topics(spec: LaneSpec, policy: Policy) -> Iterator[Topic]:
    lane = spec.name
    # In the order of creation: a partition of results exists before its partition of uploads.
    yield Topic(
        name=cutouts_of(lane),
        events=(Cutout, Failure),
        key=Key.NONE,
        partitions=spec.partitions,
        writers=(INFERENCE,),
        readers=(ROUTER,),
        purgers=(PURGER,),
        lifetime=retention_budget.cutouts(policy, spec.times),
        sealing=spec.sealing,
    )
    yield Topic(
        name=ephemeral_of(lane),
        events=(Cutout, Failure),
        key=Key.NONE,
        partitions=spec.partitions,
        writers=(ROUTER,),
        readers=(lane_role(lane, LaneRole.CONSUMER),),
        lifetime=retention_budget.ephemeral(policy, spec.times),
        sealing=spec.sealing,
    )
    yield Topic(
        name=uploads_of(lane),
        events=(Upload,),
        key=Key.NONE,
        partitions=spec.partitions,
        writers=(lane_role(lane, LaneRole.PRODUCER),),
        readers=(INFERENCE, ROUTER),
        purgers=(PURGER,),
        lifetime=retention_budget.uploads(policy, spec.times),
        sealing=spec.sealing,
    )


def _consent_topic(lane: Lane, policy: Policy, placed: int, granting: tuple[Role, ...]) -> Topic:
    account = lane_role(lane, LaneRole.ACCOUNT)
    return Topic(
        name=consent_of(lane),
        events=(ConsentDecision,),
        key=Key.ACCOUNT,
        partitions=placed,
        writers=(account, *granting, ERASER),  # the eraser writes heartbeats
        readers=(account, OPERATOR, ROUTER, SINK, ERASER),
        superseded=retention_budget.superseded(policy),
    )


def _credentials_topic(lane: Lane, policy: Policy) -> Topic:
    account = lane_role(lane, LaneRole.ACCOUNT)  # as for consent: no operator can act as an owner
    return Topic(
        name=credentials_of(lane),
        events=(CredentialSet, CredentialUsed, CredentialsClosed),
        key=Key.KEY_ID,
        partitions=1,
        writers=(account,),
        readers=(account,),
        superseded=retention_budget.superseded(policy),
    )


def _index_topics(spec: LaneSpec, policy: Policy) -> Iterator[Topic]:
    account = lane_role(spec.name, LaneRole.ACCOUNT)  # as for credentials
    lifetime = retention_budget.metadata(policy, spec.times)
    yield Topic(
        name=index_of(spec.name),
        events=(ResultIndexed,),
        key=Key.NONE,
        partitions=spec.partitions,
        writers=(ROUTER,),
        readers=(account,),
        metadata_lifetime=lifetime,
    )
    yield Topic(
        name=marks_of(spec.name),
        events=(ImageMarked,),
        key=Key.IMAGE_KEY,
        partitions=1,
        writers=(account,),
        readers=(account,),
        metadata_lifetime=lifetime,
    )


def _page_topics(lane: Lane, placed: int) -> Iterator[Topic]:
    account = lane_role(lane, LaneRole.ACCOUNT)
    yield Topic(
        name=held_of(lane),
        events=(UploadHeld,),
        key=Key.LANE_AND_ACCOUNT,
        partitions=placed,
        writers=(ROUTER,),  # in transactions, so that no other role may write here
        readers=(account,),
    )
    yield Topic(
        name=receipts_of(lane),
        events=(ReceiptIssued,),
        key=Key.LANE_AND_ACCOUNT,
        partitions=placed,
        writers=(ERASER,),
        readers=(account, ERASER),
    )


def _history_topics(lane: Lane, placed: int, granting: tuple[Role, ...]) -> Iterator[Topic]:
    account = lane_role(lane, LaneRole.ACCOUNT)
    yield Topic(
        name=ledger_of(lane),
        events=(DecisionEntry, ErasureEntry, UploadErasureRequested, Finding),
        key=Key.LANE_AND_ACCOUNT,
        partitions=placed,
        writers=(account, *granting, ROUTER, ERASER),
        readers=(account, OPERATOR, ERASER, AUDITOR),
    )
    yield Topic(
        name=erasures_of(lane),
        events=(ErasureEntry, ErasureProgress, GrantErased, UploadErased),
        key=Key.LANE_AND_ACCOUNT,
        partitions=placed,
        writers=(ERASER,),
        readers=(account, OPERATOR, ERASER, AUDITOR),
    )
    yield Topic(
        name=revocations_of(lane),
        events=(ConsentDecision,),
        key=Key.ACCOUNT,
        partitions=1,
        writers=(OPERATOR,),
        readers=(account, OPERATOR, ROUTER, SINK, ERASER, AUDITOR),
    )
