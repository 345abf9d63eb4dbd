"""Answers about one image: its state as JSON, and its problems, each with the image's deadline."""

from datetime import datetime
from http import HTTPStatus

from starlette.responses import JSONResponse, Response

from erasestream.pipeline.gateway.problems import HttpCode, Problem, problem
from erasestream.pipeline.gateway.retention_deadline import RETENTION_DEADLINE, RetentionDeadlines
from erasestream.schemas.errors import SENTENCES
from erasestream.schemas.ids import UploadId
from erasestream.topics.index.table import Image

RETRY_AFTER = "1"


class ImageAnswers:
    """Answers of one lane's gateway."""

    def __init__(self, deadlines: RetentionDeadlines) -> None:
        self._deadlines = deadlines

    def state(self, upload_id: UploadId, image: Image, status: HTTPStatus) -> Response:
        """Return the state of an image as JSON."""
        deadline = self._deadlines.of(image.uploaded_at)
        described: dict[str, object] = {
            "id": upload_id,
            "state": _state_of(image),
            "uploaded_at": _text(image.uploaded_at),
            "retention_deadline": None if _is_kept(image) else _text(deadline),
        }
        if image.is_deleted:
            described["forgotten_at"] = _text(deadline)
            described["erasure"] = "requested" if image.is_retained else None
        else:
            described["retained"] = image.is_retained
        if image.code is not None:
            described["error"] = {"code": image.code, "message": _sentence(image.code)}
        headers = {RETENTION_DEADLINE: self.deadline(image), "Vary": "Accept"}
        if image.place is None and not image.is_deleted:
            headers["Retry-After"] = RETRY_AFTER
        return JSONResponse({"image": described}, status, headers=headers)

    def deadline(self, image: Image) -> str:
        """Return the value of the header `Retention-Deadline`."""
        is_kept = _is_kept(image)
        return self._deadlines.header(image.uploaded_at, is_retained=is_kept)

    def expired(self, image: Image) -> Problem:
        """Return the problem of an image that nothing can open any more."""
        at = self._deadlines.of(image.uploaded_at)
        found = problem(HTTPStatus.GONE, HttpCode.IMAGE_EXPIRED, f"since {_text(at)} at the latest")
        return self.with_deadline(found, image)

    def with_deadline(self, found: Problem, image: Image) -> Problem:
        """Return a problem with the image's deadline in its headers."""
        found.headers = {**found.headers, RETENTION_DEADLINE: self.deadline(image)}
        return found


def _is_kept(image: Image) -> bool:
    return image.is_retained and not image.is_deleted


def _state_of(image: Image) -> str:
    if image.is_deleted:
        return "deleted"
    if image.place is None:
        return "pending"
    return "done" if image.code is None else "failed"


def _sentence(code: str) -> str:
    return next((text for known, text in SENTENCES.items() if known == code), code)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
