"""A query string that isn't understood to the last letter is refused, and the answer says what was probably meant."""

import pytest
from flask.testing import FlaskClient

NOT_AN_ID = "Must be 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_', '~' and '-'."


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("companies?limt=5", "There is no parameter limt here. None is known here."),
        ("companies?companyId=x", "There is no parameter companyId here. None is known here."),
        ("contacts?companyid=x", "There is no parameter companyid here. Did you mean companyId?"),
        ("contacts?company_id=x", "There is no parameter company_id here. Did you mean companyId?"),
        ("conversations?zzz=x", "There is no parameter zzz here. Known: companyId."),
        ("conversations?companyId=x&zzz", "There is no parameter zzz here. Known: companyId."),
        ("contacts?companyId=", f"companyId can't be ''. {NOT_AN_ID}"),
        ("contacts?companyId=a&companyId=b%20c", f"companyId can't be 'b c'. {NOT_AN_ID}"),
        (
            "contacts?companyId=" + "x" * 65,
            f"companyId can't be '{'x' * 65}'. Must have at most 64 characters, not 65.",
        ),
        ("contacts/x?companyId=y", "There is no parameter companyId here. None is known here."),
        ("keys?limit=1", "There is no parameter limit here. None is known here."),
    ],
)
def test_an_unknown_parameter_or_value_is_400(admin: FlaskClient, path: str, detail: str) -> None:
    answer = admin.get(f"/api/v1/{path}")

    assert (answer.status_code, answer.json["detail"]) == (400, detail)
