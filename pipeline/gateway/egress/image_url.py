"""Parse the URL of an image, strictly: one reading is possible, or it is refused.  Pure.

* `https` on port 443, without a user.  The host is a name in ASCII with a dot (an international
  one in its form `xn--`) whose last label begins with a letter: no address in any notation.
* What browsers write in other ways, the target may have as it is: spaces and letters beyond ASCII
  are percent-encoded.  A fragment is dropped.
"""

import re
from typing import NamedTuple
from urllib.parse import quote, urljoin

MAX_URL = 2048
"""Characters."""
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"({_LABEL}\.)+(?=[a-z]){_LABEL}")
_MAX_NAME = 253
_URL = re.compile(r"(?i:https)://([A-Za-z0-9.-]+)(?::443)?([/?][!-~]*)?")


class InvalidUrl(ValueError):
    """Not the URL of an image that may be fetched."""


class ImageUrl(NamedTuple):
    """Host in lower case, and path with query as they are requested."""

    host: str
    target: str

    @classmethod
    def parse(cls, text: str) -> "ImageUrl":
        """Return the parts of a URL.  Raises `InvalidUrl`."""
        text = text.strip(" ").partition("#")[0]
        if len(text) > MAX_URL or not text.isprintable():
            raise InvalidUrl
        match = _URL.fullmatch(quote(text, safe=_PRINTABLE))
        if match is None:
            raise InvalidUrl
        host, target = match[1].lower(), match[2] or "/"
        if len(host) > _MAX_NAME or not _NAME.fullmatch(host):
            raise InvalidUrl
        return cls(host, target if target.startswith("/") else f"/{target}")

    def redirected(self, location: str) -> "ImageUrl":
        """Return where a redirect leads, on the same host.  Raises `InvalidUrl`."""
        if len(location) > MAX_URL:
            raise InvalidUrl
        try:
            url = ImageUrl.parse(urljoin(f"https://{self.host}{self.target}", location))
        except ValueError:  # of urljoin
            raise InvalidUrl from None
        if url.host != self.host:
            raise InvalidUrl
        return url
