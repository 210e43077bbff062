"""Files of rows: `export` writes every resource as NDJSON or CSV; `import` reads these, and CSV of other programs."""

from typing import Any

from flask import Blueprint, Flask

from auth import public

# Settings → Import. transfer.pages is imported at the first request, because most starts don't need it.
blueprint = Blueprint("import_pages", __name__, template_folder="templates")


def init_transfer(app: Flask) -> None:
    """Add Settings → Import and its link, if the app has settings pages."""
    if "settings_pages" in app.extensions:
        app.extensions["settings_pages"]["import"] = ("Import", "import_pages.show_upload")
        app.register_blueprint(blueprint, url_prefix="/settings/import")


@blueprint.before_request
def check_request() -> Any:
    """Redirect to the sign-in page, or refuse a form that is too large or not the session's."""
    from transfer import pages

    return pages.check_request()


@blueprint.get("")
@public
def show_upload() -> str:
    """Show the form that takes a file."""
    from transfer import pages

    return pages.show_upload()


@blueprint.post("")
@public
def import_upload() -> Any:
    """Show a preview of the import, with its choices; with the button Import, store the rows."""
    from transfer import pages

    return pages.import_upload()
