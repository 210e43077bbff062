"""Run Cardfile's commands without one trick for speed: python -m bench.ablated NAME serve ..."""

import sys

from bench.ablations import ABLATIONS, AT_IMPORT


def main() -> None:
    """Remove the trick, then hand over to the commands."""
    name = sys.argv.pop(1)
    if name in AT_IMPORT:
        ABLATIONS[name]()
    import commands  # noqa: F401
    import service

    if name not in AT_IMPORT:
        ABLATIONS[name]()
    service.main()


if __name__ == "__main__":
    main()
