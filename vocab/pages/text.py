r"""Text for people: strangers' words made safe to show, numbers with their nouns, durations.

In: captions, keys, file names, names of classes, and messages that hold them. Out: the same text; characters that are
invisible, turn the direction of the text after them, or command a terminal are written as escapes.

    "a\x1b[2Jb"           a\x1b[2Jb           control characters: ESC would clear the screen
    "gnp\u202eexe.jpg"    gnp\u202eexe.jpg    direction marks: shown as gnpgpj.exe
    "a\u200bb"            a\u200bb            zero-width characters, line separators, tags
    os.fsdecode(b"\xff")  \xff                a byte that is not UTF-8; half of another surrogate pair as \ud800

Every error passes through this module, on Spark's executors too: it needs the standard library alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TextIO

from vocab.store.secrets import without_secrets

# Emoji and some scripts need the joiners U+200C and U+200D; beside an ASCII letter or at an end they only hide.
_SIGNS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_JOINERS = "(?:(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f]))"
_HIDDEN = re.compile(f"[{_SIGNS}\t\n]|{_JOINERS}")
_HIDDEN_IN_LINES = re.compile(f"[{_SIGNS}]|{_JOINERS}")

MAX_NAMED = 5
"""things that `listed` names"""
LONGEST_NAME = 240
"""characters of each of them"""


def shown(text: str, *, longest: int | None = None, lines: bool = False) -> str:
    """Write hidden characters as escapes, after cutting the text to `longest` characters.

    `lines`: keep tabs and line ends, for text that is laid out already.
    """
    if text.isascii() and text.isprintable() and (longest is None or len(text) <= longest):
        return text
    if longest is not None and len(text) > longest:
        text = f"{text[: longest - 1]}…"
    return (_HIDDEN_IN_LINES if lines else _HIDDEN).sub(_written_out, text)


def tell(text: str, *, to: TextIO | None = None, has_captions: bool = False) -> None:
    """Write `shown` lines to a terminal in its own encoding. `to`: standard error if unset.

    Secrets of locations are left out, unless the text `has_captions`, whose words must not change.
    """
    stream = sys.stderr if to is None else to
    text = text if has_captions else without_secrets(text)
    encoding = stream.encoding or "utf-8"
    stream.write(shown(text, lines=True).encode(encoding, "backslashreplace").decode(encoding))


def counted(number: int, one: str, many: str | None = None) -> str:
    """Number with its noun: 1, "image" -> "1 image"; 2,000 -> "2,000 images"; `many` where an s is not enough."""
    return f"{number:,} {one if number == 1 else many if many is not None else f'{one}s'}"


def listed(names: Sequence[str]) -> str:
    """First few of many names, which may be strangers': "cat, dog and 3 more"."""
    named = ", ".join(shown(name, longest=LONGEST_NAME) for name in names[:MAX_NAMED])
    return named + (f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else "")


def share(part: int, whole: int) -> str:
    """Percentage: 1 of 8 -> "12.5%"; "-" where there is no whole."""
    return f"{part / whole:.1%}" if whole else "-"


def duration(seconds: float) -> str:
    """Seconds as people say them: 2 d 3 h, 1 h 12 min, 4 min 5 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _written_out(found: re.Match[str]) -> str:
    sign = found[0]
    if "\udc80" <= sign <= "\udcff":
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("unicode_escape").decode("ascii")
