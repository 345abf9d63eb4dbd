"""Rendering of the page.  Every value is escaped; nothing in it is a script or a style.

The policy lets a browser load nothing but our own two files, and show images that the owner has
chosen or that were cut out in this page (`blob:`).
"""

from collections.abc import Mapping
from datetime import date, datetime
from http import HTTPStatus
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

HERE = Path(__file__).parent
CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    # Of other origins only: without it a browser hides from us which page a form is on.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
ASSETS: Mapping[str, str] = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Pages:
    """The templates, loaded once."""

    def __init__(self, *, service: str) -> None:
        """`service`: the name of the service, as its customers know it."""
        environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals["service"] = service
        environment.filters["moment"] = moment
        environment.filters["day"] = day
        self._environment = environment
        self._assets = {name: (HERE / "assets" / name).read_bytes() for name in ASSETS}

    def page(
        self, template: str, *, status: HTTPStatus = HTTPStatus.OK, **values: object
    ) -> Response:
        """Return a page."""
        text = self._environment.get_template(template).render(**values)
        return Response(text, status, headers=HEADERS, media_type="text/html")

    def asset(self, name: str) -> Response | None:
        """Return one of our files; None if there is none of this name."""
        if name not in self._assets:
            return None
        return Response(self._assets[name], headers=HEADERS, media_type=ASSETS[name])


def moment(time: datetime) -> str:
    """Return a time in words."""
    return f"{time.day} {time:%b %Y, %H:%M:%S} UTC"


def day(time: date) -> str:
    """Return a day in words."""
    return f"{time.day} {time:%b %Y}"
