"""The rows of a CSV file (RFC 4180) of any program.

Python's csv module doesn't distinguish an empty cell from "" before Python 3.13, and its errors are not for users.
"""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, lookup
from collections.abc import Iterator
from io import BufferedReader, TextIOWrapper
from itertools import chain, count

from transfer.maps import InvalidFile

# Many times the longest row that a schema accepts.
MAX_ROW_LENGTH = 2**20
SAVE = "save the file as CSV UTF-8."
# The first bytes of ZIP files, such as .xlsx and .ods, and of OLE files, such as .xls.
WORKBOOKS = (b"PK\3\4", b"\xd0\xcf\x11\xe0")
CHOOSE_ENCODING = "choose that encoding (--encoding windows-1252)"


class InvalidLine(InvalidFile):
    """A line of a file can't be imported; the message says why."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def decode(file: BufferedReader, encoding: str = "") -> TextIOWrapper:
    """Return a file as text: UTF-16 if it has that byte order mark, else UTF-8; invalid bytes become surrogates.

    `encoding` names another one. Raises InvalidFile for an unknown encoding, and for a file that isn't text.
    """
    start = file.peek(64)[:64]
    if start.startswith(WORKBOOKS):
        raise InvalidFile("This is a workbook, not CSV: save the sheet as CSV UTF-8.")
    try:
        if encoding and lookup(encoding).name not in {"utf-8", "utf-16"}:
            return TextIOWrapper(file, encoding, newline="")
    except LookupError:
        raise InvalidFile(f"{encoding} is not a known text encoding. Write it as in windows-1252.") from None
    is_utf_16 = start.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    if not is_utf_16 and re.search(rb"[\x01-\x08\x0e-\x1a]", start):
        raise InvalidFile(f"This is not CSV, nor other text: {SAVE}")
    encoding, errors = ("utf-16", "surrogatepass") if is_utf_16 else ("utf-8-sig", "surrogateescape")
    return TextIOWrapper(file, encoding, errors, newline="")


def read_rows(text: TextIOWrapper) -> Iterator[tuple[int, list[str | None]]]:
    """Yield each row that isn't blank: the number of its first line, and its cells, None for an empty one.

    The delimiter is that of a line "sep=;", or the most frequent one of the header. Raises InvalidLine.
    """
    lines = read_lines(text)
    number, line = next(((number, line) for number, line in lines if line.strip()), (1, ""))
    if "\0" in line:
        raise InvalidLine(number, f"The text contains NUL, so perhaps it is UTF-16 without a byte order mark: {SAVE}")
    if declared := re.fullmatch(r'"?sep=([^"\r\n])"?\s*', line):
        delimiter = declared[1]
    else:
        delimiter = max(",;\t", key=re.sub('"[^"]*"', "", line).count)
        lines = chain([(number, line)], lines)
    for number, cells in split_rows(lines, delimiter):
        if any(cell and not cell.isspace() for cell in cells):
            yield number, cells


def read_lines(text: TextIOWrapper) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line with its end: LF, CR LF or CR. A line is cut at the row limit."""
    for number in count(1):
        try:
            line = text.readline(MAX_ROW_LENGTH + 1)
        except UnicodeDecodeError:
            raise InvalidLine(number, f"The text is not {text.encoding.upper()}: {SAVE}") from None
        if not line.isascii() and re.search("[\ud800-\udfff]", line):
            if text.encoding != "utf-8-sig":
                raise InvalidLine(number, f"The text is not {text.encoding.upper()}: {SAVE}")
            raise InvalidLine(number, f"The text is not UTF-8, but perhaps Windows-1252: {CHOOSE_ENCODING}, or {SAVE}")
        if not line:
            break
        yield number, line


def split_rows(lines: Iterator[tuple[int, str]], delimiter: str) -> Iterator[tuple[int, list[str | None]]]:
    """Yield the number of each row's first line, and the row's cells."""
    d = re.escape(delimiter)
    unclosed = '"[^"]*(?:""[^"]*)*'
    cell = f'(?:{unclosed}"|[^"{d}][^{d}]*)?'
    next_cell, unclosed_row = re.compile(d + cell), re.compile(f"(?:{cell}{d})*{unclosed}")
    for number, row in join_lines(lines, unclosed_row):
        cells = next_cell.findall(delimiter + row)
        if sum(map(len, cells)) != len(row) + 1:
            hint = "write each quotation mark within a quoted cell twice"
            raise InvalidLine(number, f"A cell has text after its closing quotation mark: {hint}.")
        yield number, [unquote(cell[1:]) for cell in cells]


def join_lines(lines: Iterator[tuple[int, str]], unclosed_row: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yield the number of each row's first line, and the row: all its lines, without the last line's end."""
    first, row, length = 0, list[str](), 0
    for number, line in lines:
        first = first if row else number
        # A line that continues a quoted cell is parsed like a line that begins with a quoted cell.
        text = f'"{line}' if row else line
        row.append(line)
        length += len(line)
        if length > MAX_ROW_LENGTH:
            hint = "is a closing quotation mark missing?"
            raise InvalidLine(first, f"The row has more than {MAX_ROW_LENGTH:,} characters: {hint}")
        if not ('"' in text and unclosed_row.fullmatch(text)):
            yield first, "".join(row).rstrip("\r\n")
            row, length = [], 0
    if row:
        raise InvalidLine(first, "A closing quotation mark is missing.")


def unquote(cell: str) -> str | None:
    """Return the text of a cell, None for an empty one."""
    return cell[1:-1].replace('""', '"') if cell.startswith('"') else cell or None
