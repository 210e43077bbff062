"""FastAPI with the ORM and pydantic, on the same tables."""

import sys
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any

import sqlalchemy as sa
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from sqlalchemy.orm import Session

from database.sqlite import ENGINE_OPTIONS, prepare
from models import ApiKey, Company, Contact

engine = sa.create_engine(f"sqlite:///{sys.argv[1]}", pool_size=40, **ENGINE_OPTIONS)
app = FastAPI()


def configure_connection(connection: Any, record: object) -> None:
    """Set the same durability as Cardfile, and let the driver begin transactions."""
    prepare(connection, record)
    connection.isolation_level = "IMMEDIATE"


sa.event.listen(engine, "connect", configure_connection)


class Schema(BaseModel):
    model_config = ConfigDict(from_attributes=True, alias_generator=to_camel, populate_by_name=True)


class CompanyOut(Schema):
    id: str
    name: str
    website: str | None
    industry: str | None
    deal_value: float | None
    stage_id: str | None
    position: int
    logo_url: str | None
    notes: str | None
    last_contact: datetime | None
    is_customer: bool
    created_by: str | None
    created_at: datetime
    updated_at: datetime


class ContactIn(Schema):
    name: str
    email: str | None = None
    title: str | None = None


class ContactOut(ContactIn):
    id: str
    company_id: str | None
    phone: str | None
    role: str | None
    notes: str | None
    is_primary: bool
    user_id: str | None
    created_at: datetime
    updated_at: datetime


def open_session(authorization: Annotated[str, Header()] = "") -> Iterator[Session]:
    with Session(engine) as session:
        digest = sha256(authorization.removeprefix("Bearer ").encode()).hexdigest()
        if session.scalar(sa.select(ApiKey).filter_by(sha256=digest)) is None:
            raise HTTPException(401)
        yield session


OpenSession = Annotated[Session, Depends(open_session)]


@app.get("/api/v1/companies")
def list_companies(session: OpenSession, limit: int | None = None) -> list[CompanyOut]:
    return session.scalars(sa.select(Company).order_by(Company.created_at, Company.id).limit(limit)).all()  # type: ignore[return-value]


@app.get("/api/v1/companies/{row_id}")
def get_company(row_id: str, session: OpenSession) -> CompanyOut:
    return session.scalar(sa.select(Company).filter_by(id=row_id))  # type: ignore[return-value]


@app.get("/api/v1/contacts")
def list_contacts(session: OpenSession, companyId: str) -> list[ContactOut]:  # noqa: N803
    rows = sa.select(Contact).filter_by(company_id=companyId)
    return session.scalars(rows.order_by(Contact.created_at, Contact.id)).all()  # type: ignore[return-value]


@app.post("/api/v1/contacts", status_code=201)
def create_contact(body: ContactIn, session: OpenSession) -> ContactOut:
    now = datetime.fromisoformat("2026-01-01T00:00:00Z")
    contact = Contact(**body.model_dump(), created_at=now, updated_at=now)
    session.add(contact)
    session.commit()
    return contact  # type: ignore[return-value]


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="info")
