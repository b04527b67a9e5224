r"""Strangers' text made safe to show on a terminal, on pages, in errors and notes.

In: captions, keys, file names, names of classes, and messages that hold them. Out: the same text; characters that are
invisible, turn the direction of the text after them, or command a terminal are written as escapes.

    "a\x1b[2Jb"           a\x1b[2Jb           control characters: ESC would clear the screen
    "gnp\u202eexe.jpg"    gnp\u202eexe.jpg    marks of direction: shown as gnpgpj.exe
    "a\u200bb"            a\u200bb            of no width, line separators, tags
    os.fsdecode(b"\xff")  \xff                a byte that is no UTF-8; another half of a surrogate pair as \ud800
"""

from __future__ import annotations

import re
import sys
from html import escape
from typing import TextIO

# Of the joiners U+200C and U+200D, which emoji and some scripts need, those beside a letter of ASCII or at an end.
_SIGNS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_JOINERS = "(?:(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f]))"
_HIDDEN = re.compile(f"[{_SIGNS}\t\n]|{_JOINERS}")
_HIDDEN_IN_LINES = re.compile(f"[{_SIGNS}]|{_JOINERS}")


def shown(text: str, *, longest: int | None = None, lines: bool = False) -> str:
    """Write hidden characters as escapes, after cutting the text to `longest` characters.

    `lines`: keep tabs and line ends, for text that is laid out already.
    """
    if text.isascii() and text.isprintable() and (longest is None or len(text) <= longest):
        return text
    if longest is not None and len(text) > longest:
        text = f"{text[: longest - 1]}…"
    return (_HIDDEN_IN_LINES if lines else _HIDDEN).sub(_written_out, text)


def in_html(text: str, *, longest: int | None = None) -> str:
    """Text as the content of an element or of a quoted attribute, as `shown`."""
    return escape(shown(text, longest=longest))


def tell(text: str, *, to: TextIO | None = None) -> None:
    """Write lines to a terminal: `shown`, and in its encoding. `to`: standard error if unset."""
    stream = sys.stderr if to is None else to
    encoding = stream.encoding or "utf-8"
    stream.write(shown(text, lines=True).encode(encoding, "backslashreplace").decode(encoding))


def _written_out(found: re.Match[str]) -> str:
    sign = found[0]
    if "\udc80" <= sign <= "\udcff":
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("unicode_escape").decode("ascii")
