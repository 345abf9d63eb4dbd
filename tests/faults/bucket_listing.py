"""List the image bucket through its HTTP API, without our own client."""

import json
import urllib.parse
import urllib.request
from collections import Counter
from typing import Any


def count_objects(
    endpoint: str, bucket: str, token: str, context: Any
) -> Counter[tuple[str, str, str]]:
    """Count the objects of the bucket by the upload, part and grant in their names."""
    found: Counter[tuple[str, str, str]] = Counter()
    page = ""
    while True:
        query = urllib.parse.urlencode({"pageToken": page} if page else {})
        request = urllib.request.Request(  # noqa: S310 (the address is https)
            f"{endpoint}/storage/v1/b/{bucket}/o?{query}",
            headers={"Authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:  # noqa: S310
            listed = json.load(answer)
        for item in listed.get("items", []):
            _owner, grant, rest = item["name"].split("/")
            upload, part, _content = rest.split(".")
            found[upload, part, grant] += 1
        page = listed.get("nextPageToken", "")
        if not page:
            return found
