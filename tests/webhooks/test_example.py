"""The example of a receiver takes what is genuine, once."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from http.client import HTTPConnection

import pytest
from flask.testing import FlaskClient

from tests.conftest import ROOT
from tests.webhooks.conftest import URL, Add, Deliver
from webhooks.signing import new_secret, signed_headers

# Programs that print whether each message is genuine, after the code of the guide.
CHECKS = {
    "python": (sys.executable, "-c", "print(*(is_genuine(s, h, b.encode()) for s, h, b in MESSAGES))"),
    "js": (
        *("node", "--input-type=module", "-e"),
        "console.log(...MESSAGES.map(([s, h, b]) => (isGenuine(s, h, b) ? 'True' : 'False')))",
    ),
}


def test_the_example_receiver_takes_genuine_messages_once(admin: FlaskClient, add: Add, deliver: Deliver) -> None:
    hook = add("https://later.example/")
    program = [sys.executable, ROOT / "examples" / "webhook_receiver.py", "0"]
    environment = {**os.environ, "SECRET": hook["secret"]}
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        admin.patch(f"{URL}/{hook['id']}", json={"url": url})
        admin.put("/api/v1/contacts/ann", json={"name": "Ann"})
        deliver()
        admin.patch(f"{URL}/{hook['id']}", json={"since": 0})
        deliver()
        forged = HTTPConnection("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))
        headers = {"webhook-id": "x", "webhook-timestamp": "1", "webhook-signature": "v1,x"}
        forged.request("POST", "/", b"{}", headers)
        assert forged.getresponse().status == 401
        forged.close()
        process.terminate()
        lines = process.stdout.read().splitlines()
    assert [each["status"] for each in admin.get(f"{URL}/{hook['id']}/attempts").json] == [204, 204]
    assert len(lines) == 1 and lines[0].startswith('contact.created {"seq": 1, "resource": "contacts", "id": "ann"')


@pytest.mark.parametrize("language", ["python", pytest.param("js", marks=pytest.mark.tools)])
def test_the_code_of_the_guide_tells_genuine_messages_from_others(language: str) -> None:
    *command, check = CHECKS[language]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed.")
    [code] = re.findall(f"```{language}\n(.*?)```", (ROOT / "webhooks" / "guide.md").read_text(encoding="utf-8"), re.S)
    secret, old, now, body = new_secret(), new_secret(), int(time.time()), '{"type": "contact.created"}'
    headers = signed_headers("msg_1", now, body.encode(), [secret])
    messages = [
        (secret, headers, body),
        (old, signed_headers("msg_1", now, body.encode(), [secret, old]), body),
        (old, headers, body),
        (secret, headers, body.replace("created", "deleted")),
        (secret, headers | {"webhook-id": "msg_2"}, body),
        (secret, headers | {"webhook-signature": "v1,x v1"}, body),
        (secret, signed_headers("msg_1", now - 600, body.encode(), [secret]), body),
    ]
    declared = f"{'const ' if language == 'js' else ''}MESSAGES = {json.dumps(messages)}"
    printed = subprocess.run(
        [*command, f"{code}\n{declared}\n{check}"], capture_output=True, text=True, check=True
    ).stdout

    assert printed.split() == ["True"] * 2 + ["False"] * 5
