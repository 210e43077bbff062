"""Settings → Webhooks, without JavaScript."""

import html
import re

import pytest
from flask.testing import FlaskClient

from tests.conftest import CreateRow, Query
from tests.pages.conftest import form_token, key, signed_in_client  # noqa: F401
from tests.webhooks.conftest import Add, Deliver, Receiver, answer
from webhooks.schema import EVENTS

PAGE = "/settings/webhooks"


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", page)).split())


def press(client: FlaskClient, path: str, **form: str | list[str]) -> str:
    """Send a form of the page; return the text of the page that follows."""
    response = client.post(path, data={"token": form_token(client), **form}, follow_redirects=True)
    assert response.status_code in {200, 201}, response.text
    return text_of(response.text)


def test_a_webhook_is_created_tested_disabled_replayed_rotated_and_deleted(
    signed_in_client: FlaskClient,  # noqa: F811
    receiver: Receiver,
    create_row: CreateRow,
    deliver: Deliver,
) -> None:
    empty = signed_in_client.get(PAGE).text
    assert "There are no webhooks yet." in text_of(empty)
    assert re.findall(r'name="events" value="(\S+)"( checked)?', empty)[:2] == [("*", " checked"), ("company.*", "")]
    created = press(
        signed_in_client, PAGE, url=receiver.url, events=["company.*", "contact.created"], description="Mail"
    )
    [secret] = re.findall(r"whsec_\S+", created)
    for _row in range(2):
        create_row("companies")
    listed = signed_in_client.get(PAGE).text
    assert f"{receiver.url} Mail company.* contact.created active 2 changes" in text_of(listed)
    assert secret not in listed
    [path] = re.findall(rf'href="({PAGE}/[^"]+)"', listed)

    receiver.answer = answer(503, b"<b>Closed</b>\nsecond\nthird\nfourth")
    page = press(signed_in_client, path, action="test")
    assert "Test message: The answer was 503 Service Unavailable." in page and "<b>Closed</b>" in page
    deliver()
    assert "active 1 failed 2 changes" in text_of(signed_in_client.get(PAGE).text)
    page = text_of(signed_in_client.get(path).text)
    assert "after 1 failed attempt " in page and "up to change 0 Lag 2 changes" in page
    assert "<b>Closed</b> second third" in page and "fourth" not in page
    assert "State disabled" in press(signed_in_client, path, action="disable")
    assert "State active" in press(signed_in_client, path, action="enable")
    receiver.answer = answer(204)
    deliver()
    assert "up to change 2 Lag 0 changes" in text_of(signed_in_client.get(path).text)
    assert "up to change 1 Lag 1 change " in press(signed_in_client, path, action="replay", since="1")
    assert re.findall(r"whsec_\S+", press(signed_in_client, path, action="rotate")) != [secret]
    assert "There are no webhooks yet." in press(signed_in_client, path, action="delete")


WRONG = [
    ({"url": "x", "events": "*"}, "Must be an http or https URL."),
    ({"url": "https://a.example", "events": ["contact.create", "*"]}, "'contact.create' is not an event."),
    ({"url": "https://a.example"}, "Must name at least one event"),
    ({"url": "x", "events": ["company.*", "contact.created"]}, "Must be an http or https URL."),
    ({"url": "https://a.example", "events": "*", "description": "x" * 256}, "Must have at most 255 characters"),
]


def test_a_wrong_form_is_shown_again_with_the_errors(
    signed_in_client: FlaskClient,  # noqa: F811
) -> None:
    for form, detail in WRONG:
        response = signed_in_client.post(PAGE, data={"token": form_token(signed_in_client), **form})
        assert response.status_code == 422
        assert detail in text_of(response.text)
        assert f'value="{form["url"]}"' in response.text
        checked = re.findall(r'name="events" value="(\S+)" checked', response.text)
        assert checked == [event for event in EVENTS if event in form.get("events", ())]


def test_a_form_without_the_token_of_the_session_changes_no_webhook(
    signed_in_client: FlaskClient,  # noqa: F811
    add: Add,
    query: Query,
) -> None:
    hook = add("https://a.example")
    before = query("SELECT * FROM webhooks")
    for action in "enable", "disable", "replay", "rotate", "delete", "test":
        response = signed_in_client.post(f"{PAGE}/{hook['id']}", data={"action": action, "since": "0"})
        assert response.status_code == 403
    assert signed_in_client.post(PAGE, data={"url": "https://b.example", "events": "*"}).status_code == 403
    assert query("SELECT * FROM webhooks") == before


@pytest.mark.parametrize(
    ("form", "status"), [({"action": "x"}, 422), *(({"action": "replay", "since": "9" * n}, 422) for n in (1, 5000))]
)
def test_a_wrong_button_changes_nothing(
    signed_in_client: FlaskClient,  # noqa: F811
    add: Add,
    form: dict[str, str],
    status: int,
) -> None:
    path = f"{PAGE}/{add('https://a.example')['id']}"
    response = signed_in_client.post(path, data={"token": form_token(signed_in_client), **form})
    assert response.status_code == status
    assert "State active" in text_of(signed_in_client.get(path).text)
    assert signed_in_client.get(f"{PAGE}/nothing").status_code == 404
