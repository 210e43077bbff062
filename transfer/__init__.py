"""Files of rows: `export` writes and `import` reads every resource as NDJSON or CSV, also of other programs."""

from flask import Flask

from transfer.pages import add_pages


def init_transfer(app: Flask) -> None:
    """Add Settings → Import, if the app has settings pages."""
    add_pages(app)
