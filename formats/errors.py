"""The words of errors about input: the place of an error, and suggestions."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

# The number of errors that a response lists at most.
MAX_ERRORS = 100
# Classes of characters for regular expressions: control characters, line separators and overrides of the direction of
# text; spaces and other invisible characters (Default_Ignorable_Code_Point, and the blank pattern of Braille).
CONTROL = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
INVISIBLE = (
    r"\x20\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u202f\u205f-\u2065"
    r"\u206a-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# An ordinary space is hidden only at either end of a text.
HIDDEN = re.compile(rf"\A |(?! )[{CONTROL}{INVISIBLE}]| \Z")
VISIBLE = re.compile(f"[^{CONTROL}{INVISIBLE}]")


def pointers(messages: Any, pointer: str = "") -> Iterator[dict[str, str]]:
    """Yield marshmallow's messages one by one, each with a JSON Pointer to the value at fault (RFC 6901)."""
    if isinstance(messages, Mapping):
        for name, inner in messages.items():
            step = "" if name == "_schema" else "/" + str(name).replace("~", "~0").replace("/", "~1")
            yield from pointers(inner, pointer + step)
    else:
        for message in messages:
            yield {"pointer": pointer, "detail": message}


def missing_last(messages: Any) -> list[dict[str, str]]:
    """Return the errors, with missing fields last: an unknown name may be the misspelt name of one."""
    return sorted(pointers(messages), key=lambda error: error["detail"] == "Is required.")


def hidden_character(text: str) -> str:
    """Return a sentence, with a space before it, that names the first invisible character; "" if there is none."""
    if not (found := re.search(f"[{CONTROL}]", text) or HIDDEN.search(text)):
        return ""
    name = unicodedata.name(found[0], "CONTROL CHARACTER")
    return f" Character {found.start() + 1} is U+{ord(found[0]):04X} ({name})."


def escape_control(text: str) -> str:
    """Return a text with its control characters escaped, because a terminal obeys them."""
    return re.sub(f"[{CONTROL}]", lambda found: found[0].encode("unicode_escape").decode(), text)


def suggest(word: str, known: tuple[str, ...]) -> str:
    """Return sentences about an unknown word: its invisible character, if any, then the closest known word, or all.

    Only the first 64 characters are compared.
    """
    # Imported here because only mistakes need it.
    from difflib import get_close_matches

    names = {name.lower(): name for name in known}
    sentence = f"Known: {', '.join(names.values())}." if names else "None is known here."
    if close := get_close_matches(word[:64].lower(), names, 1):
        sentence = f"Did you mean {names[close[0]]}?"
    return f"{hidden_character(word)} {sentence}".lstrip()
