"""Calls of the package removebg, for each way to send a photo."""

import base64
import sys
from pathlib import Path

import requests
from removebg import RemoveBg

key, path = sys.argv[1:]
client = RemoveBg(key, "errors.log")
client.remove_background_from_img_file(path, size="4k", bg_color="white")
text = base64.b64encode(Path(path).read_bytes()).decode()
client.remove_background_from_base64_img(text, new_file_name="base64.png")
try:
    client.remove_background_from_img_url("https://example.com/photo.jpg")
except requests.HTTPError as error:
    print(error.response.status_code, error.response.json()["errors"][0]["code"])  # noqa: T201
