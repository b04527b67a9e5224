"""Names of files: braces that name many, extensions of compressions, and names that systems give to their leftovers.

    laion/{00000..00331}.tar                          laion/00000.tar, laion/00001.tar, ..., laion/00331.tar
    00000.tar.gz  00000.tgz  x.jsonl.zst              compressed with gzip, gzip and zstd
    .DS_Store  ._cat  .ipynb_checkpoints  .git        hidden: whatever begins with a dot
    __MACOSX  Thumbs.db  desktop.ini  $RECYCLE.BIN    leftovers of macOS and Windows
    @eaDir  #recycle  @Recycle  lost+found            leftovers of storage servers and file systems
    PaxHeaders  PaxHeaders.1234                       leftovers of old tars that were unpacked

A leftover is no class, image, table, tar or sample. A name that begins with an underscore is a person's where a folder
is a class: Caltech's BACKGROUND_Google is a class, and so is _background_. Where files are searched for, such a name is
Spark's and Hadoop's: _temporary, _SUCCESS.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence

from vocab.errors import InputError

MAX_NAMES = 10_000_000
"""most names that one pattern may give; as strings they take about 1 GB"""

_RANGE = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})(?:\.\.(\d{1,18}))?\}")
_BRACES = re.compile(_RANGE.pattern + r"|\{([^{}]*,[^{}]*)\}")


def expand_braces(pattern: str, *, only_ranges: bool = False) -> Iterator[str]:
    """Names of a pattern, one at a time; nested braces may give a name twice.

        a/{08..10}.tar        a/08.tar a/09.tar a/10.tar: as wide as the wider end where one begins with 0
        {a,b}/{0..6..3}.tar   a/0.tar a/3.tar a/6.tar b/0.tar b/3.tar b/6.tar
        {a}, {}, ${HOME}      unchanged

    `only_ranges` leaves lists unchanged too. Raises InputError for a pattern of more than MAX_NAMES names: before
    making any if a range or the product of several is larger.
    """
    for count, name in enumerate(_expand(pattern, _RANGE if only_ranges else _BRACES)):
        if count >= MAX_NAMES:
            raise _too_many(pattern)
        yield name


def _expand(pattern: str, braces: re.Pattern[str]) -> Iterator[str]:
    literals: list[str] = []
    choices: list[Sequence[str | int]] = []
    widths: list[int] = []
    end = 0
    for match in braces.finditer(pattern):
        choice, width = _choices(match[0][1:-1])
        literals.append(pattern[end : match.start()])
        choices.append(choice)
        widths.append(width)
        end = match.end()
    if not choices:
        yield pattern
        return
    # itertools.product expands each range, so this must come first.
    if math.prod(len(choice) for choice in choices) > MAX_NAMES:
        raise _too_many(pattern)
    # "%s" and "%05d": the pattern is filled in a million times.
    form = "".join(
        literal.replace("%", "%%") + (f"%0{width}d" if isinstance(choice, range) else "%s")
        for literal, choice, width in zip(literals, choices, widths, strict=True)
    ) + pattern[end:].replace("%", "%%")
    for chosen in itertools.product(*choices):
        name = form % chosen
        if "{" in name:
            yield from _expand(name, braces)
        else:
            yield name


def _choices(inside: str) -> tuple[Sequence[str | int], int]:
    """Choices between braces, as a list or a range, which takes no memory; and the number of digits to pad to."""
    match = _RANGE.fullmatch(f"{{{inside}}}")
    if match is None:
        return inside.split(","), 0
    first, last = int(match[1]), int(match[2])
    step = max(1, int(match[3] or 1))
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    padded = any(len(end) > 1 and end.startswith("0") for end in (match[1], match[2]))
    return numbers, max(len(match[1]), len(match[2])) if padded else 0


def _too_many(pattern: str) -> InputError:
    return InputError(
        pattern,
        found=f"braces that give more than {MAX_NAMES:,} names",
        wanted="names of files",
        remedy="Correct the range.",
    )


COMPRESSIONS = {
    ("gz", "tgz"): ("gzip", "gzip -d"),
    ("bz2", "tbz", "tbz2"): ("bzip2", "bzip2 -d"),
    ("xz", "txz"): ("xz", "xz -d"),
    ("zst", "tzst"): ("zstd", "zstd -d"),
    ("lz4",): ("lz4", "lz4 -d"),
    ("zip",): ("zip", "unzip"),
    ("7z",): ("7-Zip", "7z x"),
}


def compression_of(name: str) -> tuple[str, str] | None:
    """Name of a compression and the command that undoes it; None for the name of a file that is not compressed."""
    extension = name.lower().rpartition(".")[2]
    return next((told for extensions, told in COMPRESSIONS.items() if extension in extensions), None)


LEFTOVERS = frozenset(
    "__macosx thumbs.db ehthumbs.db desktop.ini $recycle.bin @eadir #recycle #snapshot @recycle @recently-snapshot "
    "@tmp ~snapshot lost+found __pycache__ .appledouble paxheaders".split()
) | {"system volume information", "recycler", "icon\r"}
"""lower case: their systems ignore case"""
LEFTOVER_EXTENSIONS = frozenset(name.partition(".")[2] for name in LEFTOVERS)
"""extensions of all LEFTOVERS: a name with another extension is none of them"""
_OF_A_PROCESS = re.compile(r"paxheaders\.[0-9]+")


def is_left_by_system(name: str) -> bool:
    """Tell whether systems give this name to their leftovers, hidden or not."""
    lower = name.lower()
    return lower in LEFTOVERS or _OF_A_PROCESS.fullmatch(lower) is not None


def is_leftover(name: str) -> bool:
    """Tell whether a file or folder of that name is a system's leftover."""
    return name.startswith(".") or is_left_by_system(name)


def is_left_out(inside: str) -> bool:
    """Tell whether a search of a folder skips a path in it: leftovers, and names that begin with "_"."""
    return any(part.startswith("_") or is_leftover(part) for part in inside.split("/"))
