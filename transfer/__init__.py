"""Files of rows: `export` writes every resource as NDJSON or CSV; `import` reads these, and CSV of other programs."""

from flask import Flask

from transfer import pages


def init_transfer(app: Flask) -> None:
    """Add Settings → Import and its link, if the app has settings pages."""
    if "settings_pages" in app.extensions:
        app.extensions["settings_pages"]["import"] = ("Import", "import_pages.show_upload")
        app.register_blueprint(pages.blueprint, url_prefix="/settings/import")
