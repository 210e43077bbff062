"""The secrets of webhooks: encrypted in the database, and used to sign messages (Standard Webhooks 1.0.0)."""

import hmac
import re
import secrets
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from api.problems import Conflict
from database.columns import from_driver, now
from database.new_file import new_file
from settings import Settings

PREFIX = "whsec_"
NO_KEY = "Webhooks need the setting SECRET_KEY, which encrypts their secrets, on PostgreSQL: set it, and start again."
NO_FILE = "{}, the key file of webhooks, is missing, unreadable or damaged: restore it, or set SECRET_KEY and rotate."
UNREADABLE = (
    "Its secret can't be decrypted: SECRET_KEY, or the .key file beside the database, has changed or can't be read."
    " Restore it, or rotate the secret."
)


class Vault:
    """Encrypts secrets by SECRET_KEY or, without it, by a key in a file beside the SQLite database."""

    def __init__(self, settings: Settings) -> None:
        self.keys = settings.secret_key
        url = settings.database_url
        self.path = Path(f"{url.database}.key") if url.get_backend_name() == "sqlite" else None

    def encrypt(self, secret: str, is_first: bool) -> str:
        """Return the encrypted secret, by a new key if it is the first one. Raises Conflict if there is no key."""
        if not self.keys and self.path and is_first and not self.path.exists():
            with new_file(self.path) as part:
                part.chmod(0o600)
                part.write_text(secrets.token_hex(32))
        return str(self.fernet().encrypt(secret.encode()), "ascii")

    def decrypt(self, token: str) -> str:
        """Return a secret. Raises Conflict."""
        from cryptography.fernet import InvalidToken

        try:
            return str(self.fernet().decrypt(token), "ascii")
        except InvalidToken as error:
            raise Conflict(UNREADABLE) from error

    def decrypt_all(self, secret: str, previous: str | None, previous_until: Any) -> list[str]:
        """Return the secrets to sign by: for a day after a rotation the old one, too. Raises Conflict."""
        keys = [self.decrypt(secret)]
        if previous and (until := from_driver(previous_until)) and until > now():
            with suppress(Conflict):
                keys.append(self.decrypt(previous))
        return keys

    def fernet(self) -> Any:
        """Return the cipher: the first key encrypts, any of them decrypts. Raises Conflict if there is none."""
        # Imported here because most starts need no secret.
        from cryptography.fernet import Fernet, MultiFernet

        if not (texts := [*self.keys, *read_keys(self.path)]):
            raise Conflict(NO_FILE.format(self.path.name) if self.path else NO_KEY)
        # One round of SHA-256 is enough, because keys are random.
        return MultiFernet([Fernet(urlsafe_b64encode(sha256(text.encode()).digest())) for text in texts])


def read_keys(path: Path | None) -> list[str]:
    """Return the key in a file, if there is a whole one."""
    with suppress(OSError, ValueError):
        return re.findall(r"\A\s*([0-9a-f]{64})\s*\Z", path.read_text("ascii")) if path else []
    return []


def new_secret() -> str:
    """Return a new secret: 32 random bytes."""
    return PREFIX + b64encode(secrets.token_bytes(32)).decode()


def signed_headers(message_id: str, timestamp: int, body: bytes, keys: Iterable[str]) -> dict[str, str]:
    """Return the headers of a message, with a signature by each secret."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = [hmac.digest(b64decode(key.removeprefix(PREFIX)), signed, "sha256") for key in keys]
    signatures = " ".join(f"v1,{b64encode(each).decode()}" for each in digests)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}
