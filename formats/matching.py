"""Which texts count as the same e-mail address, URL, name or IP address, and the SQL that compares them."""

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
# A URL with the part before its path in lower case. The slash of the path is at the ninth character or later.
SLASH = "{position}(substr({{0}}, 9), '/')"
FOLDED_URL = (
    f"(CASE {SLASH} WHEN 0 THEN lower({{{{0}}}})"
    f" ELSE lower(substr({{{{0}}}}, 1, 7 + {SLASH})) || substr({{{{0}}}}, 8 + {SLASH}) END)"
).replace("{{0}}", "{0}")


@dataclass(frozen=True)
class Matching:
    """How a kind of text is compared. In the SQL, {0} stands for the column."""

    # Returns the values that the SQL expression can have for texts that count as the same as this one.
    keys: Callable[[str], list[str]]
    sqlite: str
    postgresql: str


def variants(text: str, limit: int = 0) -> list[str]:
    """Return a text and its variants: in other case, with composed and with decomposed letters (UAX #15).

    Letters vary one by one if that makes at most `limit` variants, words if that makes at most a third of it;
    otherwise only the whole text varies. ASCII letters are in lower case, as SQL's lower() returns them.
    """
    if text.isascii():
        return [text.translate(TO_LOWER)]
    composed = normalize("NFC", text)
    words = [(word.lower(), word.upper(), word.title()) for word in re.split(r"(\s+)", composed)]
    cases = [text, text.lower(), text.upper(), text.title(), *combinations(words, limit // 3)]
    found = [text, *(normalize(form, each) for each in cases for form in ("NFC", "NFD"))]
    found += combinations([(each.lower(), each.upper(), normalize("NFD", each)) for each in composed], limit)
    return list(dict.fromkeys(each.translate(TO_LOWER) for each in found))


def combinations(parts: Iterable[tuple[str, ...]], limit: int) -> list[str]:
    """Return each text with one variant of each part, or nothing if there are more than `limit` of them."""
    unique = [dict.fromkeys(each.translate(TO_LOWER) for each in part) for part in parts]
    return list(map("".join, product(*unique))) if prod(map(len, unique)) <= limit else []


def host_variants(host: str) -> list[str]:
    """Return a host name and its variants: in other case, as A-labels and as U-labels (RFC 5890 §2.3)."""
    if host.isascii() and "xn--" not in host.lower():
        return variants(host)
    try:
        ascii_host = host.lower().encode("idna").decode()
        other = ascii_host if not host.isascii() else ascii_host.encode().decode("idna")
    except UnicodeError:
        return variants(host)
    return list(dict.fromkeys([*variants(host), ascii_host, *variants(other)]))


def email_keys(address: str) -> list[str]:
    """Return the keys of an e-mail address, which is the same in other case (RFC 5321 §2.4 for the domain)."""
    local, at, domain = address.rpartition("@")
    return [f"{before}{at}{after}" for before, after in product(variants(local), host_variants(domain))]


def url_keys(url: str) -> list[str]:
    """Return the keys of a URL: scheme and host in other case, default port, empty path (RFC 3986 §6.2.2.1, §6.2.3)."""
    path_start = url.find("/", 8) if "/" in url[8:] else len(url)
    # The value of the SQL expression for this text, which may be no URL: another program may have stored it.
    own_key = url[:path_start].translate(TO_LOWER) + url[path_start:]
    if not (parts := URL.fullmatch(url)):
        return [own_key]
    before, host, port, slash, rest = parts.groups(default="")
    default_port = "443" if before[4] in "sS" else "80"
    ports = ["", f":{default_port}"] if port in {"", default_port} else [f":{port}"]
    paths = ["/"] if slash and rest[:1] not in {"", "?", "#"} else ["", "/"]
    heads = (f"{before.translate(TO_LOWER)}{name}{port}" for name, port in product(host_variants(host), ports))
    # Without a slash, the SQL expression turns the whole text into lower case.
    keys = (f"{head}{path}{rest if path else rest.translate(TO_LOWER)}" for head, path in product(heads, paths))
    return list(dict.fromkeys([own_key, *keys]))


def fold_text(text: str) -> str:
    """Return a text in lower case and without accents, as `q` compares it."""
    if text.isascii():
        return text.lower()
    return "".join(letter for letter in normalize("NFD", text.lower()) if not combining(letter))


def address_value(text: str) -> str | None:
    """Return the canonical form of an IP address, or None for other text."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def address_keys(text: str) -> list[str]:
    """Return the keys of an IP address, which is the same in any of its forms (RFC 5952 §2)."""
    address = ip_address(text)
    keys = [str(address)]
    # Some versions of Python and PostgreSQL write the end of such an IPv6 address as an IPv4 address, others don't.
    if isinstance(address, IPv6Address) and (high := int(address) >> 32) in {0, 0xFFFF}:
        keys.append(f"::{'ffff:' if high else ''}{IPv4Address(int(address) & 0xFFFFFFFF)}")
    return keys


NAME = Matching(partial(variants, limit=81), "lower({0})", "lower({0})")
EMAIL = Matching(email_keys, "lower({0})", "lower({0})")
WEBSITE = Matching(url_keys, FOLDED_URL.format("{0}", position="instr"), FOLDED_URL.format("{0}", position="strpos"))
# Functions that database/sqlite.py and a revision define.
ADDRESS = Matching(address_keys, "ip_value({0})", "ip_value({0})")
