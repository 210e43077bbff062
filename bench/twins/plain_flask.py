"""The same API as most Flask services are written: ORM objects and Schema.dump, on the same tables and schemas.

It has API keys, request ids, ETags and an access log too; the tables' triggers keep the change log.
"""

import logging
import sys
from hashlib import sha256
from typing import Any
from uuid import uuid4

from flask import Flask, Response, abort, g, request
from waitress import serve

from database import db
from database.sqlite import ENGINE_OPTIONS, prepare
from models import ApiKey, Company, Contact
from schemas import CompanySchema, ContactSchema

app = Flask("plain", static_folder=None)
app.json.sort_keys = False  # type: ignore[attr-defined]
companies, contacts = CompanySchema(), ContactSchema()


@app.before_request
def require_key() -> None:
    key = request.headers.get("Authorization", "").removeprefix("Bearer ")
    g.key = db.session.scalar(db.select(ApiKey).filter_by(sha256=sha256(key.encode()).hexdigest()))
    if g.key is None:
        abort(401)


@app.after_request
def log_and_tag(response: Response) -> Response:
    response.headers["X-Request-Id"] = request_id = str(uuid4())
    app.logger.info("%s %s %s %s", request.method, request.path, response.status_code, request_id)
    if request.method == "GET":
        response.add_etag()
    return response


@app.get("/api/v1/companies")
def list_companies() -> Any:
    rows = db.select(Company).order_by(Company.created_at, Company.id)
    if "limit" in request.args:
        rows = rows.limit(int(request.args["limit"]))
    return companies.dump(db.session.scalars(rows), many=True)


@app.get("/api/v1/companies/<row_id>")
def get_company(row_id: str) -> Any:
    return companies.dump(db.first_or_404(db.select(Company).filter_by(id=row_id)))


@app.get("/api/v1/contacts")
def list_contacts() -> Any:
    rows = db.select(Contact).filter_by(company_id=request.args["companyId"])
    return contacts.dump(db.session.scalars(rows.order_by(Contact.created_at, Contact.id)), many=True)


@app.post("/api/v1/contacts")
def create_contact() -> Any:
    contact = Contact(**contacts.load(request.get_json()))
    db.session.add(contact)
    db.session.commit()
    return contacts.dump(contact), 201


if __name__ == "__main__":
    app.logger.setLevel(logging.INFO)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{sys.argv[1]}"
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {**ENGINE_OPTIONS, "connect_args": {"isolation_level": "DEFERRED"}}
    db.init_app(app)

    def configure_connection(connection: Any, record: object) -> None:
        """Set the same durability as Cardfile, and let the driver begin transactions."""
        prepare(connection, record)
        connection.isolation_level = "IMMEDIATE"

    with app.app_context():
        db.event.listen(db.engine, "connect", configure_connection)
    serve(app, port=int(sys.argv[2]), threads=16, connection_limit=2000, asyncore_use_poll=True)
