"""Background removal on Kafka that can prove what it does with a customer's pixels.

`public_api` lists the public names, which are attributes of this package.  They are imported when
the first one is used: processes of the pipeline use none, and one that handles untrusted pixels
loads no Kafka client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from erasestream.public_api import *  # noqa: F403 (its __all__ lists the names)
else:

    def __getattr__(name: str) -> object:
        if name == "__all__" or not name.startswith("__"):
            public_api = import_module("erasestream.public_api")
            if name == "__all__" or name in public_api.__all__:
                value = globals()[name] = getattr(public_api, name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
