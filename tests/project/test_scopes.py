"""Every key on every route and method, against the scopes that README documents."""

import re
from collections.abc import Callable

from flask import Flask
from flask.testing import FlaskClient

from auth import new_key
from database.columns import now
from models import SCOPES
from tests.conftest import client_with_key
from tests.project.test_project_rules import README


def test_every_key_reaches_what_the_documented_scope_of_a_route_allows(
    app: Flask, admin: FlaskClient, new_key_with_scope: Callable[..., str]
) -> None:
    table = re.findall(r"^\| `([A-Z]+) (/api/v1/\S+)` \| (read|write|admin) \|", README, re.M)
    documented = {(path.replace("{id}", "x"), method): scope for method, path, scope in table}
    deleted = new_key_with_scope("admin")
    [*_others, record] = admin.get("/api/v1/keys").json
    assert admin.delete(f"/api/v1/keys/{record['id']}").status_code == 204
    keys = {new_key_with_scope(scope): scope for scope in SCOPES}
    keys |= dict.fromkeys(("nonsense", new_key(), deleted, new_key_with_scope("admin", now())), "")
    clients = {client_with_key(app, key): scope for key, scope in keys.items()}
    assert len(documented) > 25

    for path in {path for path, _method in documented}:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"):
            needed = documented.get((path, "GET" if method == "HEAD" else method))
            for client, scope in clients.items():
                with client.open(path, method=method) as response:
                    status = response.status_code
                if not scope:
                    assert (method, path, status) == (method, path, 401)
                elif needed is None:
                    assert (method, path, status) == (method, path, 405)
                else:
                    is_allowed = SCOPES.index(scope) >= SCOPES.index(needed)
                    assert (status not in {401, 403, 405}) == is_allowed, (method, path, scope, status)
