"""Entry point of the command `erasestream`: of every stage, and of every other command.

Protects the process's memory before anything else, names the extra to install if one is missing,
and prints every error as one sentence.

Exit status, beside those of stages (`runtime/runner.py`): 1 the command failed, for a file that
cannot be read or written, say; 2 the command line is at fault.
"""

import logging
import sys

from erasestream.pipeline.runtime.memory_protection import forbid_core_dumps
from erasestream.schemas.errors import (
    AlreadyExists,
    Erased,
    ErasestreamError,
    InvalidInput,
    NotFound,
    ProofRefused,
    SealBroken,
)

EXTRAS = {
    "faust": "worker",
    "aiokafka": "worker",
    "onnx": "model",
    "onnxruntime": "worker",
    "PIL": "worker",
    "numpy": "worker",
    "google": "sink",
    "google_crc32c": "sink",
    "requests": "sink",
    "multipart": "gateway",
    "starlette": "gateway",
    "uvicorn": "gateway",
    "jinja2": "gateway",
    "psutil": "dev",
    "skimage": "dev",
}

LEFT_OUT = {"erasestream.pipeline.demo", "erasestream.pipeline.devstack"}
"""Packages that the images for production do not have."""

FAILED = 1
WRONG_USE = 2


def main() -> None:
    """Run the command line."""
    forbid_core_dumps()
    _show_reasons()
    try:
        from erasestream.pipeline.cli.app import app_for

        app_for(sys.argv[1:])()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if error.name in LEFT_OUT:
            sys.exit("This image has no embedded stack: use the target `local` of the Dockerfile.")
        if missing == "erasestream":
            raise
        sys.exit(f"{missing} is missing: pip install 'erasestream[{_extra(missing)}]'")
    except ErasestreamError as error:
        sys.stderr.write(f"{error.code}: {error.sentence}\n")
        sys.exit(_status_of(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"{where}{error.strerror or type(error).__name__}\n")
        sys.exit(FAILED)


def _status_of(error: ErasestreamError) -> int:
    """Return the exit status; 70, which asks for a restart, never for a mistake of the caller."""
    from erasestream.pipeline.runtime.runner import status_of

    match error:
        case InvalidInput():
            return WRONG_USE
        case NotFound() | AlreadyExists() | Erased() | SealBroken() | ProofRefused():
            return FAILED
        case _:
            return status_of(error)


def _show_reasons() -> None:
    """Add the reason to the warnings of commands, which set up no log (stages do)."""
    if logging.lastResort is not None:
        text = logging.Formatter("%(message)s: %(reason)s", defaults={"reason": ""})
        logging.lastResort.setFormatter(text)


def _extra(missing: str) -> str:
    """Return the extra that has this package, and all else that the command needs."""
    if sys.argv[1:3] == ["model", "install"]:
        return "model"
    # These import the embedded stack, whatever it is that they miss first.
    if sys.argv[1:2] in (["demo"], ["dev"]):
        return "dev"
    return EXTRAS.get(missing, "cli")


if __name__ == "__main__":
    main()
