"""The settings: one typed table, read from flags, then the environment, then the defaults."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from os.path import isdir
from pathlib import Path
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

VERSION = "0.1.0"
# How messages write a command: as README in a checkout, else with the installed program or the one-file binary.
PROGRAM = ".venv/bin/python service.py" if Path(__file__).with_name("pyproject.toml").exists() else "cardfile"
# Settings that can also be read from a file, whose path is in the variable NAME_FILE.
SECRETS = {"cardfile_admin_key", "secret_key"}


class InvalidSetting(Exception):
    """A setting has a value that can't be used; the message is one sentence for the operator."""


def missing_package(error: ImportError, extra: str) -> str:
    """Return the sentence that says how to install an optional package, or that the one-file binary can't use any."""
    if getattr(sys, "frozen", False):
        return f"{error}: it is not part of the one-file binary: run Cardfile from a checkout."
    requirements = Path(__file__).with_name(f"requirements-{extra}.txt")
    source = f"-r {requirements.name}" if requirements.exists() else f"'.[{extra}]' in a checkout of Cardfile"
    return f"{error}: pip install {source}"


def setting(default: str, flag: str, parse: Callable[[str], Any], sentence: str) -> Any:
    """Declare a setting: its default as text, its flag, its parser and its description."""
    metadata = {"default": default, "flag": flag, "parse": parse, "help": sentence}
    return field(default_factory=partial(parse, default), metadata=metadata)


