"""Keep a local copy in sync with Cardfile: load all rows once, page by page, then apply only the changes.

The program needs only JSON arrays, the header `Link: <…>; rel="next"` and the parameter `since`.

    python3 examples/keep_in_step.py http://127.0.0.1:8000/api/v1 YOUR_API_KEY copy.json
"""

import json
import re
import sys
import urllib.request
from pathlib import Path

RESOURCES = ("companies", "contacts", "conversations")


def read_pages(url, key):
    """Yield the rows of each page with the `Dataset-Version` of the response, following `Link`."""
    while url:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            yield json.load(answer), int(answer.headers["Dataset-Version"])
            following = re.search('<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
            url = following and following[1]


def load(base, key):
    """Return a copy of all rows, with the version to update it from."""
    copy = {"version": None, **{resource: {} for resource in RESOURCES}}
    for resource in RESOURCES:
        for rows, version in read_pages(f"{base}/{resource}?limit=500", key):
            # Changes made while the pages are read come again: the version is that of the first page.
            copy["version"] = version if copy["version"] is None else copy["version"]
            copy[resource] |= {row["id"]: row for row in rows}
    return copy


def update(base, key, copy):
    """Apply the changes since the copy's version, and return the copy."""
    for changes, _version in read_pages(f"{base}/changes?since={copy['version']}&limit=500", key):
        for change in changes:
            copy["version"] = change["seq"]
            if change["action"] == "deleted":
                copy[change["resource"]].pop(change["id"], None)
            else:
                copy[change["resource"]][change["id"]] = change["data"]
    return copy


if __name__ == "__main__":
    base, key, path = sys.argv[1:]
    file = Path(path)
    copy = update(base, key, json.loads(file.read_text()) if file.exists() else load(base, key))
    file.write_text(json.dumps(copy))
    print(", ".join(f"{len(copy[resource])} {resource}" for resource in RESOURCES), "at version", copy["version"])
