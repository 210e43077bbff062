"""The HTTP API: one blueprint, its routes made from the table of resources."""

from functools import partial

from flask import Blueprint

from api.keys import keys
from api.listing import get_row, list_rows
from api.resources import ENDPOINTS


def create_api() -> Blueprint:
    """Return the routes under /api/v1."""
    api = Blueprint("api", __name__)
    for each in ENDPOINTS:
        api.add_url_rule(f"/{each.name}", f"list_{each.name}", partial(list_rows, each), methods=["GET"])
        api.add_url_rule(f"/{each.name}/<row_id>", f"get_{each.singular}", partial(get_row, each), methods=["GET"])
    api.register_blueprint(keys)
    return api
