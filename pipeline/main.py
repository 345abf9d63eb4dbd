"""The command `erasestream`; says what to install where its extra is missing."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from erasestream.pipeline.cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "erasestream":
            raise
        sys.exit(f"{error.name} is missing: install erasestream[cli]")
    app()


if __name__ == "__main__":
    main()
