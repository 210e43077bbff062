"""The HTTP API: one blueprint, with routes for every resource of the table."""

from functools import partial

from flask import Blueprint

from api.feed import list_changes
from api.keys import keys
from api.parameters import require_whole_body
from api.read_views import get_row, list_rows
from api.resources import ENDPOINTS
from api.revert import revert_changes
from api.snapshot import get_snapshot
from api.write_views import delete_row, patch_row, post_rows, put_row


def create_api() -> Blueprint:
    """Return the blueprint of the routes under /api/v1."""
    api = Blueprint("api", __name__)
    api.before_app_request(require_whole_body)
    for each in ENDPOINTS.values():
        collection, item = f"/{each.name}", f"/{each.name}/<row_id>"
        api.add_url_rule(collection, f"list_{each.name}", partial(list_rows, each), methods=["GET"])
        api.add_url_rule(collection, f"create_{each.singular}", partial(post_rows, each), methods=["POST"])
        api.add_url_rule(item, f"get_{each.singular}", partial(get_row, each), methods=["GET"])
        api.add_url_rule(item, f"replace_{each.singular}", partial(put_row, each), methods=["PUT"])
        api.add_url_rule(item, f"update_{each.singular}", partial(patch_row, each), methods=["PATCH"])
        api.add_url_rule(item, f"delete_{each.singular}", partial(delete_row, each), methods=["DELETE"])
    api.register_blueprint(keys)
    api.add_url_rule("/changes", "list_changes", list_changes, methods=["GET"])
    api.add_url_rule("/changes/revert", "revert_changes", revert_changes, methods=["POST"])
    api.add_url_rule("/snapshot", "get_snapshot", get_snapshot, methods=["GET"])
    return api
