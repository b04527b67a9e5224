"""Caption text to plain ASCII: what the web wrapped around the words is taken off, every letter is one byte.

Most captions are ASCII without any sign of markup and are not looked at twice; the others go through `clean`, one at a
time.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab.misread import mended
from vocab.word_table import bytes_of

FOREIGN_LETTER = "\x7f"
"""stands for a letter outside the Latin script, so that such words stay words"""

# Each is tried at the start of a run of signs only, so that a long run without spaces takes linear time.
ADDRESS = re.compile(r"(?:[a-z]{2,9}://|www\.(?=[a-z0-9]))\S*|(?<!\S)[^\s@]*@\w\S*", re.IGNORECASE | re.ASCII)
FILE_ENDINGS = "jpg jpeg png gif webp bmp tif tiff svg pdf mp3 mp4".split()
HOST_ENDINGS = "htm html php asp aspx com org net edu gov info biz".split()
FILE = re.compile(rf"(?<!\S)(\S*[a-z0-9])\.(?:{'|'.join(FILE_ENDINGS)})(?![a-z0-9])\S*", re.IGNORECASE | re.ASCII)
HOST = re.compile(rf"(?<!\S)\S*[a-z0-9]\.(?:{'|'.join(HOST_ENDINGS)})(?![a-z0-9])\S*", re.IGNORECASE | re.ASCII)
# Looked for first, because it takes a tenth of the time: a stop as the two above have it.
NAME_STOP = re.compile(rf"[a-z0-9]\.(?:{'|'.join(FILE_ENDINGS + HOST_ENDINGS)})", re.IGNORECASE | re.ASCII)
BETWEEN_FILE_WORDS = re.compile("[-_+]+")
ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")
TAG = re.compile(r"<[^<>]*>")
# html.unescape makes an int of all digits: Python refuses 4,301 of them. Nine are no character already.
LONG_NUMBER = re.compile(r"&#([0-9]{9,})")
HASHTAG = re.compile(r"#[A-Za-z][A-Za-z0-9]*")
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
MARK = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]+")
NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
FOREIGN_LETTERS = re.compile(r"([^\W\d_\x00-\x7f])(?: *[^\W\d_\x00-\x7f])+")

# What Unicode's compatibility decomposition leaves or would glue to the word before it.
REPLACED = {
    **dict.fromkeys("‘’‚‛ʼʹ′´＇", "'"),
    **dict.fromkeys("“”„‟″«»‹›", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("™©®℠ªº°²³¹", " "),
    **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", ""),
    "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D",
    "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i",
}  # fmt: skip
REPLACEMENTS = str.maketrans(REPLACED)
REMEMBERED_CHARACTERS = 1 << 16
"""code points whose decomposition is kept: all that captions hold, in a bounded amount of memory"""
REPLACED_SIGN = re.compile(f"[{''.join(REPLACED)}]")

# Bytes that may begin something to take off: markup, an address, a letter outside ASCII. The rest is `clean` by itself.
_SUSPECT = np.zeros(256, dtype=bool)
_SUSPECT[[ord(c) for c in "&<%@:.#"]] = True
_SUSPECT[0x80:] = True
_SUSPECT_TABLE = _SUSPECT.tobytes()
_WORD = np.zeros(256, dtype=bool)
_WORD[[ord(c) for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"]] = True
_IS_W = np.zeros(256, dtype=bool)
_IS_W[[ord("w"), ord("W")]] = True
# The first two letters of the endings of names.
_ENDING = np.zeros((256, 256), dtype=bool)
for _ending in FILE_ENDINGS + HOST_ENDINGS:
    for _a, _b in product(*({letter, letter.upper()} for letter in _ending[:2])):
        _ENDING[ord(_a), ord(_b)] = True


@dataclass(frozen=True, eq=False)
class Cleaned:
    """Captions as bytes, one after another."""

    text: NDArray[np.uint8]
    """[bytes] ASCII"""
    starts: NDArray[np.int64]
    """[captions + 1] caption i is text[starts[i]:starts[i + 1]]"""
    accents: NDArray[np.int64]
    """[captions] letters that lost an accent, and words in other scripts: a sign that the language is not English"""
    looked_at: int
    """captions that did not take the fast path"""


def clean(caption: str) -> tuple[str, int]:
    """One caption as plain ASCII, and its accents and foreign words: `Caf&eacute;%20<b>dog</b>` -> `Cafe  dog `, 1.

    Tags and addresses go, of file names only words remain (`a-white-cat_0342.jpg`), URL escapes and HTML entities (also
    escaped twice) are decoded and may have hidden more tags, the words of a hashtag part (`#GoldenRetriever`), misread
    UTF-8 is put right, typographic quotes and dashes become ASCII's, accents fall off, a letter of another script
    becomes `FOREIGN_LETTER`, and any other sign (emoji, symbols) a space.

    Takes time in proportion to the caption, whatever it holds.
    """
    if "<" in caption:
        caption = TAG.sub(" ", caption)
    if "@" in caption or "://" in caption or "www." in caption.lower():
        caption = ADDRESS.sub(" ", caption)
    if "%" in caption and ESCAPE.search(caption):
        caption = unquote(caption)
    if "." in caption and NAME_STOP.search(caption):
        caption = FILE.sub(words_of_file, HOST.sub(" ", caption))
    if "&" in caption:
        caption = without_entities(without_entities(caption))
    if "<" in caption:
        caption = TAG.sub(" ", caption)
    if "#" in caption:
        caption = HASHTAG.sub(lambda tag: HUMP.sub(" ", tag[0]), caption)
    if caption.isascii():
        return caption, 0
    caption = mended(caption)
    # Most captions hold nothing else but a few typographic signs.
    caption = REPLACED_SIGN.sub(lambda sign: REPLACED[sign[0]], caption)
    if caption.isascii():
        return caption, 0
    caption, accents = MARK.subn("", caption.translate(DECOMPOSED))
    letters = 0

    def fold(match: re.Match[str]) -> str:
        nonlocal letters
        folded = match[0].translate(FOLDED)
        letters += FOREIGN_LETTER in folded
        return folded

    caption = NOT_ASCII.sub(fold, caption)
    return caption, accents + letters


class CharacterTable(dict[int, str]):
    """Code point -> text for `str.translate`, computed when a code point is first met."""

    def __init__(self, text_of: Callable[[str], str]) -> None:
        self._text_of = text_of

    def __missing__(self, code: int) -> str:
        text = self._text_of(chr(code))
        if len(self) < REMEMBERED_CHARACTERS:
            self[code] = text
        return text


def decomposed(character: str) -> str:
    """Unicode's compatibility decomposition, with the signs that it leaves replaced: `ŉ` -> `'n`.

    Equals NFKD of the whole text but for the order of combining marks, all of which go afterwards (sorting them takes
    quadratic time), and for other scripts: a sign that stands for letters, as U+FDFA for four words, is one letter.
    """
    return FOREIGN_LETTERS.sub(r"\1", unicodedata.normalize("NFKD", character).translate(REPLACEMENTS))


def folded(character: str) -> str:
    """ASCII in place of a character that has no decomposition into it."""
    return FOREIGN_LETTER if character.isalpha() else "" if unicodedata.combining(character) else " "


DECOMPOSED = CharacterTable(decomposed)
FOLDED = CharacterTable(folded)


def without_entities(text: str) -> str:
    """The text with HTML entities decoded once, those of any number of digits too."""
    if "&#" in text:
        text = LONG_NUMBER.sub(lambda entity: f"&#{entity[1].lstrip('0')[:9] or 0}", text)
    return html.unescape(text)


def words_of_file(name: re.Match[str]) -> str:
    """The words of a file's name, without folder and ending."""
    return BETWEEN_FILE_WORDS.sub(" ", name[1].rsplit("/", 1)[-1])


def clean_all(captions: pa.StringArray) -> Cleaned:
    """Every caption as `clean` gives it. `captions` must be valid UTF-8; nulls are empty."""
    captions = captions.fill_null("") if captions.null_count else captions
    text, starts = bytes_of(captions)
    rows = _suspects(text, starts)
    accents = np.zeros(len(captions), dtype=np.int64)
    if len(rows):
        mask = np.zeros(len(captions), dtype=bool)
        mask[rows] = True
        pairs = [clean(caption) for caption in captions.take(pa.array(rows)).to_pylist()]
        accents[rows] = [count for _, count in pairs]
        captions = pc.replace_with_mask(captions, pa.array(mask), pa.array([c for c, _ in pairs], captions.type))
        text, starts = bytes_of(captions)
    return Cleaned(text, starts, accents, len(rows))


def _suspects(text: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of captions that `clean` may change, ascending: a superset, by the byte and its neighbours."""
    at = np.flatnonzero(np.frombuffer(text.tobytes().translate(_SUSPECT_TABLE), dtype=bool))
    sign = text[at]
    before = text[at - 1]
    after = text[np.minimum(at + 1, len(text) - 1)] if len(text) else sign
    second = text[np.minimum(at + 2, len(text) - 1)] if len(text) else sign
    # A colon counts in "://", a full stop inside a name (dog.jpg, www.), a per cent sign before a hexadecimal digit, a
    # number sign before a letter.
    colon, stop, percent, ampersand, number = (sign == ord(c) for c in ":.%&#")
    in_name = _WORD[before] & (_ENDING[after, second] | (_IS_W[before] & _WORD[after]))
    harmless = (colon & (after != ord("/"))) | (stop & ~in_name)
    harmless |= (
        (percent & ~_WORD[after]) | (number & (after < ord("A"))) | (ampersand & ~(_WORD[after] | (after == ord("#"))))
    )
    at, stop = at[~harmless], stop[~harmless]
    rows = np.searchsorted(starts, at, side="right") - 1
    # A full stop at a caption's end is not inside a word, whatever the next caption begins with.
    rows = rows[~(stop & (at + 1 == starts[rows + 1]))]
    distinct: NDArray[np.int64] = rows[np.diff(rows, prepend=-1) > 0]
    return distinct
