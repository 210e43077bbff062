"""A program that uses the Python client generated from the OpenAPI document."""

import sys

from cardfile import AuthenticatedClient
from cardfile.api.changes import list_changes, revert_changes
from cardfile.api.companies import create_company, get_company, list_companies
from cardfile.models import Change, Company, CreateCompanyMatchOn, NewCompany, PartialCompany, Problem, Revert

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])

created = create_company.sync(
    client=client, body=NewCompany(name="Acme", website="https://acme.com", deal_value=1999.5)
)
assert isinstance(created, Company) and created.deal_value == 1999.5 and created.created_at.tzinfo

again = create_company.sync(
    client=client, body=NewCompany(name="Acme Ltd", website="https://acme.com"), match_on=CreateCompanyMatchOn.WEBSITE
)
assert isinstance(again, Company) and (again.id, again.deal_value) == (created.id, 1999.5)

both = create_company.sync(client=client, body=[NewCompany(name="Globex"), NewCompany(name="Initech")])
assert isinstance(both, list)

found = list_companies.sync(client=client, sort="name", limit=2, deal_valuegte=1000.0)
assert isinstance(found, list) and found == [again]
part = list_companies.sync(client=client, fields="id,name", name=["Globex"])
assert isinstance(part, list) and isinstance(part[0], PartialCompany) and part[0].name == "Globex"

[*_others, last] = list_changes.sync(client=client, net=True)
assert isinstance(last, Change) and last.key_id and last.before is None
reverted = revert_changes.sync(client=client, body=Revert(request_id=last.request_id), dry_run=True)
assert [(each.action, each.data) for each in reverted] == [("deleted", None)] * 2
assert list_companies.sync(client=client, as_of="0") == []

refused = create_company.sync(client=client, body=NewCompany(name=""))
assert isinstance(refused, Problem) and refused.status == 422 and refused.errors
assert refused.errors[0].pointer == "/name"
missing = get_company.sync("nobody", client=client)
assert isinstance(missing, Problem) and missing.detail == "There is no company with the id nobody."
