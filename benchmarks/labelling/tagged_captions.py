"""The captions that the tagger learns from, with a letter for each word: what `python -m vocab fit-tagger` reads.

    python -m benchmarks.labelling.tagged_captions --out tagged_captions.jsonl [--data DIR]

In: the folder with real data (CATLIP_DATA), and two files beside this module. `caption_tags.tsv`: corpus, place of the
caption in it from 0, and letters (`vocab.fit.captions` explains them). `written_captions.tsv`: captions written for
words that are nouns in one caption and verbs or adjectives in another, and letters. The letters were written by hand.
All other captions of the corpora are written without tags, except those of gold/captions.jsonl, which the labels are
measured with.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from benchmarks.labelling.gold import read_gold
from benchmarks.labelling.sources import read_sources
from benchmarks.measuring.setting import DATA
from vocab.errors import run_cli

TAGS = Path(__file__).parent / "caption_tags.tsv"
WRITTEN = Path(__file__).parent / "written_captions.tsv"


@dataclass(frozen=True)
class TaggedCaptions:
    """Write the captions that the tagger learns from, with a letter for each word."""

    out: Path
    """file to write"""
    data: Path = DATA
    """folder with captions/"""


def main() -> None:
    """Join the letters with the corpora."""
    options = tyro.cli(TaggedCaptions)
    sources = read_sources(options.data)
    judged = {caption.caption.strip() for caption in read_gold(options.data / "gold" / "captions.jsonl")}
    lines = []
    places: set[tuple[str, int]] = set()
    for line in TAGS.read_text(encoding="utf-8").splitlines():
        source, place, tags = line.split("\t")
        places.add((source, int(place)))
        lines.append({"caption": sources[source][int(place)], "tags": tags})
    for line in WRITTEN.read_text(encoding="utf-8").splitlines():
        caption, tags = line.split("\t")
        lines.append({"caption": caption, "tags": tags})
    tagged = len(lines)
    lines += [
        {"caption": text}
        for source, texts in sources.items()
        for place, text in enumerate(texts)
        if (source, place) not in places and text.strip() not in judged
    ]
    written = (json.dumps(line, ensure_ascii=False) for line in lines)
    options.out.write_text("\n".join(written) + "\n", encoding="utf-8")
    sys.stdout.write(f"{options.out}: {tagged:,} tagged captions, {len(lines) - tagged:,} others\n")


if __name__ == "__main__":
    run_cli(main)
