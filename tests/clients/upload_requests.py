"""Upload a photo with requests."""

import sys
from pathlib import Path

import requests

url, key, path, output = sys.argv[1:]
with Path(path).open("rb") as photo:
    response = requests.post(
        url,
        files={"image_file": photo},
        data={"size": "auto"},
        headers={"X-Api-Key": key},
        timeout=120,
    )
response.raise_for_status()
Path(output).write_bytes(response.content)