def whole_number(smallest: int, largest: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from smallest to largest."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and smallest <= int(text) <= largest):
            raise ValueError(f"must be a whole number from {smallest} to {largest}")
        return int(text)

    return parse


def without_password(text: str) -> str:
    """Return a database URL for a message: of a server's only the scheme, because any other part may be a password."""
    scheme = re.match(r"[\w+]*://", text)
    is_file = not set(text.removeprefix("sqlite://")) & set(":@?=")
    return text if is_file else f"{scheme[0] if scheme else ''}***"


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that accepts one of the choices."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return text

    return parse


def host_name(text: str) -> str:
    """Return the host name or address to listen on."""
    if not text.strip() or any(character.isspace() or character in "/@" for character in text):
        raise ValueError("must be a host name or an IP address, without a port")
    return text


def is_path(text: str) -> bool:
    """Tell whether a text is a path: it starts like one, or has a dot or slash, but none of a URL's characters :@?=."""
    starts_like_one = Path(text).is_absolute() or text.startswith(("./", "../"))
    return starts_like_one or (bool(set("./") & set(text)) and not set(":@?=") & set(text))


def database_url(text: str) -> URL:
    """Return the URL of a PostgreSQL database, or of a SQLite file with its absolute path."""
    if is_path(text) and not isdir(text):
        return URL.create("sqlite", database=str(Path(text).absolute()))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # ValueError: the port isn't a number.
        url = URL.create("")
    if url.get_backend_name() in {"postgresql", "postgres"} and url.database:
        if "@" in f"{url.host}{url.database}":
            raise ValueError("must have each @ in the password percent-encoded, as %40")
        return url.set(drivername="postgresql+psycopg")
    path = Path(url.database or "").absolute()
    if url.drivername != "sqlite" or url.database == ":memory:" or isdir(path) or url.host or "?" in text:
        raise ValueError("must name a file, as in ./cardfile.db or sqlite:///cardfile.db, or a PostgreSQL database")
    return URL.create("sqlite", database=str(path))


def rate_limit(text: str) -> tuple[int, int] | None:
    """Return a number of requests and the seconds of their window, or None for no limit."""
    seconds = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
    found = re.fullmatch(rf"([1-9][0-9]{{0,8}})/({'|'.join(seconds)})", text)
    if not found and text != "off":
        raise ValueError("must be off, or requests per second, minute, hour or day, as in 100/minute")
    return (int(found[1]), seconds[found[2]]) if found else None


def origins(text: str) -> frozenset[str]:
    """Return a set of origins as browsers send them (RFC 6454 §6.1), `*` for all."""
    found = frozenset(part.strip().lower() for part in text.split(",") if text != "none")
    for each in found - {"*"}:
        # Browsers leave a default port out.
        if not re.fullmatch(r"(?!http://.*:80$|https://.*:443$)[a-z][a-z0-9+.-]*://[a-z0-9._-]+(:[0-9]{1,5})?", each):
            raise ValueError("must be none, *, or origins as in https://app.example,http://localhost:5173")
    return found


def secret_keys(text: str) -> tuple[str, ...]:
    """Return secrets of at least 32 characters, the newest first."""
    found = tuple(part.strip() for part in text.split(",")) if text != "none" else ()
    if any(len(each) < 32 or not each.isprintable() for each in found):
        raise ValueError("must be none, or at least 32 characters, as `openssl rand -hex 32` prints them")
    return found


def proxy(text: str) -> tuple[str, int] | None:
    """Return the host and port of an HTTP proxy, or None."""
    found = re.fullmatch(r"http://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})/?", text)
    if not found and text != "none":
        raise ValueError("must be none, or an HTTP proxy, as in http://proxy.example:3128")
    return (found[1].strip("[]"), int(found[2])) if found else None


@dataclass(frozen=True)
class Settings:
    """The settings with their types and defaults; environment variables have these names in capitals."""

    database_url: URL = setting(  # noqa: RUF009
        "sqlite:///cardfile.db",
        "--database",
        database_url,
        "The database: a file's path, also behind sqlite:///, or postgresql+psycopg://user:password@host/name.",
    )
    host: str = setting("127.0.0.1", "--host", host_name, "The address to listen on.")
    port: int = setting("8000", "--port", whole_number(0, 65535), "The port to listen on; 0 takes any free one.")
    threads: int = setting("16", "--threads", whole_number(1, 64), "Threads of each process.")
    workers: int = setting("1", "--workers", whole_number(1, 64), "Processes; more than 1 needs granian.")
    server: str = setting(
        "waitress",
        "--server",
        one_of("waitress", "granian"),
        "WSGI server: waitress (one process) or granian (several).",
    )
    proxies: int = setting("0", "--proxies", whole_number(0, 10), "Proxies in front whose X-Forwarded headers count.")
    rate_limit: tuple[int, int] | None = setting(
        "off", "--rate-limit", rate_limit, "Requests that each API key may send, as in 100/minute."
    )
    cors_origins: frozenset[str] = setting(
        "none", "--cors-origins", origins, "Origins whose pages may use the API in browsers, by commas, or * for all."
    )
    keep_changes: int = setting(
        "0", "--keep-changes", whole_number(0, 36_500), "Days that superseded changes keep their data; 0 keeps it all."
    )
    secret_key: tuple[str, ...] = setting(
        "none", "--secret-key", secret_keys, "Key that encrypts webhooks' secrets; older keys after it, by commas."
    )
    cardfile_admin_key: str | None = setting(
        "none",
        "--admin-key",
        lambda text: None if text == "none" else text,
        "First key of scope admin, while there is none.",
    )
    webhook_networks: str = setting(
        "public",
        "--webhook-networks",
        one_of("public", "private"),
        "Addresses that webhooks may send to: public, or private too.",
    )
    webhook_proxy: tuple[str, int] | None = setting(
        "none", "--webhook-proxy", proxy, "HTTP proxy that messages of webhooks are sent through."
    )
    log_format: str = setting("text", "--log-format", one_of("text", "json"), "Format of the log: text or json.")


def read_secret(name: str, environment: Mapping[str, str]) -> str | None:
    """Return the text of the file whose path is in a variable, or None if that isn't set. Raises InvalidSetting."""
    path = environment.get(name)
    try:
        return Path(path).read_text("utf-8").strip() if path else None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or "It is not UTF-8"
        raise InvalidSetting(f"{name} must name a file that can be read, not {path!r}: {reason}.") from None


def load_settings(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Settings:
    """Return the settings: flags override the environment, which overrides the defaults.

    Raises InvalidSetting, which names the flag or variable and its value.
    """
    values = {}
    for row in fields(Settings):
        name = row.name.upper()
        sources = {row.metadata["flag"]: flags.get(row.name), name: environment.get(name) or None}
        if row.name in SECRETS:
            sources[f"{name}_FILE"] = read_secret(f"{name}_FILE", environment)
        # Parsed now, not at import: the current folder may have changed.
        sources[f"The default of {name}"] = row.metadata["default"]
        source, text = next((source, text) for source, text in sources.items() if text is not None)
        try:
            values[row.name] = row.metadata["parse"](text)
        except ValueError as error:
            shown = without_password(text) if row.name == "database_url" else text
            shown = "***" if row.name in SECRETS else shown
            raise InvalidSetting(f"{source} {error}, not {shown!r}.") from None
    return Settings(**values)


def variables_used(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> list[str]:
    """Return the names of the environment variables that set a value, which no flag overrides."""
    names = [row.name for row in fields(Settings) if flags.get(row.name) is None]
    return [name.upper() for name in names if environment.get(name.upper())]
