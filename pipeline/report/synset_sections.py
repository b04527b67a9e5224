"""The report's sections of synsets: the head as areas and as a list, and the tail.

In: a tally, and captions beside synsets where there are any. Out: HTML, a string for each section. Captions are
strangers' text and pass through `markup`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.examples import Examples
from pipeline.report.markup import counted, paragraphs, plain, section, share, table
from pipeline.report.tally import Tally
from pipeline.report.treemap import Tile, treemap
from vocab import wordnet
from vocab.store.manifest import Manifest
from vocab.wordnet import LEXICOGRAPHER_FILES

HEAD = 200
"""most frequent synsets listed"""
TAIL = 40
"""synsets shown of each part of the tail"""
TAIL_PARTS = ((1, 1), (2, 10))
"""least and greatest number of captions of a synset in each part of the tail that is sampled"""
TREEMAP_BROAD, TREEMAP_NARROW = 150, 45
"""tiles on a wide and on a narrow screen"""
NO_SYNSET = "<p class=soft>No row holds a synset.</p>"

# WordNet's lexicographer files in the few groups that colours can tell apart.
GROUPS: dict[str, tuple[str, ...]] = {
    "person": ("person", "body", "group"),
    "artifact": ("artifact",),
    "place": ("location", "object"),
    "creature": ("animal",),
    "plant": ("plant", "substance"),
    "food": ("food",),
    "act": ("act", "event", "process", "phenomenon", "time", "state"),
    "abstract": ("attribute", "cognition", "communication", "quantity", "relation", "shape"),
}


@dataclass(frozen=True)
class TailSample:
    """Some of the synsets that least to greatest captions hold."""

    least: int
    greatest: int
    total: int
    """synsets in this part of the tail"""
    places: list[int]
    """ranks of those shown"""


def treemap_section(tally: Tally) -> str:
    """The head as areas (figure 3c of the paper shows it as a cloud of words)."""
    if not len(tally.synsets):
        return section("treemap", "The head, as areas", NO_SYNSET)
    tiles = [_tile(tally, place) for place in range(min(TREEMAP_BROAD, len(tally.synsets)))]
    title = f"The {len(tiles)} most frequent synsets as areas"
    broad = treemap(tiles, width=1120, height=640, title=title, name="broad")
    few = tiles[:TREEMAP_NARROW]
    narrow = treemap(few, width=400, height=560, title=f"The {len(few)} most frequent synsets", name="narrow")
    grouped = {file for files in GROUPS.values() for file in files}
    rest = tuple(file for file in LEXICOGRAPHER_FILES.values() if file not in grouped)
    legend = "".join(
        f"<li><i class={name}></i>{', '.join(files)}</li>" for name, files in [*GROUPS.items(), ("other", rest)]
    )
    return section(
        "treemap",
        "The head, as areas",
        "<p class=soft>Areas are rows that hold the synset; colours are WordNet's lexicographer files. A pointer that "
        f"rests on a tile shows its count.</p>{broad}{narrow}<ul class=legend>{legend}</ul>",
    )


def head_section(tally: Tally, manifest: Manifest, examples: Examples | None) -> str:
    """The most frequent synsets, with captions that hold them."""
    if not len(tally.synsets):
        return section("head", "The most frequent synsets", NO_SYNSET)
    count = min(HEAD, len(tally.synsets))
    return section(
        "head",
        f"The {count:,} most frequent synsets",
        f"<p class=soft>{how_chosen(manifest, examples)}</p>",
        _synset_table(tally, range(count), examples),
    )


def how_chosen(manifest: Manifest, examples: Examples | None) -> str:
    """Where the example captions come from, or why there are none."""
    if examples is None:
        return (
            "No example captions: a label directory holds none. Give the input files that the labels were made from "
            "with <code>--captions</code>, and each synset gets some."
        )
    sample = examples.sample
    known = "" if manifest.inputs else " The manifest names no input files, so they could not be compared with it."
    return (
        f"Example captions come from the first rows of {sample.files:,} of {counted(sample.listed, 'file')} given, "
        f"spread evenly over their names: {sample.rows:,} rows, {len(sample.texts):,} different captions. They were "
        "labelled again by the same labeler (equal fingerprint); of the captions that hold a synset those shown are "
        f"spread evenly, from the first to the last.{known}"
    )


def tail_samples(tally: Tally) -> list[TailSample]:
    """For each part of the tail some synsets, spread evenly over WordNet's order, which goes by subject."""
    samples = []
    for least, greatest in TAIL_PARTS:
        ranks = np.flatnonzero((tally.captions >= least) & (tally.captions <= greatest))
        ranks = ranks[np.argsort(tally.synsets[ranks], kind="stable")]
        spread = np.unique(np.linspace(0, len(ranks) - 1, min(TAIL, len(ranks))).round().astype(int))
        samples.append(TailSample(least, greatest, len(ranks), ranks[spread].tolist()))
    return samples


