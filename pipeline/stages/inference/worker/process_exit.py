"""End the process on an unexpected error."""

import logging
import os
import sys

from erasestream.pipeline.runtime.runner import EX_SOFTWARE, status_of
from erasestream.schemas.errors import ErasestreamError

log: logging.Logger = logging.getLogger(__name__)


def exit_process(error: BaseException) -> None:
    """Exit before Faust acknowledges unfinished uploads; children end with this process."""
    fields = {"stage": "infer"}
    status = EX_SOFTWARE
    if isinstance(error, ErasestreamError):
        fields |= {"code": error.code, "reason": error.sentence}
        status = status_of(error)
    log.error("ended", extra=fields, exc_info=error)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
