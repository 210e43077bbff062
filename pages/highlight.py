"""Code as HTML with a class on each token: JSON, shell, Python and JavaScript share one set of rules."""

import html
import re

from markupsafe import Markup

WORDS = (
    "and as async await const def else except export false False for from function if import in let new None not null"
    " or raise return throw true True try while with yield"
)
TOKEN = re.compile(
    # A # within a word, and the // of a URL, begin no comment.
    r"(?P<comment>(?:(?<!\S)#|(?<!:)//).*)"
    r"|(?P<name>\"(?:\\.|[^\"\\\n])*+\"(?=:))"
    # A string without a closing quote ends with the line. A text in single quotes over several lines, as in curl's -d,
    # is no string, so that the JSON in it is highlighted.
    r"|(?P<string>\"(?:\\.|[^\"\\\n])*+\"?|'[^'\n]*'|`[^`]*`)"
    r"|(?P<number>(?<![\w.-])(?<!\d:)-?\d+(?:\.\d+)?(?![\w-]|\.\d))"
    rf"|(?P<word>\b(?:{WORDS.replace(' ', '|')})\b)"
)


def highlight(code: str) -> Markup:
    """Return code as HTML, with its comments, names, strings, numbers and words in spans of these classes."""
    escaped = html.escape(code, quote=False)
    return Markup(TOKEN.sub(lambda found: f'<span class="{found.lastgroup}">{found[0]}</span>', escaped))  # noqa: S704
