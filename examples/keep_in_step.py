"""Keep a local copy in sync with Cardfile: load all rows once, page by page, then apply only the changes.

A version is a number of one history, which `Dataset-Id` names. A restored backup begins another history, for which the
program loads all rows again.

    python3 examples/keep_in_step.py http://127.0.0.1:8000/api/v1 YOUR_API_KEY copy.json
"""

import json
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

RESOURCES = ("companies", "contacts", "conversations")


class OtherHistory(Exception):
    """Cardfile was restored from a backup, so that the copy's version isn't valid any more."""


def read_pages(url, key):
    """Yield the rows of each page with the `Dataset-Id` and `Dataset-Version` of the response, following `Link`."""
    while url:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            yield json.load(answer), answer.headers["Dataset-Id"], int(answer.headers["Dataset-Version"])
            following = re.search('<([^>]+)>; rel="next"', answer.headers.get("Link", ""))
            url = following and following[1]


def load(base, key):
    """Return a copy of all rows, with the history and the version to update it from."""
    copy = {resource: {} for resource in RESOURCES}
    for resource in RESOURCES:
        for rows, dataset, version in read_pages(f"{base}/{resource}?limit=500", key):
            # Changes made while the pages are read come again: the version is that of the first page.
            copy = {"dataset": dataset, "version": version} | copy
            copy[resource] |= {row["id"]: row for row in rows}
    return copy


def update(base, key, copy):
    """Apply the changes since the copy's version, and return the copy. Raises OtherHistory."""
    for changes, dataset, _version in read_pages(f"{base}/changes?since={copy['version']}&limit=500", key):
        if dataset != copy["dataset"]:
            raise OtherHistory
        for change in changes:
            copy["version"] = change["seq"]
            # The row of a deletion is null, and so are all rows of an id that was forgotten since.
            if change["data"] is None:
                copy[change["resource"]].pop(change["id"], None)
            else:
                copy[change["resource"]][change["id"]] = change["data"]
    return copy


def keep_in_step(base, key, copy):
    """Return the copy with the newest changes, or a new one."""
    try:
        return update(base, key, copy or load(base, key))
    except OtherHistory:
        return keep_in_step(base, key, None)
    except urllib.error.HTTPError as error:
        # 410: the version is beyond the newest of the restored history.
        if error.code != 410:
            raise
        return keep_in_step(base, key, None)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    base, key, path = sys.argv[1:]
    file = Path(path)
    try:
        copy = keep_in_step(base, key, json.loads(file.read_text()) if file.exists() else None)
    except urllib.error.URLError as error:
        sys.exit(f"{base} can't be read: {error}")
    file.write_text(json.dumps(copy))
    print(", ".join(f"{len(copy[resource])} {resource}" for resource in RESOURCES), "at version", copy["version"])
