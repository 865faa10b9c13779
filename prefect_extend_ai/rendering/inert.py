"""Escaping untrusted text for markdown: it is displayed literally and never becomes markup."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

__all__ = ["HIDDEN", "address", "escape", "fence", "link", "unmarked", "visible"]

HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    "\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufeff\uffa0"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
"""Invisible characters, and those that reorder visible ones: control, format (right-to-left marks, zero widths,
tags), line separators, blank fillers, lone surrogates. Tab and line ends are left to the caller."""

URL_LIMIT = 1000
"""Characters. A longer address does not become a link, so that a report of many rows stays small."""

_SPACE = re.compile(r"\s+")
# Renderers turn bare words with these marks into links, and one of them (remark, in Prefect's UI) does so after it
# has resolved backslashes and entities. In a code span they stay text everywhere.
_AUTOLINK = re.compile(r"[^\s`|]*(?://|www\.|@)[^\s`|]*", re.IGNORECASE)
# Any ASCII punctuation may be escaped (CommonMark 2.4). Marks that can never be markup are not
# escaped, so that the source stays readable (and ids in Prefect's older UI, which shows backslashes in a link): some
# marks anywhere, some inside or after a word, a full stop after a word.
_MARKUP = re.compile(
    r"(?<=[A-Za-z0-9])_+|(?<=[A-Za-z0-9_])-|(?<=[A-Za-z])\.(?= |$)|(?<![0-9])\)|([!#$&)*+\-.<=>@\[\\\]^_`{|}~])"
)
_LOOKALIKES = str.maketrans(
    {"<": "\u2039", ">": "\u203a", "[": "(", "]": ")", "`": "'", "*": "\u2217", "~": "\u223c", "|": "\u00a6"}
    | {"#": "\u266f", "&": "+", "@": "(at)"}
)
_LINK_MARK = re.compile(r"/(?=/)|www(?=\.)", re.IGNORECASE)
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_INVALID_IN_URL = re.compile(r"[\s\\<>\"`]")


def visible(text: object, limit: int = 200) -> str:
    r"""One line of plain text: white space as single spaces, hidden characters written as `\u202E`.

    Args:
        text: any value; converted with `str`.
        limit: characters shown; an ellipsis replaces the rest.
    """
    line = _SPACE.sub(" ", str(text)).strip()
    if len(line) > limit:
        line = line[: max(limit - 1, 0)].rstrip() + "…"
    return HIDDEN.sub(_as_code, line)


def escape(text: object, limit: int = 200) -> str:
    """Inline markdown that shows `text` literally, in a table cell too.

    It produces no emphasis, code, link, image, HTML, entity, heading, list or cell border; a word that renderers
    would turn into a link (`http://…`, `www.…`, `name@host`) is shown as code.

    Args:
        text: any value; passed through `visible` first.
        limit: characters shown; an ellipsis replaces the rest.
    """
    line = visible(text, limit)
    pieces, end = [], 0
    for word in _AUTOLINK.finditer(line):
        pieces += [_escape_markup(line[end : word.start()]), f"`{word[0]}`"]
        end = word.end()
    return "".join([*pieces, _escape_markup(line[end:])])


def unmarked(text: object, limit: int = 200) -> str:
    """Plain text without markup, where one Prefect UI renders markdown and the other would show a backslash.

    Used for cells of table artifacts: UI v1 renders them, UI v2 shows them literally. Marks that could form a link,
    image, HTML, code or cell border are replaced by look-alikes without meaning; `//` becomes `/ /`.

    Args:
        text: any value; passed through `visible` first.
        limit: characters shown; an ellipsis replaces the rest.
    """
    return _LINK_MARK.sub(r"\g<0> ", visible(text, limit).translate(_LOOKALIKES))


def link(text: object, url: str | None) -> str:
    """A markdown link, or only the escaped text where `url` is not a plain http(s) address.

    Rejected: other schemes (`javascript:`, `data:`), relative addresses, credentials, white space, control and
    hidden characters, quotes, backslashes, and addresses longer than `URL_LIMIT`.
    """
    label = escape(text)
    target = address(url)
    return f"[{label}]({target})" if label and target else label


def address(url: str | None) -> str | None:
    """A plain http(s) address, quoted for markdown; None for an address that `link` rejects."""
    if not url or len(url) > URL_LIMIT or _INVALID_IN_URL.search(url) or HIDDEN.search(url):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.netloc):
        return None
    # Quotes parentheses, the pipe, and the semicolon of an entity too.
    rest = quote(url.split("://", 1)[1][len(parts.netloc) :], safe="/?#:@!$&*+,=%~-._")
    return f"{parts.scheme}://{parts.netloc}{rest}"


def fence(text: str, info: str = "json") -> str:
    """A code block that `text` cannot end: its fence is longer than any sequence of backticks in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    mark = "`" * max(3, longest + 1)
    return f"{mark}{info}\n{text}\n{mark}"


def _as_code(hidden: re.Match[str]) -> str:
    point = ord(hidden[0])
    return f"\\u{point:04X}" if point <= 0xFFFF else f"\\U{point:08X}"


def _escape_markup(text: str) -> str:
    return _MARKUP.sub(lambda found: f"\\{found[1]}" if found[1] else found[0], text)
