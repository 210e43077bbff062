#!/usr/bin/env python3
"""Demo data that looks like a small team's CRM, and the rows of a JSON file."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from marshmallow import ValidationError

from database import backend
from database.columns import now
from database.connection import connection, execute, execute_many, write_transaction
from database.log_dates import DAYS, backdate, log_step
from database.statement import insert_statement
from formats.errors import escape_control, missing_last, suggest
from formats.json_text import InvalidJSON, ParsedObject, parse_json
from formats.progress import progress_bar
from models import Resource
from schemas import RESOURCES

TWO_YEARS = timedelta(days=730)
ROWS_A_STEP = 2_000

# The vocabulary of demo data: industries with endings of names, stages with [share of companies, range of deals in
# thousands], job titles with roles, topics with tags. IP addresses are from RFC 5737 and RFC 3849: nobody has them.
WORDS: dict[str, Any] = json.loads((Path(__file__).parent / "seed.json").read_text(encoding="utf-8"))
STAGES = WORDS["stages"]
NOT_LETTERS = re.compile("[^A-Za-z]")

Row = dict[str, Any]
Group = list[tuple[str, Row]]


class InvalidData(Exception):
    """The data can't be loaded; the message names the record and field, or says what to do."""


class Demo:
    """A generator of demo data: the same number and day give the same rows on any machine."""

    def __init__(self, number: int, until: str | None) -> None:
        # Imported here because only demo data needs it.
        from mimesis import Person

        try:
            self.until = datetime.strptime(until or f"{now():%Y-%m-%d}", "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            raise InvalidData(f"--until must be a day as in 2026-01-01, not {until!r}.") from None
        if not 1973 <= self.until.year < 9999:
            raise InvalidData("--until must be a day from 1973, because ids hold times from 1970 on, to 9998.")
        self.random = Random(number)  # noqa: S311
        person = Person(seed=number)
        # Drawn once, because mimesis is slow.
        self.first_names, self.last_names = (
            [draw() for _number in range(1_000)] for draw in (person.first_name, person.last_name)
        )
        self.names: set[str] = set()
        self.positions: Counter[str] = Counter()

    def rows(self, companies: int) -> Iterator[tuple[str, Row]]:
        """Yield (resource, row) for that many companies by creation; one is the documentation's example."""
        examples = [example_rows()] if companies else []
        groups = self.groups(companies - len(examples))
        for group in merge(examples, groups, key=lambda group: group[0][1]["created_at"]):
            yield from group

    def groups(self, companies: int) -> Iterator[Group]:
        """Yield, for each random company in order of creation, its row and those of its contacts and conversations."""
        for created in sorted(self.office_hour(self.until - TWO_YEARS, self.until) for _number in range(companies)):
            company = self.company(created)
            contacts = [self.contact(company, index) for index in range(self.random.choice((3, 4, 5, 5, 6, 7)))]
            chats = [self.conversation(company, contacts) for _chat in range(self.random.choice((0, 1, 2, 2, 3, 4)))]
            for chat in chats:
                company["updated_at"] = max(company["updated_at"], chat["last_message_at"])
                company["last_contact"] = company["updated_at"]
            rows = {"companies": [company], "contacts": contacts, "conversations": chats}
            yield [(name, row) for name in rows for row in rows[name]]

    def company(self, created: datetime) -> Row:
        """Return a company whose deal, stage and times fit together."""
        industry, name = self.company_name()
        [stage] = self.random.choices(list(STAGES), [share for share, _low, _high in STAGES.values()])
        _share, low, high = STAGES[stage]
        contacted = None if stage == "lead" and self.random.random() < 0.4 else self.office_hour(created, self.until)
        self.positions[stage] += 1
        return {
            "id": self.row_id(created),
            "name": name,
            "website": f"https://{name.lower().replace(' & ', '-').replace(' ', '-')}.example",
            "industry": industry,
            "deal_value": None if self.random.random() < 0.1 else self.random.randrange(low * 20, high * 20) * 50,
            "stage_id": f"stage-{stage}",
            "position": self.positions[stage] - 1,
            "logo_url": None,
            "notes": self.sometimes(WORDS["company_notes"]),
            "last_contact": contacted,
            "is_customer": stage == "won",
            "created_by": self.random.choice(WORDS["team"]),
            "created_at": created,
            "updated_at": contacted or created,
        }

    def company_name(self) -> tuple[str, str]:
        """Return an industry and a name in it that no other company has."""
        industry = self.random.choice(list(WORDS["industries"]))
        count = self.random.choice((1, 1, 2))
        names = " & ".join(NOT_LETTERS.sub("", self.random.choice(self.last_names)) for _name in range(count))
        name = f"{names} {self.random.choice(WORDS['industries'][industry])}"
        if name in self.names:
            return self.company_name()
        self.names.add(name)
        return industry, name

    def contact(self, company: Row, index: int) -> Row:
        """Return a person whose address is at the company's domain; the first one is the primary contact."""
        first, last = self.random.choice(self.first_names), self.random.choice(self.last_names)
        title, role = self.random.choice(WORDS["posts"][1:]) if index else WORDS["posts"][0]
        later = self.office_hour(company["created_at"], self.until)
        created = later if index else company["created_at"]
        mailbox = f"{NOT_LETTERS.sub('', first)}.{NOT_LETTERS.sub('', last)}".lower()
        return {
            "id": self.row_id(created),
            "company_id": company["id"],
            "name": f"{first} {last}",
            "email": f"{mailbox}@{company['website'].removeprefix('https://')}",
            "phone": f"+1-{self.random.randrange(201, 989)}-555-01{self.random.randrange(100):02}",
            "title": title,
            "role": role,
            "notes": self.sometimes(WORDS["contact_notes"]),
            "is_primary": index == 0,
            "user_id": company["created_by"],
            "created_at": created,
            "updated_at": self.office_hour(created, self.until),
        }

    def conversation(self, company: Row, contacts: Sequence[Row]) -> Row:
        """Return a chat of a contact or of an anonymous visitor, closed or resolved when it is old."""
        anonymous = {"name": None, "email": None, "created_at": company["created_at"]}
        visitor = self.random.choice(contacts) if self.random.random() < 0.7 else anonymous
        created = self.office_hour(visitor["created_at"], self.until)
        last = self.office_hour(created, min(created + timedelta(days=3), self.until))
        days = (self.until - last).days
        assignee, was_read = self.random.choice(WORDS["team"]), self.random.random() < 0.5
        recent = self.random.choice(("open", "pending", "snoozed"))
        status = "closed" if days > 60 else "resolved" if days > 21 else recent
        page, tags = self.random.choice(WORDS["topics"])
        return {
            "id": self.row_id(created),
            "company_id": company["id"],
            "visitor_name": visitor["name"],
            "visitor_email": visitor["email"],
            "visitor_ip": f"{self.random.choice(WORDS['networks'])}{self.random.randrange(1, 255)}",
            "user_agent": self.random.choice(WORDS["agents"]),
            "referrer_url": self.random.choice(WORDS["referrers"]),
            "page_url": f"https://www.cardfile.example/{page}",
            "status": status,
            "assigned_to_user_id": None if status == "open" else assignee,
            "is_read": status != "open" or was_read,
            "trust_uploads": visitor["name"] is not None and self.random.random() < 0.2,
            "tags": tags,
            "last_message_at": last,
            "created_at": created,
            "updated_at": last,
        }

    def office_hour(self, since: datetime, until: datetime) -> datetime:
        """Return a random time between the two: the first of five draws in working hours, or else the last draw."""
        seconds = (until - since).total_seconds()
        for share in [self.random.random() for _attempt in range(5)]:
            time = since + timedelta(seconds=int(share * seconds))
            if time.weekday() < 5 and 8 <= time.hour < 18:
                break
        return time

    def row_id(self, created: datetime) -> str:
        """Return a UUIDv7 of the row's own time (RFC 9562 §5.7)."""
        milliseconds, rest = int(created.timestamp()) * 1000, self.random.getrandbits(74)
        return str(UUID(int=milliseconds << 80 | 0x7 << 76 | (rest >> 62) << 64 | 0b10 << 62 | rest & (1 << 62) - 1))

    def sometimes(self, choices: Sequence[str]) -> str | None:
        """Return a choice for every fourth row."""
        return self.random.choice(choices) if self.random.random() < 0.25 else None


def example_rows() -> Group:
    """Return the documentation's example company, contact and conversation: the examples of the schemas' fields."""
    return [(name, schema.load(schema.example())) for name, schema in RESOURCES.items()]


def count_rows() -> dict[str, int]:
    """Return the number of rows of each resource."""
    return {name: execute(count_statement, schema.model).fetchone()[0] for name, schema in RESOURCES.items()}


def count_statement(model: type[Resource]) -> sa.Select[Any]:
    """Return the query for the number of a model's rows."""
    return sa.select(sa.func.count()).select_from(model)


def insert_rows(name: str, rows: list[Row]) -> int:
    """Insert the rows of one resource; return their number."""
    execute_many(insert_statement, RESOURCES[name].model, rows=rows)
    return len(rows)


def delete_rows() -> int:
    """Delete every row of every resource, and return their number; the change log keeps their history."""
    return sum(execute(sa.delete, RESOURCES[name].model).rowcount for name in reversed(RESOURCES))


def load_demo(
    companies: int = 50, number: int = 42, until: str | None = None, reset: bool = False, only_if_empty: bool = False
) -> dict[str, int]:
    """Load demo data in one transaction; return the number of rows of each resource.

    Raises InvalidData when the database has rows, unless `reset` deletes them or `only_if_empty` skips loading.
    """
    rows = Demo(number, until).rows(companies)
    loaded = dict.fromkeys(RESOURCES, 0)
    with write_transaction():
        if reset:
            log_step(delete_rows())
        elif any(count_rows().values()):
            if only_if_empty:
                return loaded
            raise InvalidData("The database has rows already: add --reset to delete them first.")
        with progress_bar("Loading", companies) as bar, ExitStack() as stack:
            for schema in RESOURCES.values():
                stack.enter_context(backend().bulk_indexing(connection().execute, schema.model.__table__))
            steps, sizes = [], Random(number)  # noqa: S311
            max_size = min(ROWS_A_STEP, 16 * companies // DAYS + 1)
            while step := list(islice(rows, sizes.randint(1, max_size))):
                for name in RESOURCES:
                    loaded[name] += insert_rows(name, [row for resource, row in step if resource == name])
                bar.update(loaded["companies"] - bar.pos)
                steps.append(log_step(len(step)))
            backdate(steps)
    return loaded


def load_file(path: str, reset: bool = False) -> dict[str, int]:
    """Load the rows of a JSON file in the API's form, with their ids and times, in one transaction.

    Returns the number of rows of each resource. Raises InvalidData, which names the record and the field.
    """
    try:
        document = parse_json(Path(path).read_bytes())
        is_object = isinstance(document, ParsedObject) and not document.duplicates
        if not is_object or not all(isinstance(records, list) for records in document.values()):
            raise InvalidData(f"It must be an object with the arrays {', '.join(RESOURCES)}, each at most once.")
        for name in document:
            if name not in RESOURCES:
                raise InvalidData(f"There is no resource {name}. {suggest(name, tuple(RESOURCES))}")
        with write_transaction():
            if reset:
                delete_rows()
            return {name: insert_rows(name, parse_records(name, document.get(name, []))) for name in RESOURCES}
    except (InvalidJSON, InvalidData) as error:
        raise InvalidData(escape_control(f"{path}: {error}")) from None


def parse_records(name: str, records: list[Any]) -> list[Row]:
    """Return the rows of one resource's records. Raises InvalidData for the first invalid record."""
    ids, companies = ({row[0] for row in execute(sa.select, RESOURCES[each].model.id)} for each in (name, "companies"))
    rows = []
    for index, record in enumerate(records):
        try:
            row: Row = RESOURCES[name].load(record)
            if row["id"] in ids:
                raise ValidationError({"id": ["Is another row's id."]})
            if row.get("company_id") is not None and row["company_id"] not in companies:
                raise ValidationError({"companyId": ["Is not the id of a company."]})
        except ValidationError as error:
            first = missing_last(error.messages)[0]
            raise InvalidData(f"/{name}/{index}{first['pointer']}: {first['detail']}") from None
        ids.add(row["id"])
        rows.append(row)
    return rows


if __name__ == "__main__":
    from commands import cli
    from service import create_app

    cli(["seed", *sys.argv[1:]], obj=create_app)
