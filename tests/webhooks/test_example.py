"""The example of a receiver takes what is genuine, once."""

import os
import subprocess
import sys
from http.client import HTTPConnection

from flask.testing import FlaskClient

from tests.conftest import ROOT
from tests.webhooks.conftest import URL, Add, Deliver


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
