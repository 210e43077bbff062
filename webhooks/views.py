"""`/api/v1/webhooks`, for admin keys."""

from flask import Blueprint, Response, url_for

from api.parameters import Parameters, parse_body, refuse_body
from api.responses import JSONResponse
from auth import requires
from formats.json_text import encode_json
from webhooks import records
from webhooks.schema import schema

blueprint = Blueprint("webhooks", __name__)


@blueprint.before_request
def refuse_parameters() -> None:
    """Refuse any query parameter. Raises InvalidQuery."""
    Parameters()


@blueprint.get("/webhooks")
@requires("admin")
def list_webhooks() -> Response:
    """Return all webhooks, oldest first."""
    return JSONResponse(encode_json(records.all_webhooks()))


@blueprint.get("/webhooks/<webhook_id>")
@requires("admin")
def get_webhook(webhook_id: str) -> Response:
    """Return one webhook."""
    return JSONResponse(encode_json(records.find_webhook(webhook_id)))


@blueprint.post("/webhooks")
@requires("admin")
def create_webhook() -> Response:
    """Create a webhook, which gets the changes from now on. The response has its secret, which is shown only once."""
    created = records.add_webhook(schema.load(parse_body()))
    location = url_for(".get_webhook", webhook_id=created["id"])
    return JSONResponse(encode_json(created), 201, {"Cache-Control": "no-store", "Location": location})


@blueprint.patch("/webhooks/<webhook_id>")
@requires("admin")
def update_webhook(webhook_id: str) -> Response:
    """Update the fields that are sent. `"active": true` goes on where it stopped, `since` after another change."""
    body = parse_body("application/merge-patch+json")
    return JSONResponse(encode_json(records.change_webhook(webhook_id, body)))


@blueprint.delete("/webhooks/<webhook_id>")
@requires("admin")
def delete_webhook(webhook_id: str) -> Response:
    """Delete a webhook and its attempts."""
    records.remove_webhook(webhook_id)
    return Response(status=204)


@blueprint.post("/webhooks/<webhook_id>/rotate")
@requires("admin")
def rotate_webhook(webhook_id: str) -> Response:
    """Replace the secret by a new one, which is shown only once. The old one signs, too, for 24 hours."""
    refuse_body()
    return JSONResponse(encode_json(records.rotate_secret(webhook_id)), 200, {"Cache-Control": "no-store"})


@blueprint.post("/webhooks/<webhook_id>/test")
@requires("admin")
def test_webhook(webhook_id: str) -> Response:
    """Send a signed message of the type `webhook.test` at once. Return the answer, or the error after 15 seconds."""
    refuse_body()
    return JSONResponse(encode_json(records.send_test(webhook_id)))


@blueprint.get("/webhooks/<webhook_id>/attempts")
@requires("admin")
def list_attempts(webhook_id: str) -> Response:
    """Return the last 100 attempts to send to a webhook, newest first. They are kept for seven days."""
    return JSONResponse(encode_json(records.find_attempts(webhook_id)))
