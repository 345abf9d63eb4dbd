"""Entry point of the command `erasestream`.

Names the extra to install if one is missing, and prints every error as one sentence.
"""

import sys

from erasestream.schemas.errors import ErasestreamError

EXTRAS = {
    "faust": "worker",
    "aiokafka": "worker",
    "onnx": "worker",
    "onnxruntime": "worker",
    "PIL": "worker",
    "numpy": "worker",
    "cryptography": "sink",
    "google": "sink",
    "google_crc32c": "sink",
    "requests": "sink",
    "starlette": "dev",
    "uvicorn": "dev",
    "jinja2": "dev",
    "psutil": "dev",
    "skimage": "dev",
}


def main() -> None:
    """Run the command line."""
    try:
        from erasestream.pipeline.cli.app import app

        app()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "erasestream":
            raise
        extra = EXTRAS.get(missing, "cli")
        sys.exit(f"{missing} is missing: pip install 'erasestream[{extra}]'")
    except ErasestreamError as error:
        from erasestream.pipeline.runtime.runner import status_of

        sys.stderr.write(f"{error.code}: {error.sentence}\n")
        sys.exit(status_of(error))


if __name__ == "__main__":
    main()
