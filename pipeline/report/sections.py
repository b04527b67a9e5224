"""Values of the report's sections, which report.html lays out; None for a section that has nothing to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.coverage import SIMILARITIES, Coverage, found_at
from pipeline.report.examples import Examples
from pipeline.report.tally import Tally
from vocab import wordnet
from vocab.depictable import are_depictable
from vocab.empty_reasons import WORDING
from vocab.pages.charts import Axis, Tile, bar_chart, line_chart, log_spaced, treemap
from vocab.pages.text import share
from vocab.store.label_shards import LabelShards
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
LISTED_FILES = 20
LONGEST_BAR = 24
"""rows with so many synsets or more share the last bar"""
MISSING = 60
"""classes without a caption that are named"""

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

Values = dict[str, Any]


@dataclass(frozen=True)
class TailSample:
    """Some of the synsets that `least` to `greatest` captions hold."""

    least: int
    greatest: int
    total: int
    """synsets in this part of the tail"""
    ranks: list[int]
    """ranks of the synsets shown"""


def summary(labels: LabelShards, tally: Tally, min_count: int) -> Values:
    """Largest numbers of the page."""
    manifest = labels.manifest
    kept, without = (int(numbers([min_count])[0]) for numbers in (tally.sizes, tally.unlabelled))
    of_what = "of the keys" if manifest.merged else "of them"
    cards = [
        (f"{manifest.rows:,}", "rows read"),
        (share(manifest.labelled, manifest.rows - manifest.merged), f"{of_what} with at least one synset"),
        (f"{tally.labels_per_row:.2f}", "synsets in a labelled or empty row, on average"),
        (f"{len(tally.synsets):,}", "different synsets"),
        (f"{kept:,}", f"synsets that at least {min_count:,} rows hold"),
        (share(without, tally.rows), f"of the rows hold none of those {kept:,}"),
    ]
    return {"cards": cards, "inputs": len(manifest.inputs)}


def account(manifest: Manifest, tally: Tally) -> Values:
    """Rows = labelled + empty + rejected + merged, the reasons, and the files that lost most."""
    parts = [
        ("labelled", manifest.labelled, "at least one synset"),
        ("empty", manifest.empty, "a caption without a known noun"),
        ("rejected", manifest.rejected, "could not be labelled"),
        *([("merged", manifest.merged, "joined to a row of the same key")] if manifest.merged else []),
        ("together", manifest.rows, "rows read"),
    ]
    losses = sorted((f for f in manifest.inputs if f.rejected), key=lambda f: (-f.rejected / f.rows, f.path))
    return {
        "totals": [(name, f"{number:,}", share(number, manifest.rows), what) for name, number, what in parts],
        "reasons": [(reason, f"{n:,}", share(n, manifest.rows)) for reason, n in tally.reasons.items()],
        "empty": [
            (words, f"{n:,}", share(n, sum(manifest.empty_reasons.values())))
            for reason, words in WORDING.items()
            if (n := manifest.empty_reasons.get(reason, 0))
        ],
        "joined": manifest.merged > 0,
        "files": [(f.path, f"{f.rows:,}", f"{f.rejected:,}", share(f.rejected, f.rows)) for f in losses[:LISTED_FILES]],
        "losses": len(losses),
        "inputs": len(manifest.inputs),
    }


def lengths(tally: Tally) -> Values | None:
    """Histogram of synsets per row."""
    if not tally.rows:
        return None
    rows = tally.rows_by_length
    values = [(str(length), int(n)) for length, n in enumerate(rows[:LONGEST_BAR])]
    if len(rows) > LONGEST_BAR:
        values.append((f"{LONGEST_BAR}+", int(rows[LONGEST_BAR:].sum())))
    return {
        "chart": bar_chart(values, across="synsets in a row's captions", up="rows", title="Rows by number of synsets"),
        "median": int(np.searchsorted(np.cumsum(rows), (tally.rows + 1) // 2)),
        "mean": f"{tally.labels_per_row:.2f}",
        "longest": len(rows) - 1,
    }


def frequency(tally: Tally, min_count: int) -> Values | None:
    """Frequency against rank (figure 3a of the paper)."""
    if not len(tally.synsets):
        return None
    kept = int(tally.sizes([min_count])[0])
    chart = line_chart(
        [[(rank + 1.0, float(tally.captions[rank])) for rank in log_spaced(len(tally.synsets))]],
        across=Axis("rank of the synset", log=True, abbreviated=True),
        up=Axis("rows that hold it", log=True, abbreviated=True),
        title="Frequency of synsets by rank",
        mark=float(kept) if kept else None,
    )
    return {"chart": chart, "kept": kept}


def thresholds_of(tally: Tally, min_count: int) -> list[int]:
    """1, 5, 10, 50, 100, ... up to the most frequent synset's count, and `min_count`."""
    most = int(tally.captions.max(initial=0))
    steps = [times * 10**power for power in range(len(str(most))) for times in (1, 5)]
    return sorted({min_count, *(step for step in steps if step <= most)})


