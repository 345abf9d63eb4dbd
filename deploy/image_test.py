"""Build all images and run each: `make image-test`.

Needs docker or podman, and from registries what `NEEDS` names.  Each container runs as in
docker-compose.yml: an ordinary user, a read-only root, no capabilities, no network.  The status
is 0 if all is well, 1 if an image is not as it should be, 78 if there is no engine.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
BASES = dict(re.findall(r"(?m)^ARG (\w+)=(\S+)$", DOCKERFILE))
NEEDS = f"""\
base images: {", ".join(BASES.values())} (variables {" and ".join(BASES)} name others)
Python packages: those of requirements/image, with hashes, through pip's settings"""

STAGES = {
    "cli": ("route", "purge"),
    "sink": ("sink", "erase", "attest", "rotate", "keys"),
    "worker": ("infer",),
    "gateway": ("gateway",),
    "model": (),
    "local": (),
}
"""The images, and the stages that each runs."""
LACKS = {
    "cli": ("onnxruntime", "PIL", "google_crc32c", "starlette", "pip"),
    "sink": ("onnxruntime", "PIL", "faust", "starlette", "pip"),
    "worker": ("onnx", "google_crc32c", "starlette", "pip"),
    "gateway": ("onnxruntime", "PIL", "google_crc32c", "faust", "pip"),
    "model": ("google_crc32c", "starlette"),
    "local": ("onnxruntime", "PIL", "pip"),
}
"""Modules that an image must not have."""
CONFINED = [
    "run",
    "--rm",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=none",
    "--user=1000:1000",
    "--ulimit=core=0",
    "--tmpfs=/tmp:size=64m,mode=1777",
]
FIND = """
import importlib.util, sys
sys.exit(", ".join(name for name in sys.argv[1:] if importlib.util.find_spec(name)) or 0)
"""
STACK = ("erasestream.pipeline.devstack", "erasestream.pipeline.demo")
ISOLATION = """
import sys
from erasestream.pipeline.runtime.sandbox.restrictions import missing
sys.exit(", ".join(missing()) or 0)
"""
EX_CONFIG = 78


def engine() -> str:
    """Return the first engine that answers.  Exits with 78 if there is none."""
    for name in ("docker", "podman"):
        if shutil.which(name) and _run(name, "info").returncode == 0:
            return name
    sys.stderr.write(f"No container engine answers: start docker, or install podman.\n{NEEDS}\n")
    sys.exit(EX_CONFIG)


def build(program: str, image: str) -> None:
    """Build an image.  Exits with the engine's own output if it cannot."""
    arguments = [f"--build-arg={name}={os.environ[name]}" for name in BASES if name in os.environ]
    command = ["build", "--target", image, "--tag", tag(image), *arguments, str(ROOT)]
    if (ran := _run(program, *command)).returncode != 0:
        sys.exit(f"{ran.stdout}{ran.stderr}\n{image} cannot be built; it needs\n{NEEDS}")


def problems(program: str, image: str) -> list[str]:
    """Return what is wrong with an image, a sentence for each."""

    def container(*command: str) -> subprocess.CompletedProcess[str]:
        return _run(program, *CONFINED, f"--entrypoint={command[0]}", tag(image), *command[1:])

    if (ran := container("erasestream", "--help")).returncode != 0:
        return [f"it does not run: {ran.stderr.strip()}"]
    found = []
    for stage in STAGES[image]:
        ran = container("erasestream", stage)
        if ran.returncode != EX_CONFIG or "settings" not in ran.stderr:
            found.append(f"{stage} without settings ends with {ran.returncode}: {ran.stderr}")
        if container("erasestream", "probe", stage, "--help").returncode != 0:
            found.append(f"{stage} cannot be probed")
    lacks = LACKS[image] if image == "local" else (*LACKS[image], *STACK)
    if (ran := container("python", "-c", FIND, *lacks)).returncode != 0:
        found.append(f"it has {ran.stderr.strip()}")
    if image == "model" and container("python", "-m", "pip", "--version").returncode != 0:
        found.append("it has no pip, which fetches the photos that judge a model")
    if image == "model" and container("npm", "--version").returncode != 0:
        found.append("it has no npm, which fetches the model")
    if image == "worker" and (ran := container("python", "-c", ISOLATION)).returncode != 0:
        found.append(f"the engine or the kernel lacks {ran.stderr.strip()}")
    return found


def tag(image: str) -> str:
    """Return the name of an image, as in docker-compose.yml."""
    return f"erasestream-{image}:0.1.0"


def megabytes(program: str, image: str) -> float:
    """Return the size of an image, with its base."""
    size = _run(program, "image", "inspect", "--format={{.Size}}", tag(image)).stdout
    return int(size) / 1e6


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main() -> int:
    """Build and check every image; print its size and what is wrong with it."""
    program = engine()
    is_well = True
    for image in STAGES:
        build(program, image)
        found = problems(program, image)
        sys.stdout.write(f"{tag(image):28} {megabytes(program, image):6.0f} MB\n")
        for each in found:
            sys.stdout.write(f"  {each}\n")
        is_well = is_well and not found
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
