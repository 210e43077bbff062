"""`python -m cardfile`."""

from cardfile import main

main()