def tail_section(tally: Tally, samples: Sequence[TailSample], examples: Examples | None) -> str:
    """How long the tail is, and what is in it."""
    if not len(tally.synsets):
        return section("tail", "The tail", NO_SYNSET)
    bounds = [10**power for power in range(len(str(int(tally.captions[0]))) + 1)]
    sizes = tally.sizes(bounds).tolist()
    decades = [
        (
            f"{low:,} to {high - 1:,}",
            f"{more - less:,}",
            share(more - less, len(tally.synsets)),
            share(int(tally.captions[less:more].sum()), tally.labels),
        )
        for low, high, more, less in zip(bounds[:-1], bounds[1:], sizes[:-1], sizes[1:], strict=True)
    ]
    head = ("rows that hold the synset", "synsets", "share of synsets", "share of all labels")
    parts = [table(head, decades, numbers=(1, 2, 3))]
    for sample in samples:
        seen = "once" if sample.greatest == 1 else f"{sample.least} to {sample.greatest} times"
        shown = f"{len(sample.places):,} of {sample.total:,}, spread evenly over WordNet's order"
        inside = _synset_table(tally, sample.places, examples) if sample.places else NO_SYNSET
        parts.append(f"<details><summary>Seen {seen}: {shown}</summary>{inside}</details>")
    return section("tail", "The tail", *parts)


def _synset_table(tally: Tally, places: Sequence[int], examples: Examples | None) -> str:
    """A row for each synset, by rank: name, words, count, captions."""
    nouns = wordnet.load()
    rows = []
    for place in places:
        synset, count = int(tally.synsets[place]), int(tally.captions[place])
        texts = ""
        if examples is not None:
            found = examples.captions.get(synset, [])
            shown = paragraphs(found) or "<p class=soft>none in the sample of captions</p>"
            texts = f"<td class=texts>{shown}</td>"
        rows.append(
            f"<tr><td class=number>{place + 1:,}</td><td class=name>{plain(nouns.name_of(nouns.row_of(synset)))}</td>"
            f"<td class=soft>{wordnet.wnid_of(synset)} {plain(', '.join(words_of(synset)))}</td>"
            f"<td class=number>{count:,}</td>{texts}</tr>"
        )
    captions = "" if examples is None else "<th>captions</th>"
    return (
        "<table class=synsets><thead><tr><th class=number>rank</th><th>synset</th><th>wnid and words</th>"
        f"<th class=number>rows</th>{captions}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _tile(tally: Tally, place: int) -> Tile:
    synset, count = int(tally.synsets[place]), int(tally.captions[place])
    nouns = wordnet.load()
    row = nouns.row_of(synset)
    subject = LEXICOGRAPHER_FILES[int(nouns.lexicographer_files[row])]
    kind = next((group for group, files in GROUPS.items() if subject in files), "other")
    title = f"{nouns.name_of(row)}, {subject}: {count:,} rows, {share(count, tally.rows)}"
    return Tile(words_of(synset)[0], title, float(count), kind)


def words_of(synset: int) -> list[str]:
    """The words of a synset, parts with a space between: ["dog", "domestic dog", "Canis familiaris"]."""
    nouns = wordnet.load()
    return [word.replace("_", " ") for word in nouns.words_of(nouns.row_of(synset))]
