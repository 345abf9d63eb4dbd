"""`/v1.0` as it is declared."""

from collections.abc import Mapping, Sequence
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
    MULTIPART,
    TEXT,
    UPLOAD_CODES,
    UPLOAD_HEADERS,
    Answer,
    AnyCode,
    Contract,
    Field,
    Header,
    Operation,
    Schema,
    errors_of,
)
from erasestream.pipeline.gateway.reference.v2 import IMAGE_FILE, IMAGES
from erasestream.pipeline.gateway.routes.removebg import (
    BACKGROUND_FILE,
    PREFIX,
    shown_code,
    shown_status,
)
from erasestream.pipeline.gateway.routes.removebg_options import (
    FORMATS,
    SIZES,
    TYPES,
    WITHOUT_EFFECT,
)
from erasestream.schemas.events.foreground import Foreground

_IMAGE_TEXTS = (
    Field(name="image_file_b64", schema=BASE64, description="The image in Base64."),
    Field(
        name="image_url", schema=TEXT, description="Its https URL, where the operator allows that."
    ),
)
_BACKGROUND = Field(name=BACKGROUND_FILE, schema=BINARY, description="Refused.")


def _options(*, are_text: bool) -> Sequence[Field]:
    flag = FLAG if are_text else FLAG_OR_BOOLEAN
    return (
        Field(name="size", schema={"enum": sorted(SIZES)}, description="preview by default."),
        Field(
            name="format",
            schema={"enum": list(FORMATS)},
            description="auto by default: png, or jpg with a `bg_color`.",
        ),
        Field(name="crop", schema=flag, description="Crop the empty area."),
        Field(name="crop_margin", schema=TEXT, description="Margin around the product."),
        Field(name="bg_color", schema=TEXT, description="Background."),
        Field(
            name="channels",
            schema={"enum": ["rgba", "alpha"]},
            description="rgba by default; alpha is the mask alone.",
        ),
        *(
            Field(name=name, schema={"enum": sorted(values)}, description="Answered as auto.")
            for name, values in TYPES.items()
        ),
        *(_without_effect(name, sorted(values)) for name, values in WITHOUT_EFFECT.items()),
    )


def _without_effect(name: str, values: Sequence[str]) -> Field:
    if not values:
        return Field(name=name, schema=TEXT, description="Refused.")
    return Field(name=name, schema={"enum": values}, description="Other values are refused.")


def error_schema(_status: HTTPStatus, codes: Sequence[str]) -> Schema:
    """Return the schema of an error."""
    error = errors_of({"title": TEXT, "code": {"enum": list(codes)}, "detail": TEXT})
    return errors_of({"errors": {"type": "array", "items": error, "minItems": 1, "maxItems": 1}})


def _shown(status: HTTPStatus, code: AnyCode) -> tuple[HTTPStatus, str]:
    return shown_status(status), shown_code(code)


_NUMBER: Schema = {"type": "integer"}
_HEADERS = (
    Header(name="X-Width", description="Width of the cut-out.", schema=_NUMBER),
    Header(name="X-Height", description="Height of the cut-out.", schema=_NUMBER),
    Header(name="X-Type", description="Always auto."),
    Header(name="X-Credits-Charged", description="Always 0.", schema=_NUMBER),
)
_BOX_HEADERS = tuple(
    Header(
        name=f"X-Foreground-{side.capitalize()}",
        description="Where the product is, if it is visible.",
        schema=_NUMBER,
        is_always=False,
    )
    for side in Foreground._fields
)
_RESULT: Schema = {
    "type": "object",
    "properties": {
        "result_b64": BASE64,
        **{f"foreground_{side}": _NUMBER for side in Foreground._fields},
    },
    "required": ["result_b64"],
}
_CREDITS: Mapping[str, Schema] = dict.fromkeys(
    ("total", "subscription", "payg", "enterprise"), _NUMBER
)
_ACCOUNT = errors_of(
    {
        "credits": errors_of(_CREDITS),
        "api": errors_of({"free_calls": _NUMBER, "sizes": TEXT}),
    }
)

CONTRACT = Contract(
    title="Clients of remove.bg",
    shown=_shown,
    error_schema=error_schema,
    operations=(
        Operation(
            method="POST",
            path=f"{PREFIX}/removebg",
            summary="Cut out an image",
            headers=UPLOAD_HEADERS,
            bodies={
                MULTIPART: (IMAGE_FILE, _BACKGROUND, *_IMAGE_TEXTS, *_options(are_text=True)),
                JSON: (*_IMAGE_TEXTS, *_options(are_text=False)),
                FORM: (*_IMAGE_TEXTS, *_options(are_text=True)),
            },
            answers={
                HTTPStatus.OK: Answer(
                    description="The cut-out: its bytes, or JSON to clients that take only that.",
                    content={
                        **IMAGES,
                        JSON: errors_of({"data": _RESULT}),
                    },
                    headers=(*_HEADERS, *_BOX_HEADERS),
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
                    description="Its credits, which are the operator's.",
                    content={JSON: errors_of({"data": errors_of({"attributes": _ACCOUNT})})},
                )
            },
            codes=KEY_CODES,
        ),
        Operation(
            method="POST",
            path=f"{PREFIX}/improve",
            summary="Refused: owners decide at /account",
            answers={},
            codes=(HttpCode.FORBIDDEN,),
            has_key=False,
        ),
    ),
)
