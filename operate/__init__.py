"""Operation: checks of the database, restoring a backup, and erasing a row."""

from functools import partial

from flask import Flask

from api.resources import ENDPOINTS
from auth import API, requires
from operate.erasure import forget


def init_operation(app: Flask) -> None:
    """Add the endpoints that erase a row."""
    for each in ENDPOINTS.values():
        view = requires("admin")(partial(forget, each))
        app.add_url_rule(f"{API}/{each.name}/<row_id>/forget", f"forget_{each.singular}", view, methods=["POST"])