def thresholds(tally: Tally, min_count: int) -> Values | None:
    """Vocabulary size, and rows without a label, against V_tau (figure 3b of the paper)."""
    if not len(tally.synsets):
        return None
    every = np.array(log_spaced(int(tally.captions[0]))) + 1
    across = Axis("threshold: least rows of a synset", log=True, abbreviated=True)
    size = line_chart(
        [list(zip(every.tolist(), tally.sizes(every).tolist(), strict=True))],
        across=across,
        up=Axis("synsets in the vocabulary", log=True, abbreviated=True),
        title="Vocabulary size by threshold",
        mark=min_count,
    )
    without = line_chart(
        [list(zip(every.tolist(), (tally.unlabelled(every) / tally.rows).tolist(), strict=True))],
        across=across,
        up=Axis("rows without a label", percent=True, ends=(0.0, 1.0)),
        title="Share of rows without a label by threshold",
        mark=min_count,
    )
    steps = thresholds_of(tally, min_count)
    rows = [
        (
            f"{step:,}",
            f"{kept:,}",
            f"{left:,}",
            share(left, tally.rows),
            f"{tally.captions[:kept].sum() / tally.rows:.2f}",
            share(int(tally.captions[:kept].sum()), tally.labels),
        )
        for step, kept, left in zip(steps, tally.sizes(steps).tolist(), tally.unlabelled(steps).tolist(), strict=True)
    ]
    return {"size": size, "without": without, "rows": rows}


def shown(tally: Tally, min_count: int) -> Values | None:
    """Synsets that a picture can show and others, of all and of those that `min_count` rows hold."""
    if not len(tally.synsets):
        return None
    marks = are_depictable(tally.synsets)
    kept = int(tally.sizes([min_count])[0])
    rows = []
    for what, mask in (("a picture can show it", marks), ("no picture can show it", ~marks)):
        labels = int(tally.captions[mask].sum())
        head = int(mask[:kept].sum())
        cells = (f"{int(mask.sum()):,}", f"{head:,}", share(head, kept), f"{labels:,}", share(labels, tally.labels))
        rows.append((what, *cells))
    return {"rows": rows}


def areas(tally: Tally) -> Values | None:
    """Head of the vocabulary as areas (figure 3c of the paper shows it as a cloud of words)."""
    if not len(tally.synsets):
        return None
    tiles = [_tile(tally, rank) for rank in range(min(TREEMAP_BROAD, len(tally.synsets)))]
    few = tiles[:TREEMAP_NARROW]
    title = f"The {len(tiles)} most frequent synsets as areas"
    grouped = {file for files in GROUPS.values() for file in files}
    rest = tuple(file for file in LEXICOGRAPHER_FILES.values() if file not in grouped)
    return {
        "broad": treemap(tiles, width=1120, height=640, title=title, name="broad"),
        "narrow": treemap(few, width=400, height=560, title=f"The {len(few)} most frequent synsets", name="narrow"),
        "legend": [(group, ", ".join(files)) for group, files in [*GROUPS.items(), ("other", rest)]],
    }


def head(tally: Tally, examples: Examples | None) -> Values | None:
    """Most frequent synsets, with captions that hold them."""
    count = min(HEAD, len(tally.synsets))
    return {"rows": _synset_rows(tally, range(count), examples)} if count else None


