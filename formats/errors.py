"""The wording of errors about input: where it is wrong, and what was probably meant."""

from collections.abc import Iterator, Mapping
from typing import Any


def pointers(messages: Any, pointer: str = "") -> Iterator[dict[str, str]]:
    """Yield marshmallow's messages one by one, each with a JSON Pointer to the value at fault (RFC 6901)."""
    if isinstance(messages, Mapping):
        for name, inner in messages.items():
            step = "" if name == "_schema" else "/" + str(name).replace("~", "~0").replace("/", "~1")
            yield from pointers(inner, pointer + step)
    else:
        for message in messages:
            yield {"pointer": pointer, "detail": message}


def first_error(messages: Any) -> dict[str, str]:
    """Return the first error to mend: a missing field is the last, because an unknown name may explain it."""
    return min(pointers(messages), key=lambda error: error["detail"] == "Is required.")


def suggest(word: str, known: tuple[str, ...]) -> str:
    """Return a sentence that names the closest known word, or else all known words; it compares 64 characters."""
    # Imported here because only mistakes need it.
    from difflib import get_close_matches

    names = {name.lower(): name for name in known}
    if close := get_close_matches(word[:64].lower(), names, 1):
        return f"Did you mean {names[close[0]]}?"
    return f"Known: {', '.join(names.values())}." if names else "None is known here."
