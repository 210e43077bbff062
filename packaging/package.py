"""Cardfile as an installed package, whose modules import each other by the names that they have in a checkout."""

import sys
from pathlib import Path

# In front of other packages, which may have modules of the same names.
sys.path.insert(0, str(Path(__file__).parent))

from service import create_app, main

__all__ = ["create_app", "main"]
