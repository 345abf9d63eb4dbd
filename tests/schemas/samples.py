"""One fixed event of each type: the content of the golden messages."""

from datetime import UTC, datetime

from erasestream.schemas.codec.result_headers import ResultHeaders
from erasestream.schemas.events.base import Event, Position
from erasestream.schemas.events.consent import Channel, ConsentDecision, Decision
from erasestream.schemas.events.credentials import (
    CredentialKind,
    CredentialsClosed,
    CredentialSet,
    CredentialUsed,
)
from erasestream.schemas.events.image_index import ImageMarked, ImageState, ResultIndexed
from erasestream.schemas.events.images import Cutout, Failure, Part, Retained, Upload
from erasestream.schemas.events.installation import Environment, InstallationMarked
from erasestream.schemas.events.ledger import (
    DecisionEntry,
    ErasureEntry,
    ErasureProgress,
    Finding,
    FindingKind,
    GrantErased,
    KeyDestroyed,
    KeyState,
    MasterDestroyed,
    ReceiptIssued,
    Repair,
    UploadErased,
    UploadErasureRequested,
    UploadErasureState,
    UploadHeld,
)
from erasestream.schemas.ids import AccountId, GrantId, Lane, UploadId
from erasestream.schemas.options import CutoutOptions, OutputFormat

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
ID = UploadId("019b7d2c-1d4e-7000-8000-00000000002a")
GRANT = GrantId("5b1ee0b3-0c1e-8c52-9c2f-3f5f3a2c1d00")
ACCOUNT = AccountId("acct-17")
LANE = Lane("shop")
POSITION = Position(topic_id="bTYs9Br5T5qhZMdsDXX9XA", partition=3, offset=4711)
PIXELS = b"\x89PNG\r\n\x1a\n not really an image"

RESULT = {
    "id": ID,
    "time": AT,
    "account": ACCOUNT,
    "reference": "listing-4711 \u00e9",
    "position": POSITION,
    "uploaded_at": AT,
}

SAMPLES: tuple[Event, ...] = (
    Upload(
        id=ID,
        time=AT,
        account=ACCOUNT,
        reference="listing-4711 \u00e9",
        content_type="image/png",
        options=CutoutOptions(format=OutputFormat.WEBP),
        data=PIXELS,
    ),
    Cutout(
        **RESULT,
        content_type="image/webp",
        model="isnet",
        model_sha256="ab" * 32,
        model_version="1.4.5",
        steps_ms={"decode": 5.0, "infer": 901.25},
        data=PIXELS,
    ),
    Failure(**RESULT, code="truncated", sentence="The image ends too early."),
    Retained(
        id=ID,
        time=AT,
        lane=LANE,
        account=ACCOUNT,
        part=Part.ORIGINAL,
        grant=GRANT,
        mark="2/118",
        position=POSITION,
        uploaded_at=AT,
        content_type="image/jpeg",
        data=PIXELS,
    ),
    ConsentDecision(
        id=ID,
        time=AT,
        account=ACCOUNT,
        decision=Decision.GRANTED,
        actor="owner",
        channel=Channel.ACCOUNT_PAGE,
    ),
    DecisionEntry(
        id=ID,
        time=AT,
        lane=LANE,
        account=ACCOUNT,
        decision=Decision.REVOKED,
        actor="operator:ann",
        channel=Channel.OPERATOR,
    ),
    ErasureEntry(id=ID, time=AT, lane=LANE, account=ACCOUNT, grant=GRANT),
    Finding(id=ID, time=AT, kind=FindingKind.UPLOADS_PURGED_UNPROCESSED, detail="3 uploads"),
    Repair(id=ID, time=AT, command="repair", detail="cutouts.shop/0", actor="operator:ann"),
    KeyDestroyed(
        id=ID,
        time=AT,
        purpose="results.shop",
        epoch=490898,
        public_key_sha256="ab" * 32,
        state=KeyState.UNREACHABLE,
    ),
    GrantErased(
        id=ID,
        time=AT,
        lane=LANE,
        account=ACCOUNT,
        grant=GRANT,
        decision=ID,
        recorded=AT,
        confirmed=AT,
        objects=2,
        objects_root="ab" * 32,
        keys=("1",),
        state=KeyState.UNREACHABLE,
    ),
    ErasureProgress(
        id=ID, time=AT, lane=LANE, account=ACCOUNT, grant=GRANT, deleted=1000, left=9000
    ),
    MasterDestroyed(id=ID, time=AT, master="1"),
    UploadErasureRequested(
        id=ID,
        time=AT,
        lane=LANE,
        account=ACCOUNT,
        upload=UploadId("listing-4711 \u00e9"),
        actor="owner",
        channel=Channel.ACCOUNT_PAGE,
    ),
    UploadErased(
        id=ID,
        time=AT,
        lane=LANE,
        account=ACCOUNT,
        upload=UploadId("listing-4711 \u00e9"),
        request=ID,
        recorded=AT,
        stored_as="ab" * 32,
        objects=2,
        objects_root="ab" * 32,
        state=UploadErasureState.GONE,
    ),
    ReceiptIssued(
        id=ID,
        time=AT,
        lane=LANE,
        account=ACCOUNT,
        kind="erasure",
        about=GRANT,
        receipt="c2sp.org/tlog-proof@v1\n",
    ),
    UploadHeld(
        id=ID,
        time=AT,
        lane=LANE,
        account=ACCOUNT,
        grant=GRANT,
        position=POSITION,
        uploaded_at=AT,
    ),
    InstallationMarked(id=ID, time=AT, environment=Environment.PRODUCTION),
    CredentialSet(
        id=ID,
        time=AT,
        account=ACCOUNT,
        key_id="0123456789ab",
        kind=CredentialKind.IMAGE,
        token_sha256="ab" * 32,
        label="shop",
        created_at=AT,
        expires_at=AT,
    ),
    CredentialUsed(id=ID, time=AT, key_id="0123456789ab", day=AT.date()),
    ResultIndexed(
        id=ID, owner=GRANT, offset=17, uploaded_at=AT, code="truncated", reference_sha256="ab" * 32
    ),
    ImageMarked(id=ID, time=AT, owner=GRANT, state=ImageState.DELETED),
    CredentialsClosed(id=ID, time=AT, account=ACCOUNT, closed_at=AT),
)


def headers_of(result: Cutout | Failure) -> ResultHeaders:
    is_cutout = isinstance(result, Cutout)
    has_capsule = isinstance(result, Cutout) and result.capsule is not None
    never_retain = isinstance(result, Cutout) and bool(result.never_retain)
    return ResultHeaders(
        is_cutout,
        result.account,
        result.position,
        result.uploaded_at,
        has_capsule,
        never_retain=never_retain,
    )
