"""Secrets of webhooks: how they are encrypted where they are stored, and how they sign (Standard Webhooks 1.0.0)."""

import hmac
import secrets
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from api.problems import Conflict
from database.new_file import new_file
from settings import Settings

PREFIX = "whsec_"
NO_KEY = "Webhooks need the setting SECRET_KEY, which encrypts their secrets, on PostgreSQL: set it, and start again."
UNREADABLE = "Its secret can't be decrypted: SECRET_KEY, or the .key file beside the database, has changed. Rotate it."


class UnreadableSecret(Conflict):
    """The key that encrypted a secret is no longer there."""


class Vault:
    """Encrypts secrets by SECRET_KEY or, without it, by a key in a file beside the SQLite database."""

    def __init__(self, settings: Settings) -> None:
        self.keys = settings.secret_key
        url = settings.database_url
        self.path = Path(f"{url.database}.key") if url.get_backend_name() == "sqlite" else None

    def encrypt(self, secret: str) -> str:
        """Return the encrypted secret, by a new key if there is none. Raises Conflict where SECRET_KEY is needed."""
        if not self.keys and self.path and not self.path.exists():
            with new_file(self.path) as part:
                part.chmod(0o600)
                part.write_text(secrets.token_hex(32))
        return str(self.fernet().encrypt(secret.encode()), "ascii")

    def decrypt(self, token: str) -> str:
        """Return a secret. Raises UnreadableSecret."""
        from cryptography.fernet import InvalidToken

        try:
            return str(self.fernet().decrypt(token), "ascii")
        except (InvalidToken, Conflict) as error:
            raise UnreadableSecret(UNREADABLE) from error

    def fernet(self) -> Any:
        """Return the cipher: the first key encrypts, any of them decrypts."""
        # Imported here because most starts need no secret.
        from cryptography.fernet import Fernet, MultiFernet

        in_file = [self.path.read_text("ascii")] if self.path and self.path.exists() else []
        if not (texts := [*self.keys, *in_file]):
            raise Conflict(NO_KEY)
        # The texts are random, so that one round is enough.
        return MultiFernet([Fernet(urlsafe_b64encode(sha256(text.encode()).digest())) for text in texts])


def new_secret() -> str:
    """Return a new secret: 32 random bytes."""
    return PREFIX + b64encode(secrets.token_bytes(32)).decode()


def signed_headers(message_id: str, timestamp: int, body: bytes, keys: Iterable[str]) -> dict[str, str]:
    """Return the headers of a message, with a signature by each secret."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = [hmac.digest(b64decode(key.removeprefix(PREFIX)), signed, "sha256") for key in keys]
    signatures = " ".join(f"v1,{b64encode(each).decode()}" for each in digests)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}
