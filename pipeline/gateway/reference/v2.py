"""`/v2` as it is declared."""

from collections.abc import Sequence
from http import HTTPStatus

from erasestream.pipeline.gateway.problems import HttpCode
from erasestream.pipeline.gateway.reference.operations import (
    BASE64,
    BINARY,
    FLAG,
    FLAG_OR_BOOLEAN,
    FORM,
    JSON,
    KEY_CODES,
    LIMIT_CODES,
    MULTIPART,
    TEXT,
    UPLOAD_CODES,
    UPLOAD_HEADERS,
    Answer,
    AnyCode,
    Contract,
    Field,
    Operation,
    Schema,
    errors_of,
)
from erasestream.pipeline.gateway.routes.v2 import PREFIX
from erasestream.schemas.options import MAX_DIMENSION, MAX_QUALITY, MIN_DIMENSION, Size

IMAGE_FILE = Field(
    name="image_file", schema=BINARY, description="JPEG, PNG or WebP, as a file: at most 30 MB."
)
IMAGE_TEXTS = (
    Field(name="image_base64", schema=BASE64, description="The same in Base64, or as a data URL."),
    Field(
        name="image",
        schema=BASE64,
        description="The same in Base64; asks for the mask, whatever `channels` is.",
    ),
    Field(
        name="image_url",
        schema=TEXT,
        description="Its https URL, where the operator allows that.",
    ),
)


def options(*, are_text: bool) -> Sequence[Field]:
    """Return the options, as fields of text or as JSON."""
    flag = FLAG if are_text else FLAG_OR_BOOLEAN
    return (
        Field(
            name="format",
            schema={"enum": ["png", "jpg", "jpeg", "webp", "zip", "auto"]},
            description="png by default; jpg is opaque on `bg_color` or white; zip has color.jpg "
            "and alpha.png; auto is the best webp that fits.",
        ),
        Field(
            name="channels",
            schema={"enum": ["rgba", "alpha"]},
            description="rgba by default; alpha is the mask alone, always a PNG.",
        ),
        Field(
            name="size",
            schema={"enum": [size.value for size in Size]},
            description="full or auto, the default: as large as the photo; hd 4, medium 1.5, "
            "preview, small and regular 0.25 megapixels.",
        ),
        Field(
            name="max_dimension",
            schema={"type": "integer", "minimum": MIN_DIMENSION, "maximum": MAX_DIMENSION},
            description="Longest side in pixels, instead of `size`.",
        ),
        Field(name="crop", schema=flag, description="Crop the empty area."),
        Field(
            name="crop_margin",
            schema=TEXT,
            description="Margin around the product: `20px`, or `5% 10%`.",
        ),
        Field(
            name="bg_color",
            schema=TEXT,
            description="Background: `81d4fa`, `#fff`, or one of the names of CSS 1.",
        ),
        Field(
            name="despill",
            schema=flag,
            description="Remove the old background's colour from soft edges; true by default.",
        ),
        Field(
            name="quality",
            schema={"type": "integer", "minimum": 1, "maximum": MAX_QUALITY},
            description="Quality of jpg and webp.",
        ),
    )


def error_schema(status: HTTPStatus, codes: Sequence[str]) -> Schema:
    """Return the schema of an error."""
    error = {
        "code": {"enum": list(codes)},
        "message": TEXT,
        "status": {"const": int(status)},
        "request_id": TEXT,
    }
    return errors_of({"error": errors_of(error)})


def _shown(status: HTTPStatus, code: AnyCode) -> tuple[HTTPStatus, str]:
    return status, code


_SIZE = {"width": {"type": "integer"}, "height": {"type": "integer"}}
_JSON_CUTOUT: Schema = {
    "anyOf": [
        errors_of({"image_base64": BASE64, "content_type": TEXT, **_SIZE}),
        errors_of({"mask": BASE64, "content_type": TEXT, **_SIZE}),
    ]
}
IMAGES: dict[str, Schema] = dict.fromkeys(
    ("image/png", "image/jpeg", "image/webp", "application/zip"), BINARY
)
_ACCOUNT = {"id": TEXT, "ai_training_data": {"enum": ["on", "off"]}}


CONTRACT = Contract(
    title="Images",
    shown=_shown,
    error_schema=error_schema,
    operations=(
        Operation(
            method="POST",
            path=PREFIX,
            summary="Cut out an image",
            headers=UPLOAD_HEADERS,
            bodies={
                MULTIPART: (IMAGE_FILE, *IMAGE_TEXTS, *options(are_text=True)),
                JSON: (*IMAGE_TEXTS, *options(are_text=False)),
                FORM: (*IMAGE_TEXTS, *options(are_text=True)),
            },
            answers={
                HTTPStatus.OK: Answer(
                    description="The cut-out: its bytes, or JSON to JSON.",
                    content={**IMAGES, JSON: _JSON_CUTOUT},
                )
            },
            codes=UPLOAD_CODES,
            is_limited=True,
        ),
        Operation(
            method="GET",
            path=f"{PREFIX}/account",
            summary="Describe the account",
            answers={
                HTTPStatus.OK: Answer(
                    description="Its id, the opt-in, and fields of the operator.",
                    content={JSON: errors_of({"account": errors_of(_ACCOUNT)})},
                )
            },
            codes=(*KEY_CODES, *LIMIT_CODES, HttpCode.OVERLOADED),
        ),
        Operation(
            method="GET",
            path=f"{PREFIX}/health",
            summary="Tell whether images can be sent",
            answers={
                HTTPStatus.OK: Answer(
                    description="They can.", content={JSON: errors_of({"status": {"const": "ok"}})}
                ),
                HTTPStatus.SERVICE_UNAVAILABLE: Answer(
                    description="They cannot, now.",
                    content={JSON: errors_of({"status": {"const": "unavailable"}})},
                ),
            },
            has_key=False,
        ),
    ),
)
