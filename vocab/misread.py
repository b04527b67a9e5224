"""Repair of UTF-8 that was read as another encoding, maybe several times: `The catâ€™s toy` -> `The cat’s toy`.

A letter with an accent and a sign after it, as in “AMANHÔ, is what a misread character looks like too: what stands
around such a pair decides (`is_misread`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache

MOST_PASSES = 4
"""times that a text was misread at most; each time makes a character two or three"""

NO_CHARACTER = b"\x81\x8d\x8f\x90\x9d"
"""bytes that Windows-1252 leaves open"""
BYTE_OF = {code: code for code in range(0x80, 0x100)} | {
    ord(bytes([byte]).decode("cp1252")): byte for byte in range(0x80, 0xA0) if byte not in NO_CHARACTER
}
"""code point as which Windows-1252 or Latin-1 (80 to 9F are controls) read a byte -> the byte"""
LATER = "".join(chr(code) for code, byte in BYTE_OF.items() if byte < 0xC0)
"""characters as which a character's second and later bytes are read"""

# Other encodings, by whole characters: the signs of typography, and the letters of Western Europe where no text holds
# what they are read as.
SIGNS = "‘’‚“”„†•–—…‹›™€"
LETTERS = "".join(map(chr, range(0xC0, 0x100)))
OTHER_ENCODINGS = {
    "mac_roman": SIGNS + LETTERS,
    "cp437": SIGNS + LETTERS,
    "cp850": SIGNS,
    "cp1250": "áâäçèéëíñóöúü",
    "cp1251": SIGNS,
    "cp1253": SIGNS,
    "cp1257": SIGNS,
}
CHARACTER_OF = {
    read: character
    for encoding, characters in OTHER_ENCODINGS.items()
    for character in characters
    if "\ufffd" not in (read := character.encode().decode(encoding, "replace"))
}
# The last byte of ”, which Windows-1252 leaves open, was dropped or replaced.
CHARACTER_OF |= {"â€": "”", "â€\ufffd": "”"}
LEFT_OF_SPACE = "Â"
"""rest of a misread no-break space whose second character became a plain space, or was stripped"""


def _whole_characters() -> str:
    """Pattern of the keys of `CHARACTER_OF`, longest first; those that differ in the last sign share an alternative."""
    lasts: defaultdict[str, str] = defaultdict(str)
    for read in CHARACTER_OF:
        lasts[read[:-1]] += read[-1]
    return "|".join(f"{begin}[{re.escape(lasts[begin])}]" for begin in sorted(lasts, key=len, reverse=True))


CHARACTER = re.compile(rf"[\xc2-\xdf][{LATER}]|[\xe0-\xef][{LATER}]{{2}}|\xf0[{LATER}]{{3}}")
# Most places are passed over by their first sign.
FIRST = "".join(sorted({read[0] for read in CHARACTER_OF}))
MISREAD = re.compile(
    rf"(?=[\xc2-\xf0{FIRST}])(?:(?:{CHARACTER.pattern})+|{_whole_characters()}"
    rf"|(?<![A-Z\xc0-\xde]){LEFT_OF_SPACE}(?!\S))"
)

CLOSING = "”’“‘»…–—™®©°\u00a0"
"""signs that follow a letter without a space"""
AFTER_SMALL_LETTER = CLOSING + "„‚«‹›¿¡·•€£¥¢§¶´¹²³ªº\u00adšžœŸŠŽŒ"
"""signs and letters that follow à to ï in text that was not misread"""


def mended(text: str) -> str:
    """The text with every misread character put right."""
    for _ in range(MOST_PASSES):
        before, text = text, MISREAD.sub(_mended, text)
        if text == before:
            break
    return text


def _mended(match: re.Match[str]) -> str:
    read, text = match[0], match.string
    if read in CHARACTER_OF:
        return CHARACTER_OF[read]
    if read == LEFT_OF_SPACE:
        return ""
    characters = CHARACTER.findall(read)
    # Two in a row are no chance.
    if len(characters) == 1 and not is_misread(
        read, before=text[match.start() - 1 : match.start()], after=text[match.end() : match.end() + 1]
    ):
        return read
    return "".join(map(character_of, characters))


def is_misread(read: str, *, before: str, after: str) -> bool:
    """Tell one misread character from honest letters and signs.

    `before` and `after` are the characters on either side, "" at an end of the text.
    """
    first, rest = read[0], read[1:]
    if first in "Âð":
        return True
    if first in "âï":
        return not all(character in CLOSING for character in rest)
    if len(read) > 2:
        vietnamese = first == "á" and rest[0] in "º»" and (after.islower() or rest[1].isalpha())
        return vietnamese or not all(character in AFTER_SMALL_LETTER for character in rest)
    if first == "Ã":
        return not (rest in "”’»…–—™®" and before.isupper() and not after.isalpha())
    if first in "ÄÅÆÌÎÏÐÑ":
        return rest not in CLOSING or before.islower() or (after.islower() and not before.isalpha())
    return False


@lru_cache(1 << 12)
def character_of(read: str) -> str:
    """The character whose bytes were read so; unchanged if they are no UTF-8."""
    try:
        return read.translate(BYTE_OF).encode("latin-1").decode()
    except UnicodeDecodeError:
        return read
