"""The figures that Cardfile must reach."""

from typing import NamedTuple

from bench.peers import WORKLOADS

REFERENCE = "PocketBase"


class Target(NamedTuple):
    """The least ratio of a server's figure, a field of Round, to that of PocketBase, by workload."""

    server: str
    figure: str
    title: str
    least: dict[str, float]


RATIOS = (
    Target("waitress, 1 core", "per_cpu", "per CPU second", dict(zip(WORKLOADS, (6, 2.5, 1.1, 1.0, 2), strict=True))),
    Target("Granian, 1 core", "per_cpu", "per CPU second", dict(zip(WORKLOADS, (8, 3.5, 1.5, 1.5, 2), strict=True))),
    Target("Granian, 2 workers", "rate", "per second", dict(zip(WORKLOADS, (10, 4.8, 2.0, 1.8, 2.4), strict=True))),
)
# 99th percentile of a create's latency, with 16 writers, on each of Cardfile's servers.
CREATE_P99_MS = 200
READ_BESIDE_LISTS_P99_MS = 250
MANY_WRITERS_P99_MS = 500
# Start of Cardfile on waitress in terms of the import of its packages.
START_RATIO = 1.3
# Cost of a workload with 100,000 companies in terms of its cost with 10,000.
GROWTH = {"all companies": 11, "page of 50": 1.2, "contacts": 1.2, "one company": 1.2}
# Cost of a workload as of a version in terms of its cost now.
AS_OF = {"a whole list": ("all companies", 2), "a row": ("one company", 1.5)}
LAST_PAGE_RATIO = 1.2
# Of a revert of 300 changes.
REVERT_MS = 100
THOUSAND_MESSAGES_MS = 2_000
# Creates without a webhook in terms of those while one is sent to.
WEBHOOK_RATIO = 1.1
STREAM_MB = 50
STREAM_FIRST_BYTE_MS = 100
# A trick for speed stays if a workload loses more than this without it.
TRICK_PERCENT = 10
