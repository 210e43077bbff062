"""What there is at a glance: four statements, of which only the one about deals reads rows."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from api.json_sql import number as literal
from database import begin_snapshot, execute
from models import STATUSES, Change, Company, Contact, Conversation

DAYS = 30
STAGES_SHOWN = 8


class Bar(NamedTuple):
    """A line of a chart: what it is of, how many there are, what they are worth, and its length out of 100."""

    label: str
    number: int
    amount: float = 0
    length: float = 0


def survey() -> dict[str, Any]:
    """Return the charts' lines: of resources, stages, statuses and days, all as they were at one moment."""
    begin_snapshot()
    counts = dict.fromkeys(STATUSES, 0) | dict(execute(statuses_query).fetchall())
    stages, companies = read_stages()
    [contacts] = execute(contacts_query).fetchone()
    resources = {"Companies": companies, "Contacts": contacts, "Conversations": sum(counts.values())}
    return {
        "resources": drawn([Bar(name, count) for name, count in resources.items()], "number"),
        "stages": drawn(stages, "amount"),
        "statuses": drawn([Bar(name.capitalize(), count) for name, count in counts.items()], "number"),
        "days": drawn(read_days(), "number"),
    }


def drawn(bars: list[Bar], measure: str) -> list[Bar]:
    """Return the bars, each as long as its measure says; the longest is 100."""
    longest = max((getattr(bar, measure) for bar in bars), default=0) or 1
    return [bar._replace(length=round(100 * getattr(bar, measure) / longest, 2)) for bar in bars]


def read_stages() -> tuple[list[Bar], int]:
    """Return the stages of the largest deals, and one bar for all the others; then how many companies there are."""
    rows = execute(stages_query).fetchall()
    bars = [Bar("No stage" if name is None else name or "“”", count, float(amount)) for name, count, amount, *_ in rows]
    if not rows:
        return [], 0
    stages, companies, amount = rows[0][3:]
    if stages > len(bars):
        others = f"{stages - len(bars):,} others"
        rest = int(companies) - sum(bar.number for bar in bars), float(amount) - sum(bar.amount for bar in bars)
        bars.append(Bar(others, *rest))
    return bars, int(companies)


def stages_query() -> sa.Select[*tuple[Any, ...]]:
    """Return the query for stages, largest deals first: name, companies and sum of each; number and sums of all."""
    amount = sa.func.coalesce(sa.func.sum(Company.deal_value), sa.literal_column("0"))
    count = sa.func.count()
    totals = sa.func.count().over(), sa.func.sum(count).over(), sa.func.sum(amount).over()
    found = sa.select(Company.stage_id, count, amount, *totals).group_by(Company.stage_id)
    return found.order_by(amount.desc(), count.desc(), Company.stage_id).limit(literal(STAGES_SHOWN)).offset(literal(0))


def statuses_query() -> sa.Select[*tuple[Any, ...]]:
    """Return the query for how many conversations have each status."""
    return sa.select(Conversation.status, sa.func.count()).group_by(Conversation.status)


def contacts_query() -> sa.Select[*tuple[Any, ...]]:
    """Return the query for how many contacts there are."""
    return sa.select(sa.func.count()).select_from(Contact)


def read_days() -> list[Bar]:
    """Return how many changes there were on each of the last days, in UTC, today last."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [today - timedelta(days=DAYS - 1 - number) for number in range(DAYS + 1)]
    before = [last for [last] in execute(days_query, **{f"start{place}": start for place, start in enumerate(starts)})]
    days = zip(starts, before, before[1:], strict=False)
    return [Bar(f"{start:%Y-%m-%d}", after - earlier) for start, earlier, after in days]


def days_query() -> sa.Select[*tuple[Any, ...]]:
    """Return the query for the number of the last change before each day's start.

    Numbers have no gaps and rise with time, so each is found by halving the log, however long it is.
    """
    whole = sa.BigInteger()
    last = sa.select(sa.func.coalesce(sa.func.max(Change.seq), sa.cast(literal(0), whole))).scalar_subquery()
    starts = [sa.bindparam(f"start{place}", type_=Change.at.type) for place in range(DAYS + 1)]
    days = sa.union_all(*(sa.select(start.label("start")) for start in starts)).cte("days")
    first = sa.select(days.c.start, sa.cast(literal(0), whole).label("low"), last.label("high"))
    search = first.cte("search", recursive=True)
    middle = (search.c.low + search.c.high + literal(1)) // literal(2)
    is_before = Change.at < search.c.start
    low = sa.case((is_before, middle), else_=search.c.low)
    high = sa.case((is_before, search.c.high), else_=middle - literal(1))
    halves = sa.select(search.c.start, low, high).join(Change, Change.seq == middle)
    search = search.union_all(halves.where(search.c.low < search.c.high))
    return sa.select(search.c.low).where(search.c.low == search.c.high).order_by(search.c.start)
