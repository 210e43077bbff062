"""Long tests: `make soak` runs them whole, SOAK=0.02 a fiftieth of them."""

import os
from pathlib import Path

import pytest

FACTOR = float(os.environ.get("SOAK", "1"))
SERVERS = {"waitress": (), "granian": ("--server", "granian", "--workers", "2")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.soak)


@pytest.fixture(params=SERVERS)
def server_options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the options of `serve` for each server."""
    return SERVERS[request.param]


def times(count: int) -> int:
    """Return a number of repetitions for this run: at least 2."""
    return max(2, round(count * FACTOR))
