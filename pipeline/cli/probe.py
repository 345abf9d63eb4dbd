"""`probe`: ask a stage in this network namespace whether it is alive, for its supervisor.

Health is on loopback, out of reach of everything outside the container: the supervisor runs this
command inside (`HEALTHCHECK`, `docker compose`, an exec probe of Kubernetes).
"""

import http.client
import sys
from enum import StrEnum
from typing import Annotated

import typer

from erasestream.pipeline.runtime.health import STAGE_HEADER
from erasestream.pipeline.settings import load
from erasestream.schemas.errors import Refused

TIMEOUT_S = 5.0


class StageName(StrEnum):
    """A stage, by the command that runs it."""

    INFER = "infer"
    ROUTE = "route"
    SINK = "sink"
    PURGE = "purge"
    ERASE = "erase"
    ATTEST = "attest"
    ROTATE = "rotate"
    KEYS = "keys"
    GATEWAY = "gateway"


StageArgument = Annotated[StageName, typer.Argument(help="The stage that must answer.")]
ReadyOption = Annotated[bool, typer.Option("--ready", help="Also require that it can work.")]


def probe(stage: StageArgument, *, ready: ReadyOption = False) -> None:
    """Succeed if the stage is alive, for the health check of a container."""
    port = load().stage.health_port
    if port == 0:
        raise Refused("settings: a probe needs stage.health_port: set it")
    if problem := problem_of(stage, port, "/readyz" if ready else "/healthz"):
        sys.stderr.write(f"{problem}\n")
        raise typer.Exit(1)


def problem_of(stage: str, port: int, page: str) -> str | None:
    """Return why a probe of this page fails, as a sentence; None if it succeeds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", page)
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException):
        return f"{stage} does not answer on port {port}."
    finally:
        connection.close()
    if answer.headers.get(STAGE_HEADER) != stage:
        return f"Another program than {stage} answers on port {port}."
    return None if answer.status == http.client.OK else f"{stage} is not ready."
