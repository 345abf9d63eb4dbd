"""Write the golden messages of version 1: `python -m tests.schemas.codec.make_golden`.

Run it once, when an event gets a new major version.  Every later release must read the messages of
an earlier one, so the files of a version are never rewritten.
"""

import base64
import json
from pathlib import Path

from erasestream.schemas.codec.cloudevents import to_wire
from tests.schemas.samples import SAMPLES

GOLDEN = Path(__file__).parent / "golden"


def main() -> None:
    """Write the files that do not exist yet."""
    for event in SAMPLES:
        path = GOLDEN / f"{event.type}.json"
        if not path.exists():
            wire = to_wire(event, source="/golden")
            headers = [[name, value.decode()] for name, value in wire.headers]
            value = base64.b64encode(wire.value).decode()
            path.write_text(json.dumps({"headers": headers, "value": value}, indent=1) + "\n")


if __name__ == "__main__":
    main()
