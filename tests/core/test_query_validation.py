"""An unknown query parameter or invalid value is refused, with a suggestion."""

import base64
import json

import pytest
from flask.testing import FlaskClient

from models import STATUSES
from schemas import RESOURCES
from tests.conftest import CreateRow, Query

pytestmark = pytest.mark.databases("sqlite", "postgresql")

INVALID_ID = "Must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', '~' and '-', and not '.' or '..'."
INVALID_TIME = "Must be a time with an offset, as in 2024-01-15T10:30:00Z (RFC 3339)."


def cursor(*values: object) -> str:
    """Return a cursor with these values, encoded like the cursor of a list."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


INVALID_EMAIL = "Must be an e-mail address, as in jane@acme.com."
INVALID_URL = "Must be an http or https URL."
POSITION = "Must be a whole number from 0 to 2147483647."
BLANK = "Must not be blank, nor have line feeds or other control characters."
NO_BRACKETS = "Send {} without brackets, and repeat it to match any of several values."
PLUS = "A + in a query string means a space: send %2B for a plus sign."
BLANK_FIRST = "Character 1 is U+0020 (SPACE)."
ZERO_WIDTH_FIRST = "Character 1 is U+200B (ZERO WIDTH SPACE)."
ZERO_WIDTH_IN_URL = f"'https://acme\\u200b.com'. {INVALID_URL} Character 13 is U+200B (ZERO WIDTH SPACE)."
TOO_MANY_VALUES = "name can have at most 2000 values, not 2001: send several requests."
INVALID_CURSOR = "cursor must be one that this list gave, with the same sort and asOf: start again without it."
LIST_PARAMETERS = "limit, cursor, sort, q, fields, include, asOf"
FEED_PARAMETERS = "since, until, limit, net, cursor, resource, id, keyId, requestId"
CONTACT_FIELDS = "id, companyId, name, email, phone, title, role, notes, isPrimary, userId, createdAt, updatedAt"


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("companies?limt=5", "There is no parameter limt here. Did you mean limit?"),
        ("contacts?companyid=x", "There is no parameter companyid here. Did you mean companyId?"),
        ("contacts?company_id=x", "There is no parameter company_id here. Did you mean companyId?"),
        ("contacts?zzz=x", f"There is no parameter zzz here. Known: {LIST_PARAMETERS}, {CONTACT_FIELDS}."),
        ("contacts/x?companyId=y", "There is no parameter companyId here. Known: fields, include, asOf."),
        ("keys?limit=1", "There is no parameter limit here. None is known here."),
        ("changes?zzz=1", f"There is no parameter zzz here. Known: {FEED_PARAMETERS}."),
        ("contacts?companyId=", f"companyId can't be ''. {INVALID_ID}"),
        ("contacts?companyId=a&companyId=b%20c", f"companyId can't be 'b c'. {INVALID_ID}"),
        ("contacts?isPrimary=yes", "isPrimary can't be 'yes'. Must be true or false."),
        ("contacts?isPrimary=1", "isPrimary can't be '1'. Must be true or false."),
        ("contacts?email=john", "email can't be 'john'. Must be an e-mail address, as in jane@acme.com."),
        ("companies?dealValue=much", "dealValue can't be 'much'. Must be a number."),
        ("companies?dealValue=null&dealValue=", "dealValue can't be ''. Must be a number."),
        ("companies?position=null", "position can't be 'null'. Must not be null."),
        ("companies?dealValue[gte]=1e99", "dealValue can't be '1e99'. Must be a number from 0 to 999999999999.99."),
        ("companies?createdAt[gte]=2024-01-15", f"createdAt can't be '2024-01-15'. {INVALID_TIME}"),
        ("companies?dealValue[gte]=null", "dealValue[gte] can't be null: dealValue=null and dealValue[ne]=null can."),
        ("companies?isCustomer=%20true", f"isCustomer can't be ' true'. Must be true or false. {BLANK_FIRST}"),
        ("companies?%20name=a", f"There is no parameter  name here. {BLANK_FIRST} Did you mean name?"),
        ("contacts?companyId=%E2%80%8Bx", f"companyId can't be '\\u200bx'. {INVALID_ID} {ZERO_WIDTH_FIRST}"),
        ("companies?website=https://acme%E2%80%8B.com", f"website can't be {ZERO_WIDTH_IN_URL}"),
        ("contacts?email=jane+news@lee.example", f"email can't be 'jane news@lee.example'. {INVALID_EMAIL} {PLUS}"),
        ("companies?website=http://a/?b+c", f"website can't be 'http://a/?b c'. {INVALID_URL} {PLUS}"),
        ("contacts?companyId=a+b", f"companyId can't be 'a b'. {INVALID_ID} {PLUS}"),
        (
            "contacts?createdAt[gte]=2024-01-01T00:00:00+02:00",
            f"createdAt can't be '2024-01-01T00:00:00 02:00'. {INVALID_TIME} {PLUS}",
        ),
        ("companies?dealValue=1e+3", f"dealValue can't be '1e 3'. Must be a number. {PLUS}"),
        ("companies?position[ne]=+1", f"position can't be ' 1'. {POSITION} {BLANK_FIRST} {PLUS}"),
        ("contacts?name=+", f"name can't be ' '. {BLANK} {BLANK_FIRST} {PLUS}"),
        ("conversations?tags=+", f"tags can't be ' '. Must not be blank. {BLANK_FIRST} {PLUS}"),
        ("contacts?email=a%20b&name=a", f"email can't be 'a b'. {INVALID_EMAIL}"),
        ("companies?createdBy=%ff", "The query string must be in UTF-8."),
        ("companies?cursor=WyJjb21wYW5pZXMiLCJjcmVhdGVkQXQiLG51bGwsbnVsbF0", INVALID_CURSOR),
        ("companies?dealValue[like]=1", "dealValue has no operator like. Known: gte, gt, lte, lt, ne."),
        ("companies?dealValue[]=1", NO_BRACKETS.format("dealValue")),
        ("conversations?status[]=open&status[]=closed", NO_BRACKETS.format("status")),
        ("conversations?tags[0]=urgent", NO_BRACKETS.format("tags")),
        ("companies?dealValue[gt]=1&dealValue[gt]=2", "dealValue[gt] must be given once, not as '1' and '2'."),
        ("companies?name[gt]=a", "name has no operators: they are for numbers and times. To search texts, use q."),
        ("companies?name[gt=a", "There is no parameter name[gt here. Did you mean name?"),
        ("conversations?status=opened", f"status can't be 'opened'. Must be one of {', '.join(STATUSES)}."),
        ("conversations?tags=", "tags can't be ''. Must not be blank."),
        ("contacts?limit=0", "limit must be a whole number from 1 to 1000, not '0'."),
        ("contacts?limit=1001", "limit must be a whole number from 1 to 1000, not '1001'."),
        ("contacts?limit=ten", "limit must be a whole number from 1 to 1000, not 'ten'."),
        ("contacts?limit=%D9%A1", "limit must be a whole number from 1 to 1000, not '\u0661'."),
        ("contacts?limit=1&limit=2", "limit must be given once, not as '1' and '2'."),
        ("contacts?sort=name&limit=1&sort=-name", "sort must be given once, not as 'name' and '-name'."),
        ("contacts?q=a&q=", "q must be given once, not as 'a' and ''."),
        ("changes?since=1&since=01", "since must be given once, not as '1' and '01'."),
        ("contacts?sort=nmae", "sort can't have 'nmae'. Did you mean name?"),
        ("contacts?sort=", f"sort can't have ''. Known: {CONTACT_FIELDS}."),
        ("contacts?sort=name,-name", "sort must name name once."),
        ("contacts?sort=--name", "sort can't have '--name'. Did you mean name?"),
        ("contacts?fields=id,nmae", "fields can't have 'nmae'. Did you mean name?"),
        ("contacts?fields=", f"fields can't have ''. Known: {CONTACT_FIELDS}."),
        ("contacts?include=contacts", "include can't have 'contacts'. Known: company."),
        ("companies?include=contact", "include can't have 'contact'. Did you mean contacts?"),
        ("contacts?q=", "q must be one or more words, 255 characters in all."),
        ("contacts?q=a+b+c+d+e+f+g+h+i+j+k+a", "q can have at most 10 different words, not 11."),
        ("contacts?q=" + "x" * 256, "q must be one or more words, 255 characters in all."),
        ("contacts?cursor=nonsense", INVALID_CURSOR),
        ("contacts?cursor=%C3%A9", INVALID_CURSOR),
        ("contacts?cursor=W10", INVALID_CURSOR),
        ("contacts?cursor=WyJjcmVhdGVkQXQiXQ", INVALID_CURSOR),
        (f"companies?sort=position&cursor={cursor('companies', 'position', 1.5, 'x')}", INVALID_CURSOR),
        (f"companies?cursor={cursor('companies', 'createdAt', 'nonsense', 'x')}", INVALID_CURSOR),
        (f"companies?cursor={cursor('companies', 'createdAt', 1, 'x')}", INVALID_CURSOR),
        ("companies?" + "&".join(f"name={number}" for number in range(2001)), TOO_MANY_VALUES),
        ("changes?since=-1", "since must be a whole number from 0 to 9223372036854775807, not '-1'."),
        ("changes?since=1e3", "since must be a whole number from 0 to 9223372036854775807, not '1e3'."),
        ("changes?until=-1", "until must be a whole number from 0 to 9223372036854775807, not '-1'."),
        ("changes?since=3&until=2", "until must not be before since: 2 is before 3."),
        ("changes?until=1", "The last change is 0: until can't be 1 yet."),
        ("changes?resource=contact", "resource can't be 'contact'. Did you mean contacts?"),
        ("changes?requestId=", "requestId must be 1 to 128 visible ASCII characters."),
        ("changes?net=yes", "net must be true or false, not 'yes'."),
        ("changes?cursor=1", "cursor is for net=true: without it, send since."),
        ("companies?asOf=1", "asOf must be a whole number from 0 to 0, not '1'."),
        ("contacts/x?asOf=-1", f"asOf can be a version or a time, not '-1'. {INVALID_TIME}"),
        ("companies?asOf=2024-01-15", f"asOf can be a version or a time, not '2024-01-15'. {INVALID_TIME}"),
        (
            "companies?asOf=2024-01-01T00:00:00+02:00",
            f"asOf can be a version or a time, not '2024-01-01T00:00:00 02:00'. {INVALID_TIME} {PLUS}",
        ),
        ("companies?asOf=2999-01-01T00:00:00Z", "asOf can't be '2999-01-01T00:00:00Z': that is in the future."),
    ],
)  # fmt: skip
def test_an_unknown_parameter_or_invalid_value_is_400(admin: FlaskClient, path: str, detail: str) -> None:
    response = admin.get(f"/api/v1/{path}")

    assert (response.status_code, response.json["detail"]) == (400, detail)


def test_unescaped_bytes_that_are_not_utf8_are_400(admin: FlaskClient) -> None:
    response = admin.get("/api/v1/companies", environ_overrides={"QUERY_STRING": "createdBy=\xff"})

    assert (response.status_code, response.json["detail"]) == (400, "The query string must be in UTF-8.")


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (
            ["page", "offset", "per_page", "perPage", "pageSize", "page_size", "skip", "start", "page[size]", "$top"],
            "For pages, send limit, then request the URL in the Link header.",
        ),
        (
            ["order", "orderBy", "order_by", "sort_by", "sortBy", "$orderby"],
            "Send sort=createdAt, or sort=-createdAt for the descending order.",
        ),
        (
            ["search", "query", "filter", "filter[name]", "where"],
            "Send q=… to search; each field's name is a filter, as in createdAt[gte]=2024-01-01T00:00:00Z.",
        ),
    ],
)
def test_the_error_for_a_parameter_of_other_apis_says_what_to_send(
    reader: FlaskClient, names: list[str], hint: str
) -> None:
    for resource in RESOURCES:
        for name in names:
            response = reader.get(f"/api/v1/{resource}", query_string={name: "1"})
            assert response.json["detail"] == f"There is no parameter {name} here. {hint}"
    assert reader.get("/api/v1/changes?order=asc").json["detail"].endswith(f"Known: {FEED_PARAMETERS}.")
    assert reader.get("/api/v1/contacts/x?search=a").json["detail"].endswith("Known: fields, include, asOf.")


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("POST", "contacts?matchon=email", "There is no parameter matchon here. Did you mean matchOn?"),
        ("POST", "contacts?matchOn=phone", "matchOn can't have 'phone'. Known: id, email."),
        ("POST", "conversations?matchOn=status", "matchOn can't have 'status'. Known: id."),
        ("POST", "contacts?dryRun=yes", "dryRun must be true or false, not 'yes'."),
        ("PATCH", "contacts/x?dry=true", "There is no parameter dry here. Did you mean dryRun?"),
        ("DELETE", "contacts/x?limit=1", "There is no parameter limit here. Known: dryRun."),
    ],
)
def test_a_write_with_an_unknown_parameter_writes_nothing(
    writer: FlaskClient, create_row: CreateRow, query: Query, method: str, path: str, detail: str
) -> None:
    create_row("contacts", id="x")
    response = writer.open(f"/api/v1/{path}", method=method, json={"name": "John"})

    assert (response.status_code, response.json["detail"]) == (400, detail)
    assert query("SELECT count(*) FROM changes") == [(1,)]
