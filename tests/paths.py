"""Where things are in a checkout."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout itself: the folder to run commands in."""

CACHE = Path(os.environ.get("ERASESTREAM_CACHE", ROOT / ".cache"))
"""Kafka's jars and the models, as `make setup` installs them."""
