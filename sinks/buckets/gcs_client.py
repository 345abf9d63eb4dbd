"""The Google Cloud Storage client of one bucket: transport and identity."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import google.auth
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Client

from erasestream.schemas.errors import NotAuthenticated, Refused
from erasestream.sinks.buckets.http_transport import OperationDeadline, mount
from erasestream.sinks.secret_file import MODES, is_exposed

GOOGLE = "https://storage.googleapis.com"
SCOPES = ("https://www.googleapis.com/auth/devstorage.full_control",)
"""The narrowest scope with which an IAM policy can be read; the policy itself limits the role."""


class GcsSettings(NamedTuple):
    """A bucket: its name, address and largest object, and the identity to use."""

    bucket: str
    max_object_bytes: int
    """Largest object to be created."""
    endpoint: str = GOOGLE
    ca_file: Path | None = None
    """The only trusted authority; without it, the public ones."""
    token_file: Path | None = None
    """The role's bearer token; without it, Application Default Credentials."""


class _TokenFile(Credentials):
    """A bearer token from a file; the file is read again when the server refuses the token."""

    def __init__(self, path: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._path = path

    def refresh(self, _: object) -> None:
        try:
            with self._path.open() as file:
                exposed = is_exposed(os.fstat(file.fileno()))
                token = file.read().strip()
        except OSError as error:
            raise Refused(f"the token file {self._path.name} cannot be read") from error
        if exposed:
            raise Refused(f"the token file {self._path.name} must be {MODES}")
        self.token = token


def open_client(
    settings: GcsSettings, deadline: OperationDeadline
) -> tuple[AuthorizedSession, Client]:
    """Open a client with the project's transport, and return its session, too.

    Raises `Refused` for settings that cannot work.
    """
    if not settings.endpoint.startswith("https://"):
        raise Refused("the bucket's endpoint must begin with https://")
    with ExitStack() as opened:
        credentials = credentials_of(settings.token_file, SCOPES)
        session = AuthorizedSession(credentials, max_refresh_attempts=1)  # type: ignore[no-untyped-call]
        opened.callback(session.close)
        mount(session, settings.ca_file, deadline)
        client = Client(
            project=None,
            credentials=credentials,
            _http=session,
            client_options={"api_endpoint": settings.endpoint},
        )
        # For its traces, the client would fetch the bucket's metadata in threads of its own,
        # without a deadline and with a right that our roles do not have.
        client._bucket_metadata_cache = None
        opened.pop_all()
    return session, client


def credentials_of(token_file: Path | None, scopes: tuple[str, ...]) -> Credentials:
    """Return the credentials in a file; without one, Application Default Credentials.

    Raises `Refused` if the file cannot be used, `NotAuthenticated` if there are none.
    """
    if token_file:
        token = _TokenFile(token_file)
        token.refresh(None)
        return token
    try:
        found, _ = google.auth.default(scopes=scopes)
    except DefaultCredentialsError as error:
        raise NotAuthenticated("no credentials for Google Cloud") from error
    return found
