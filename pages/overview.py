"""Settings → Overview: numbers and charts. Of its four statements, only the one about deals scans a table."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from flask import Blueprint, g, redirect, render_template, url_for

from api.json_sql import number
from auth import public
from database.connection import begin_snapshot, execute
from models import STATUSES, Change, Company, Contact, Conversation
from pages.sessions import require_session
from seed import STAGES, load_demo

DAYS = 30
MAX_STAGES = 8
PIPELINE = [f"stage-{name}" for name in STAGES]
COUNT_STATUSES = sa.select(Conversation.status, sa.func.count()).group_by(Conversation.status)
HAS_ROWS = sa.select(sa.or_(*(sa.exists(sa.select(each.number)) for each in (Company, Contact, Conversation))))
COUNT_CONTACTS = sa.select(sa.func.count()).select_from(Contact)

blueprint = Blueprint("overview", __name__, url_prefix="/settings/overview")
blueprint.before_request(require_session)


class Bar(NamedTuple):
    """A bar of a chart: its label, count and amount, and its length in percent of the longest."""

    label: str
    number: int
    amount: float = 0
    length: float = 0


@blueprint.get("")
@public
def show_overview() -> str:
    """Show the numbers and charts."""
    return render_template("overview.html", **overview())


@blueprint.post("/demo")
@public
def add_demo() -> Any:
    """Load demo data, if there are no rows."""
    g.signed_in.write_as_key()
    load_demo(only_if_empty=True)
    return redirect(url_for("pages.overview.show_overview"), 303)


def has_rows() -> bool:
    """Tell whether there is a company, contact or conversation."""
    return bool(execute(HAS_ROWS).fetchone()[0])


def overview() -> dict[str, Any]:
    """Return the tiles, and the bars of the charts: stages, statuses and days, from one snapshot."""
    begin_snapshot()
    counts = dict.fromkeys(STATUSES, 0) | dict(execute(COUNT_STATUSES).fetchall())
    stages, companies = read_stages()
    [contacts] = execute(COUNT_CONTACTS).fetchone()
    days, conversations = read_days(), sum(counts.values())
    top = round_up(max(day.number for day in days))
    tiles = {"Companies": companies, "Contacts": contacts, "Conversations": conversations}
    return {
        "tiles": {**tiles, "Deals": sum(stage.amount for stage in stages), "Changes": sum(day.number for day in days)},
        "stages": scale(stages, "amount" if any(stage.amount for stage in stages) else "number"),
        "statuses": scale([Bar(name.capitalize(), count) for name, count in counts.items()], "number"),
        "days": scale(days, "number", top),
        "top": top,
        "is_empty": not (companies or contacts or conversations),
    }


def scale(bars: list[Bar], measure: str, longest: float = 0) -> list[Bar]:
    """Return the bars with their lengths in percent of the longest, by number or amount."""
    longest = longest or max((getattr(bar, measure) for bar in bars), default=0) or 1
    return [bar._replace(length=round(100 * getattr(bar, measure) / longest, 2)) for bar in bars]


def round_up(count: int) -> int:
    """Return the end of a scale whose half is a whole number: the next of 2, 4, 6, 8, 10, 20, 30, 40, 60, 80, 100, …"""
    power: int = 10 ** (len(str(count)) - 1)
    steps = (1, 2, 4, 6, 8, 10) if power == 1 else (1, 2, 3, 4, 6, 8, 10)
    return max(2, next(step * power for step in steps if step * power >= count))


def stage_name(stage: str | None) -> str:
    """Return a stage's name for people: words from an id like `stage-closed_won`, other ids as they are."""
    if stage is None:
        return "No stage"
    words = re.fullmatch("(?:stage[-_])?([a-z]+(?:[-_][a-z]+)*)", stage)
    return re.sub("[-_]", " ", words[1]).capitalize() if words else stage or "“”"


def read_stages() -> tuple[list[Bar], int]:
    """Return the stages with the largest deals, one bar for all other stages, and the number of companies.

    The stages of demo data are in the order of a sale; other stages follow, by amount.
    """
    rows = execute(stages_query).fetchall()
    if not rows:
        return [], 0
    ranks = {name: rank for rank, name in enumerate(PIPELINE)}
    ordered = sorted(rows, key=lambda row: ranks.get(row[0], len(ranks)))
    bars = [Bar(stage_name(name), count, float(amount)) for name, count, amount, *_totals in ordered]
    stages, companies, amount = rows[0][3:]
    if stages > len(bars):
        rest = int(companies) - sum(bar.number for bar in bars), float(amount) - sum(bar.amount for bar in bars)
        bars.append(Bar(f"{stages - len(bars):,} others", *rest))
    return bars, int(companies)


def stages_query() -> sa.Select[*tuple[Any, ...]]:
    """Return the query for stages by amount: name, companies and amount of each; number of stages and totals."""
    amount = sa.func.coalesce(sa.func.sum(Company.deal_value), sa.literal_column("0"))
    count = sa.func.count()
    totals = sa.func.count().over(), sa.func.sum(count).over(), sa.func.sum(amount).over()
    stages = sa.select(Company.stage_id, count, amount, *totals).group_by(Company.stage_id)
    return stages.order_by(amount.desc(), count.desc(), Company.stage_id).limit(number(MAX_STAGES)).offset(number(0))


def read_days() -> list[Bar]:
    """Return the number of changes on each of the last 30 days in UTC, today last."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [today - timedelta(days=DAYS - 1 - day) for day in range(DAYS + 1)]
    before = [last for [last] in execute(days_query, **{f"start{day}": start for day, start in enumerate(starts)})]
    days = zip(starts, before, before[1:], strict=False)
    return [Bar(f"{start:%Y-%m-%d}", after - earlier) for start, earlier, after in days]


def days_query() -> sa.Select[*tuple[Any, ...]]:
    """Return the query for the number of the last change before the start of each day.

    It is a binary search in the change log, whose numbers have no gaps and rise with time.
    """
    integer = sa.BigInteger()
    last = sa.select(sa.func.coalesce(sa.func.max(Change.seq), sa.cast(number(0), integer))).scalar_subquery()
    starts = [sa.bindparam(f"start{day}", type_=Change.at.type) for day in range(DAYS + 1)]
    days = sa.union_all(*(sa.select(start.label("start")) for start in starts)).cte("days")
    first = sa.select(days.c.start, sa.cast(number(0), integer).label("low"), last.label("high"))
    search = first.cte("search", recursive=True)
    middle = (search.c.low + search.c.high + number(1)) // number(2)
    is_before = Change.at < search.c.start
    low = sa.case((is_before, middle), else_=search.c.low)
    high = sa.case((is_before, search.c.high), else_=middle - number(1))
    halves = sa.select(search.c.start, low, high).join(Change, Change.seq == middle)
    search = search.union_all(halves.where(search.c.low < search.c.high))
    return sa.select(search.c.low).where(search.c.low == search.c.high).order_by(search.c.start)
