"""Run Cardfile's commands without some tricks for speed: python -m bench.ablated NAME[+NAME...] serve ..."""

import sys

from bench.ablations import remove_tricks


def main() -> None:
    """Remove the tricks, then hand over to the commands."""
    names = sys.argv.pop(1)
    remove_tricks(names, at_import=True)
    import commands  # noqa: F401
    import service

    remove_tricks(names, at_import=False)
    service.main()


if __name__ == "__main__":
    main()
