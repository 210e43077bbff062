"""Keep a copy of a Cardfile in step: load everything by pages once, then only what changed, deletions included.

It knows nothing of Cardfile but JSON arrays, `Link: rel="next"` and a since-parameter.

    python examples/keep_in_step.py http://127.0.0.1:8000/api/v1 YOUR_API_KEY copy.json
"""

import json
import re
import sys
import urllib.request
from pathlib import Path

RESOURCES = ("companies", "contacts", "conversations")


def read_pages(url, key):
    """Yield each page's rows with the version of the data that it reflects, following `Link`."""
    while url:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            yield json.load(answer), int(answer.headers["Dataset-Version"])
            following = re.search('<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
            url = following and following[1]


def load(base, key):
    """Return a whole copy, and the version from which on it has to be brought up to date."""
    copy = {"version": None, **{resource: {} for resource in RESOURCES}}
    for resource in RESOURCES:
        for rows, version in read_pages(f"{base}/{resource}?limit=500", key):
            # What changes while the pages are read comes again with the changes since the first of them.
            copy["version"] = version if copy["version"] is None else copy["version"]
            copy[resource] |= {row["id"]: row for row in rows}
    return copy


def update(base, key, copy):
    """Apply to the copy what has changed since."""
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
