"""Reading: a query string becomes a SELECT, its rows an answer."""

from flask import Response, abort, request
from marshmallow import ValidationError
from sqlalchemy import ColumnElement, or_, select

from api.encoding import answer
from api.problems import QueryRefused
from api.resources import Endpoint
from database import db
from schemas import suggest


def list_rows(endpoint: Endpoint) -> Response:
    """Answer all rows that the query string asks for, in the order of (createdAt, id)."""
    model = endpoint.model
    rows = db.session.scalars(select(model).where(*read_filters(endpoint)).order_by(model.created_at, model.id))
    return answer(endpoint.schema.dump(rows, many=True))


def get_row(endpoint: Endpoint, row_id: str) -> Response:
    """Answer one row, or 404."""
    refuse_unknown_parameters(())
    row = db.session.scalar(select(endpoint.model).where(endpoint.model.id == row_id))
    if row is None:
        abort(404, f"There is no {endpoint.singular} with the id {row_id}.")
    return answer(endpoint.schema.dump(row))


def refuse_unknown_parameters(known: tuple[str, ...]) -> None:
    """Raise QueryRefused for the first parameter that isn't known here."""
    for name in request.args:
        if name not in known:
            raise QueryRefused(f"There is no parameter {name} here. {suggest(name, known)}")


def read_filters(endpoint: Endpoint) -> list[ColumnElement[bool]]:
    """Return the conditions that the query string sets: a repeated parameter means any of its values.

    Raises QueryRefused for a parameter or a value that isn't known.
    """
    refuse_unknown_parameters(endpoint.filters)
    conditions = []
    for name, values in request.args.lists():
        attribute = next(key for key, field in endpoint.schema.fields.items() if field.data_key == name)
        column = endpoint.model.__table__.c[attribute]
        for value in values:
            try:
                endpoint.schema.fields[attribute].deserialize(value)
            except ValidationError as error:
                raise QueryRefused(f"{name} can't be {value!r}. {error.messages[0]}") from None
        alternatives = [column.in_([value for value in values if value != "null"])]
        if "null" in values:
            alternatives.append(column.is_(None))
        conditions.append(or_(*alternatives))
    return conditions
