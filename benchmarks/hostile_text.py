"""Time of the labelers on text made to be slow: no kind may take more than 1 ms per kB, or more than linear time.

    python benchmarks/hostile_text.py [--runs 7] [--labelers catlip explain spacy reference] [--kinds ...]

In: nothing; `KINDS` builds a text of any size. Out: for every kind and labeler the ms per kB of UTF-8 at 32 kB and at
64 kB (the longest caption that the job labels), and how many times as long 64 kB take; last, one JSON object.

`catlip` is measured as the job runs it (`pipeline.labels.label_lists` of bytes). The others are asked for by name:
`explain` is `python -m pipeline explain`, which makes a line of every word and therefore takes tens of ms per kB, of
text that its own user types; `spacy` and `reference` are the labelers for comparison. Both sizes are timed in turn, by
the processor's clock, and the medians of all runs count.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script or with -m: the project's modules are found, and numerical libraries keep to
    # one thread, which they must be told before they are imported
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Literal

import pyarrow as pa
import tyro

from pipeline.explain import explain
from pipeline.labels import label_lists
from vocab.errors import run_cli
from vocab.labelers import load_labeler

Timed = Literal["catlip", "explain", "spacy", "reference"]
SIZES = (32_000, 64_000)
"""bytes of UTF-8"""
MS_PER_KB = 1.0
"""the most that a kind may take"""
RATIO = 2.5
"""the most that 64 kB may take, in units of what 32 kB take"""
DEBIAN_WORDNET = Path("/usr/share/wordnet")


def repeated(unit: str, size: int, *, head: str = "", tail: str = "") -> str:
    """`head`, then `unit` as often as it fits into `size` bytes with `tail`, which ends the text."""
    room = size - len((head + tail).encode())
    return head + unit * (room // len(unit.encode())) + tail


def half_and_half(first: str, second: str, size: int) -> str:
    """A run of one unit, then a run of another, half of `size` bytes each."""
    return repeated(first, size // 2) + repeated(second, size // 2)


def run_of(characters: str, size: int) -> str:
    """The characters in turn, `size` bytes of them at most."""
    return "".join(islice(cycle(characters), size // max(len(c.encode()) for c in characters)))


# Combining marks of 11 classes, from the highest class to the lowest: each has to move before all others.
DESCENDING = "\u0345\u0360\u035d\u0315\u0301\u0316\u0328\u0334\u05bf\u05b0\u0334"
MISREAD = "\u00e2\u20ac\u2122"
"""a right single quotation mark in UTF-8, read as Windows-1252"""

KINDS: dict[str, Callable[[int], str]] = {
    "words": partial(repeated, "a dog on the sofa "),
    "one long word": partial(repeated, "a"),
    "long unknown words": partial(repeated, "zxqvwkzxqvwkzxqvwkzxqv "),
    "single letters": partial(repeated, "a b "),
    "digits": partial(repeated, "7"),
    "an entity of digits": partial(repeated, "1", head="a dog &#", tail=";"),
    "an entity of zeros": partial(repeated, "0", head="a dog &#", tail="65;"),
    "an entity of hexadecimal digits": partial(repeated, "F", head="a dog &#x", tail=";"),
    "an escaped entity of digits": partial(repeated, "1", head="a dog %26%23", tail="%3b"),
    "an entity of digits escaped twice": partial(repeated, "1", head="a dog &amp;#", tail=";"),
    "entities": partial(repeated, "&eacute;"),
    "entities of no name": partial(repeated, "&zzzzzzzz"),
    "entities escaped twice": partial(repeated, "&amp;amp;"),
    "entities of numbers": partial(repeated, "&#233;"),
    "entities of ampersands": partial(repeated, "&amp;"),
    "ampersands": partial(repeated, "&"),
    "per cent signs": partial(repeated, "%"),
    "escapes": partial(repeated, "%41"),
    "escapes of UTF-8": partial(repeated, "%C3%A9"),
    "escapes between letters": partial(repeated, "\u00e9%c3"),
    "escapes of no text": partial(repeated, "%ff"),
    "escapes of per cent signs": partial(repeated, "%25"),
    "open tags": partial(repeated, "<"),
    "tags that do not end": partial(repeated, "<a "),
    "closed tags": partial(repeated, "<b>"),
    "ends of tags": partial(repeated, ">"),
    "nested brackets": partial(half_and_half, "([{<", ">}])"),
    "at signs": partial(repeated, "@"),
    "words before at signs": partial(repeated, "a@"),
    "addresses": partial(repeated, "http://"),
    "addresses of www": partial(repeated, "www."),
    "letters before a colon": partial(repeated, "abcdefghi:"),
    "hosts": partial(repeated, "a.com"),
    "hosts that go on": partial(repeated, "a.comx"),
    "files": partial(repeated, "a.jpg/"),
    "files that go on": partial(repeated, "a.jpgx"),
    "words of one file": partial(repeated, "dog-", tail="dog.jpg"),
    "number signs": partial(repeated, "#"),
    "hashtags": partial(repeated, "#Ab"),
    "one hashtag": partial(repeated, "aB", head="#"),
    "humps": partial(repeated, "aB"),
    "stops": partial(repeated, "."),
    "stops after letters": partial(repeated, "a."),
    "hyphens": partial(repeated, "-"),
    "words with hyphens": partial(repeated, "close-up-"),
    "underscores": partial(repeated, "_"),
    "apostrophes": partial(repeated, "'"),
    "possessives": partial(repeated, "'s"),
    "possessives of a word": partial(repeated, "dog's"),
    "quotes": partial(repeated, '"'),
    "typographic quotes": partial(repeated, "\u201c\u2019"),
    "colons and slashes": partial(repeated, ":/"),
    "backslashes": partial(repeated, "\\"),
    "white space": partial(repeated, " "),
    "tabs and line ends": partial(repeated, "\t\r\n\x0b\x0c"),
    "white space of Unicode": partial(run_of, "\u00a0\u2003\u3000\u2028\u2029\u1680\u0085"),
    "controls": partial(run_of, "\x00\x01\x1b\x7f"),
    "marks of one class": partial(repeated, "\u0301", head="a"),
    "marks, ascending": partial(half_and_half, "\u0316", "\u0300"),
    "marks, descending": partial(half_and_half, "\u0300", "\u0316"),
    "marks of many classes": partial(run_of, DESCENDING),
    "marks of other scripts": partial(half_and_half, "\u05c2", "\u05b0"),
    "marks beyond the BMP": partial(half_and_half, "\U0001d185", "\U0001d165"),
    "marks inside of signs": partial(repeated, "\u0f73"),
    "marks in entities": partial(half_and_half, "&#x300;", "&#x316;"),
    "marks in escapes": partial(half_and_half, "%cc%80", "%cc%96"),
    "marks on letters": partial(repeated, "e\u0301\u0316"),
    "marks between signs": partial(half_and_half, "\u0300\u00ad", "\u0316\u00ad"),
    "accents": partial(repeated, "\u1ec7"),
    "long decompositions": partial(repeated, "\ufdfa"),
    "Hangul": partial(repeated, "\ud55c"),
    "Hangul in letters": partial(repeated, "\u1112\u1161\u11ab"),
    "zero-width signs": partial(run_of, "\u200b\u200c\u200d\u2060\ufeff\u00ad"),
    "directions": partial(run_of, "\u202e\u202d\u2066\u2069\u200f\u061c"),
    "Arabic": partial(repeated, "\u0643\u0644\u0628 "),
    "Chinese": partial(repeated, "\u72ac\u3068\u732b"),
    "emoji": partial(repeated, "\U0001f436"),
    "joined emoji": partial(repeated, "\U0001f468\u200d\U0001f469\u200d"),
    "letters beyond the BMP": partial(repeated, "\U0001d41d\U0001d428\U0001d420 "),
    "misread text": partial(repeated, MISREAD),
    "text misread twice": partial(repeated, MISREAD.encode().decode("cp1252", "replace").replace("\ufffd", "\x9d")),
    "beginnings of misread text": partial(repeated, "\u00e2\u20ac"),
    "first letters of misread text": partial(repeated, "\u00c3"),
    "first letters of four bytes": partial(repeated, "\u00f0\u0178"),
    "letters and misread text": partial(repeated, "\u00c3\u00a9t\u00c3\u00a9 "),
    "replacement signs": partial(repeated, "\ufffd"),
    "missing values": partial(repeated, "nan "),
    "nouns of several words": partial(repeated, "cup of tea of "),
    "nouns that overlap": partial(repeated, "hot dog house "),
    "a noun of many senses": partial(repeated, "head run line "),
}


@dataclass(frozen=True)
class HostileText:
    """Time of the labelers on text made to be slow."""

    runs: int = 7
    """timed runs of each kind, size and labeler; their median counts"""
    labelers: tuple[Timed, ...] = ("catlip",)
    """which are timed; spacy and reference need packages of their own"""
    kinds: tuple[str, ...] = tuple(KINDS)
    """which kinds of text"""


def label_of(name: Timed) -> Callable[[str], object]:
    """The call that is timed: one caption, as the labeler of that name gets it."""
    if name == "explain":
        return lambda text: explain([text])
    wordnet = DEBIAN_WORDNET if name == "reference" and DEBIAN_WORDNET.is_dir() else None
    punkt: Literal["installed", "untrained"] = "untrained" if wordnet else "installed"
    load = partial(load_labeler, name, wordnet=wordnet, punkt=punkt)
    load()
    return lambda text: label_lists(pa.array([[text.encode()]], pa.list_(pa.binary())), 1 << 30, load)


def milliseconds(work: Callable[[], object]) -> float:
    """Milliseconds that the process computes to do the work once."""
    start = time.process_time()
    work()
    return 1_000 * (time.process_time() - start)


def measure(label: Callable[[str], object], kind: str, runs: int) -> tuple[float, float, float]:
    """ms per kB at both sizes, and the ratio of the times."""
    texts = [KINDS[kind](size) for size in SIZES]
    label(KINDS[kind](SIZES[0] // 16))
    passes = [[milliseconds(partial(label, text)) for text in texts] for _ in range(runs)]
    small, large = (statistics.median(times) for times in zip(*passes, strict=True))
    kilobytes = [len(text.encode()) / 1_000 for text in texts]
    return round(small / kilobytes[0], 4), round(large / kilobytes[1], 4), round(large / small, 2)


def main() -> None:
    """Measure and print."""
    options = tyro.cli(HostileText)
    pa.set_cpu_count(1)
    results = {name: of_labeler(name, options) for name in options.labelers}
    worst = {
        name: {
            "ms_per_kb": max(max(small, large) for small, large, _ in found.values()),
            "ratio": max(ratio for _, _, ratio in found.values()),
        }
        for name, found in results.items()
    }
    sys.stdout.write(json.dumps({"runs": options.runs, "sizes": SIZES, "worst": worst, "kinds": results}) + "\n")


def of_labeler(name: Timed, options: HostileText) -> dict[str, tuple[float, float, float]]:
    """Kind -> ms per kB at both sizes and the ratio of the times; prints as it goes."""
    label = label_of(name)
    found: dict[str, tuple[float, float, float]] = {}
    for kind in options.kinds:
        small, large, ratio = found[kind] = measure(label, kind, options.runs)
        mark = "  <- too slow" if max(small, large) > MS_PER_KB or ratio > RATIO else ""
        sys.stdout.write(f"{name:<10}{kind:<36}{small:>9.4f}{large:>9.4f} ms/kB  x{ratio:.2f}{mark}\n")
        sys.stdout.flush()
    return found


if __name__ == "__main__":
    run_cli(main)
