"""Equality of fast and plain labelers, on real captions and on random texts.

In: captions. Out: how many texts two labelers label otherwise, and some of them on the terminal.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from benchmarks.labelling.corpora import name_of
from benchmarks.labelling.sources import evenly
from vocab import labeler, plain

Result = TypeVar("Result")
PROCESSES = 2
RANDOM_TEXTS = 100_000
QUICK = 4_000
"""captions, and random texts, that `--quick` compares"""
# What random texts are made of, besides the words of captions.
PIECES = (
    "the a of and in on is was can white house hot dog ice cream close up der und la 3 2019 1st 3d x US us A I".split(),
    [*".,;:!?'\"`-_~()[]{}<>/|\\*&+@#%^=$", "--", "...", "'s", "' s", "’s", "“", "”", "–", "—", "…", "•", "n't", "s'"],
    "&amp; &lt; &gt; &quot; &#39; &#x27; &amp;amp; &amp;lt;b&amp;gt; &eacute; &nbsp; &bogus; &#0; &".split(),
    "%20 %2C %C3%A9 %E2%80%99 %26amp%3B %3Cb%3E %zz % 100% %0A %00 + %FF".split(),
    "<b> </b> <br/> <a < > << >> <3 http://a.example/dog.png www.cat.com me@dog.org IMG_01.JPG".split(),
    ".gov .JPG dog.jpg?x=1 !.png .html .company a.b. dog.cat :// http:// @ @dog www. ..com".split(),
    ["<img src='dog.jpg'>", "e\u0301", "n\u0303", "\u0301", "²", "½", "™"],
    "à é î ö ü ñ ç ß æ ø ł ı Å Ž ŉ ﬁ ǆ café naïve Zürich garçon".split(),
    "🐶 🐱‍👤 👩‍👩‍👧 🇩🇪 ❤️ ☃ ★ 👍🏽".split(),
    "犬 ソファの犬 日本語 собака Ёж كلب שלום कुत्ता สุนัข 개 ＤＯＧ ｄｏｇ 𝐝𝐨𝐠 Ⅷ ①".split(),
    [*map(chr, range(32)), *"\x7f\x80\x85\u00a0\u00ad\u200b\u200d\u2028\ufeff\ufffd"],
)
LONGEST = 200


def measure_reference(sources: dict[str, list[str]], *, quick: bool) -> dict[str, object]:
    """reference_differences."""
    missing = [package for package in ("nltk", "ftfy") if importlib.util.find_spec(package) is None]
    if missing:
        sys.stdout.write(f"the released rule is not compared: no package {' and '.join(missing)}\n")
        return {"reference_differences": None}
    captions = [caption for texts in sources.values() for caption in texts]
    captions = evenly(captions, QUICK) if quick else captions
    different = sum(in_processes(count_reference_differences, captions))
    sys.stdout.write(f"vocab.reference and the naive loop differ on {different} of {len(captions):,} captions\n")
    return {"reference_differences": different, "reference_compared": len(captions)}


def count_reference_differences(captions: list[str]) -> int:
    """Captions that `vocab.reference` labels otherwise than the naive loop; in a process of its own."""
    from benchmarks.labelling import naive_reference

    with tempfile.TemporaryDirectory() as folder:
        return naive_reference.differences(captions, naive_reference.load_tools(Path(folder)))


def measure_oracle(sources: dict[str, list[str]], *, quick: bool, seed: int) -> dict[str, object]:
    """oracle_differences."""
    everything = [caption for texts in sources.values() for caption in texts]
    compared = {
        **sources,
        "random": random_texts(everything, QUICK if quick else RANDOM_TEXTS, seed=seed),
    }
    different = 0
    for name, texts in compared.items():
        texts = evenly(texts, QUICK) if quick else texts
        differing = [text for part in in_processes(oracle_differences, texts) for text in part]
        sys.stdout.write(f"fast and plain differ on {len(differing)} of {len(texts):,} texts: {name}\n")
        for text in differing[:3]:
            fast, slow = both_labels(text)
            sys.stdout.write(f"  {text[:200]!r}\n    fast {fast}\n    plain {slow}\n")
        different += len(differing)
    count = sum(min(len(texts), QUICK) if quick else len(texts) for texts in compared.values())
    return {"oracle_differences": different, "oracle_compared": count}


def oracle_differences(texts: list[str]) -> list[str]:
    """The texts that `vocab.plain` labels otherwise than the labeler."""
    ours = labeler.load()
    fast = ours.label(pa.array(texts, pa.string())).to_pylist()
    slow = plain.label(ours, texts)
    return [text for text, a, b in zip(texts, fast, slow, strict=True) if a != b]


def both_labels(text: str) -> tuple[list[str], list[str]]:
    """Names of the labels of one text, by the labeler and by `vocab.plain`."""
    ours = labeler.load()
    fast, slow = ours.label(pa.array([text])).to_pylist()[0], plain.label(ours, [text])[0]
    return [name_of(ours, synset) for synset in fast], [name_of(ours, synset) for synset in slow]


def in_processes(work: Callable[[list[str]], Result], texts: list[str]) -> list[Result]:
    """Run `work` on parts of the texts, each in a process of its own."""
    parts = [texts[start::PROCESSES] for start in range(PROCESSES)]
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(work, parts))


def random_texts(captions: Sequence[str], count: int, *, seed: int) -> list[str]:
    """Texts of 0 to LONGEST characters: words of the captions, and all that surrounds words on the web, in any order.

    Always the same for the same arguments. A text is cut wherever its length is reached, inside an entity as well.
    """
    generator = random.Random(seed)
    words = sorted({word for caption in evenly(list(captions), 20_000) for word in caption.split()}) or PIECES[0]
    texts = []
    for _ in range(count):
        length = generator.randint(0, LONGEST)
        share = generator.random()  # of words from captions: from none to all
        spaces = generator.choice((" ", " ", " ", "", "-", "  "))
        pieces: list[str] = []
        size = 0
        while size < length:
            pool = words if generator.random() < share else generator.choice(PIECES)
            piece = generator.choice(pool) + (spaces if generator.random() < 0.9 else "")
            pieces.append(piece)
            size += len(piece)
        texts.append("".join(pieces)[:length])
    return texts