def tail_samples(tally: Tally) -> list[TailSample]:
    """For each part of the tail some synsets, spread evenly over WordNet's order, which goes by subject."""
    samples = []
    for least, greatest in TAIL_PARTS:
        ranks = np.flatnonzero((tally.captions >= least) & (tally.captions <= greatest))
        ranks = ranks[np.argsort(tally.synsets[ranks], kind="stable")]
        spread = np.unique(np.linspace(0, len(ranks) - 1, min(TAIL, len(ranks))).round().astype(int))
        samples.append(TailSample(least, greatest, len(ranks), ranks[spread].tolist()))
    return samples


def tail(tally: Tally, samples: Sequence[TailSample], examples: Examples | None) -> Values | None:
    """Length of the tail, and some of its synsets."""
    if not len(tally.synsets):
        return None
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
    parts = [
        {
            "seen": "once" if sample.greatest == 1 else f"{sample.least} to {sample.greatest} times",
            "total": sample.total,
            "rows": _synset_rows(tally, sample.ranks, examples),
        }
        for sample in samples
    ]
    return {"decades": decades, "parts": parts}


def nearness(coverage: Coverage | None) -> Values | None:
    """Nearness to the classes of a data set (figures 2b and 2c of the paper)."""
    if coverage is None:
        return None
    seen, kept = found_at(coverage.nearest_seen), found_at(coverage.nearest_kept)
    near = line_chart(
        [[(s, float(n)) for s, n in zip(SIMILARITIES, found, strict=True)] for found in (seen, kept)],
        across=Axis("path similarity, at least"),
        up=Axis("classes with a synset so near", abbreviated=True),
        title="Classes by the similarity of their nearest synset",
        broken=True,
    )
    held = np.sort(coverage.captions[coverage.captions > 0])[::-1]
    often = line_chart(
        [[(rank, float(rows)) for rank, rows in enumerate(held.tolist(), 1)]],
        across=Axis("classes, the most frequent first", abbreviated=True),
        up=Axis("rows that hold the class's synset", log=True, abbreviated=True),
        title="Occurrences of each class",
    )
    missing = coverage.classes[coverage.captions == 0].tolist()
    return {
        "near": near,
        "often": often,
        "total": len(coverage.classes),
        "held": len(held),
        "rows": [(f"{s:.1f}", f"{a:,}", f"{b:,}") for s, a, b in zip(SIMILARITIES, seen, kept, strict=True)],
        "missing": [words_of(synset)[0] for synset in missing[:MISSING]],
        "more": max(0, len(missing) - MISSING),
    }


def words_of(synset: int) -> list[str]:
    """Words of a synset, parts with a space between: ["dog", "domestic dog", "Canis familiaris"]."""
    nouns = wordnet.load()
    return [word.replace("_", " ") for word in nouns.words_of(nouns.row_of(synset))]


def _synset_rows(tally: Tally, ranks: Sequence[int], examples: Examples | None) -> list[Values]:
    """Row of the page for each synset; its captions are None where the report has none at all."""
    nouns = wordnet.load()
    return [
        {
            "rank": rank + 1,
            "name": nouns.name_of(nouns.row_of(synset)),
            "wnid": wordnet.wnid_of(synset),
            "words": ", ".join(words_of(synset)),
            "count": int(tally.captions[rank]),
            "is_depictable": bool(are_depictable(tally.synsets[rank : rank + 1])[0]),
            "captions": None if examples is None else examples.captions.get(synset, []),
        }
        for rank in ranks
        for synset in [int(tally.synsets[rank])]
    ]


def _tile(tally: Tally, rank: int) -> Tile:
    synset, count = int(tally.synsets[rank]), int(tally.captions[rank])
    nouns = wordnet.load()
    row = nouns.row_of(synset)
    subject = LEXICOGRAPHER_FILES[int(nouns.lexicographer_files[row])]
    kind = next((group for group, files in GROUPS.items() if subject in files), "other")
    title = f"{nouns.name_of(row)}, {subject}: {count:,} rows, {share(count, tally.rows)}"
    return Tile(words_of(synset)[0], title, float(count), kind)
