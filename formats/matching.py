"""When two texts are the same e-mail address, URL, name or IP address: the SQL that rows are matched by."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import product
from math import prod
from string import ascii_lowercase, ascii_uppercase
from unicodedata import combining, normalize

TO_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
URL = re.compile(r"(https?://(?:[^/?#]*@)?)(\[[^\]]*\]|[^/?#:]*)(?::([0-9]*))?(/?)(.*)", re.I | re.S)
# The part of a URL before its path in lower case; no slash follows "https://" sooner than at the ninth character.
SLASH = "{position}(substr({{0}}, 9), '/')"
FOLDED_URL = (
    f"(CASE {SLASH} WHEN 0 THEN lower({{{{0}}}})"
    f" ELSE lower(substr({{{{0}}}}, 1, 7 + {SLASH})) || substr({{{{0}}}}, 8 + {SLASH}) END)"
).replace("{{0}}", "{0}")


@dataclass(frozen=True)
class Matching:
    """How a kind of text is matched. In the SQL, {0} stands for the column."""

    # Returns all values of the SQL expression for texts that are the same as this one.
    keys: Callable[[str], list[str]]
    sqlite: str
    postgresql: str


def spellings(text: str, most: int = 0) -> list[str]:
    """Return a text, and itself in other case, with composed and with decomposed letters (UAX #15).

    Each letter may differ if that makes at most `most` texts, and each word if that makes a third of them; otherwise
    all letters differ alike. ASCII letters are in lower case, as SQL's lower() leaves them.
    """
    if text.isascii():
        return [text.translate(TO_LOWER)]
    composed = normalize("NFC", text)
    words = [(word.lower(), word.upper(), word.title()) for word in re.split(r"(\s+)", composed)]
    cases = [text, text.lower(), text.upper(), text.title(), *combinations(words, most // 3)]
    found = [text, *(normalize(form, each) for each in cases for form in ("NFC", "NFD"))]
    found += combinations([(each.lower(), each.upper(), normalize("NFD", each)) for each in composed], most)
    return list(dict.fromkeys(each.translate(TO_LOWER) for each in found))


def combinations(parts: Iterable[tuple[str, ...]], most: int) -> list[str]:
    """Return each text that has one of each part's spellings, unless there are more than `most` of them."""
    unique = [dict.fromkeys(each.translate(TO_LOWER) for each in part) for part in parts]
    return list(map("".join, product(*unique))) if prod(map(len, unique)) <= most else []


def host_spellings(host: str) -> list[str]:
    """Return a host name, and itself as A-labels and U-labels (RFC 5890 §2.3), in other case."""
    if host.isascii() and "xn--" not in host.lower():
        return spellings(host)
    try:
        ascii_host = host.lower().encode("idna").decode()
        other = ascii_host if not host.isascii() else ascii_host.encode().decode("idna")
    except UnicodeError:
        return spellings(host)
    return list(dict.fromkeys([*spellings(host), ascii_host, *spellings(other)]))


def email_keys(address: str) -> list[str]:
    """Return the keys of an e-mail address: it is the same in other case (RFC 5321 §2.4 for the domain)."""
    local, at, domain = address.rpartition("@")
    return [f"{before}{at}{after}" for before, after in product(spellings(local), host_spellings(domain))]


def url_keys(url: str) -> list[str]:
    """Return the keys of a URL: scheme and host in other case, default port, empty path (RFC 3986 §6.2.2.1, §6.2.3)."""
    path_start = url.find("/", 8) if "/" in url[8:] else len(url)
    # As SQL puts it; some database may have stored what is no URL.
    itself = url[:path_start].translate(TO_LOWER) + url[path_start:]
    if not (parts := URL.fullmatch(url)):
        return [itself]
    before, host, port, slash, rest = parts.groups(default="")
    default_port = "443" if before[4] in "sS" else "80"
    ports = ["", f":{default_port}"] if port in {"", default_port} else [f":{port}"]
    paths = ["/"] if slash and rest[:1] not in {"", "?", "#"} else ["", "/"]
    heads = (f"{before.translate(TO_LOWER)}{name}{port}" for name, port in product(host_spellings(host), ports))
    # Without a slash, SQL puts all of it in lower case.
    keys = (f"{head}{path}{rest if path else rest.translate(TO_LOWER)}" for head, path in product(heads, paths))
    return list(dict.fromkeys([itself, *keys]))


def fold_text(text: str) -> str:
    """Return a text in lower case and without accents, as `q` compares it."""
    if text.isascii():
        return text.lower()
    return "".join(letter for letter in normalize("NFD", text.lower()) if not combining(letter))


def address_value(text: str) -> str | None:
    """Return the one spelling of an IP address, or None for other text."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def address_keys(text: str) -> list[str]:
    """Return the keys of an IP address: it is the same in any spelling (RFC 5952 §2)."""
    address = ip_address(text)
    keys = [str(address)]
    # Python and PostgreSQL differ in whether an IPv6 address ends like an IPv4 address.
    if isinstance(address, IPv6Address) and (high := int(address) >> 32) in {0, 0xFFFF}:
        keys.append(f"::{'ffff:' if high else ''}{IPv4Address(int(address) & 0xFFFFFFFF)}")
    return keys


NAME = Matching(partial(spellings, most=81), "lower({0})", "lower({0})")
EMAIL = Matching(email_keys, "lower({0})", "lower({0})")
WEBSITE = Matching(url_keys, FOLDED_URL.format("{0}", position="instr"), FOLDED_URL.format("{0}", position="strpos"))
# Functions that database/sqlite.py and a revision define.
ADDRESS = Matching(address_keys, "ip_value({0})", "ip_value({0})")
