"""The report's sections of numbers: the account, synsets per row, frequency, thresholds, nearness to classes.

In: a tally, a manifest, a coverage. Out: HTML, a string for each section. Names of files and reasons are strangers'
text and pass through `markup`.
"""

from __future__ import annotations

import numpy as np

from pipeline.config import Report
from pipeline.report.coverage import SIMILARITIES, Coverage, found_at
from pipeline.report.figures import Axis, bars, curves, thinned
from pipeline.report.markup import cards, counted, figure, plain, section, share, side_by_side, stranger, table
from pipeline.report.synset_sections import NO_SYNSET, words_of
from pipeline.report.tally import Tally
from vocab.store.label_shards import LabelShards
from vocab.store.manifest import Manifest

LISTED_FILES = 20
LONGEST_BAR = 24
"""rows with so many synsets or more share the last bar"""
MISSING = 60
"""classes without a caption that are named"""


def summary(labels: LabelShards, tally: Tally, min_count: int) -> str:
    """Heading, the largest numbers, and the way to the sections."""
    manifest = labels.manifest
    kept, without = (int(numbers([min_count])[0]) for numbers in (tally.sizes, tally.unlabelled))
    values = [
        (f"{manifest.rows:,}", "rows read"),
        (
            share(manifest.labelled, manifest.rows - manifest.merged),
            "of them with at least one synset" if not manifest.merged else "of the keys with at least one synset",
        ),
        (f"{tally.labels_per_row:.2f}", "synsets in a labelled or empty row, on average"),
        (f"{len(tally.synsets):,}", "different synsets"),
        (f"{kept:,}", f"synsets that at least {min_count:,} rows hold"),
        (share(without, tally.rows), f"of the rows hold none of those {kept:,}"),
    ]
    names = ("account", "lengths", "frequency", "thresholds", "treemap", "head", "tail", "coverage")
    links = "".join(f'<a href="#{name}">{name}</a>' for name in names)
    return (
        f"<header><h1>Labels in {stranger(labels.location)}</h1><p class=soft>Nouns of WordNet "
        f"{stranger(manifest.wordnet)}, found by the labeler {stranger(manifest.labeler)} "
        f"{stranger(manifest.labeler_fingerprint[:12])} in {counted(len(manifest.inputs), 'input file')}.</p></header>"
        f"{cards(values)}<nav>{links}</nav>"
    )


def account_section(manifest: Manifest, tally: Tally) -> str:
    """Rows = labelled + empty + rejected + merged, the reasons, and the files that lost most."""
    totals = [
        ("labelled", f"{manifest.labelled:,}", share(manifest.labelled, manifest.rows), "at least one synset"),
        ("empty", f"{manifest.empty:,}", share(manifest.empty, manifest.rows), "a caption without a known noun"),
        ("rejected", f"{manifest.rejected:,}", share(manifest.rejected, manifest.rows), "could not be labelled"),
        *(
            [
                (
                    "merged",
                    f"{manifest.merged:,}",
                    share(manifest.merged, manifest.rows),
                    "joined to a row of the same key",
                )
            ]
            if manifest.merged
            else []
        ),
        ("together", f"{manifest.rows:,}", share(manifest.rows, manifest.rows), "rows read"),
    ]
    reasons = [(reason, f"{n:,}", share(n, manifest.rows)) for reason, n in tally.reasons.items()]
    losses = sorted((f for f in manifest.inputs if f.rejected), key=lambda f: (-f.rejected / f.rows, f.path))
    files = [(f.path, f"{f.rows:,}", f"{f.rejected:,}", share(f.rejected, f.rows)) for f in losses[:LISTED_FILES]]
    inputs = counted(len(manifest.inputs), "input file")
    parts = [table(("rows", "number", "share", ""), totals, numbers=(1, 2))]
    if reasons:
        parts += ["<h3>Why rows were rejected</h3>", table(("reason", "rows", "share"), reasons, numbers=(1, 2))]
    if files:
        parts += [
            "<h3>Input files with the largest shares rejected</h3>",
            f"<p class=soft>{len(files):,} of {counted(len(losses), 'file')} with a rejected row; {inputs} in all.</p>",
            table(("file", "rows", "rejected", "share"), files, numbers=(1, 2, 3)),
        ]
    else:
        parts.append(f"<p class=soft>The manifest names {inputs}, none with a rejected row.</p>")
    return section("account", "The account of rows", *parts)


def length_section(tally: Tally) -> str:
    """Histogram of synsets per row."""
    rows = tally.rows_by_length
    if not tally.rows:
        return section("lengths", "Synsets in a caption", NO_SYNSET)
    values = [(str(length), int(n)) for length, n in enumerate(rows[:LONGEST_BAR])]
    if len(rows) > LONGEST_BAR:
        values.append((f"{LONGEST_BAR}+", int(rows[LONGEST_BAR:].sum())))
    median = int(np.searchsorted(np.cumsum(rows), (tally.rows + 1) // 2))
    drawing = bars(values, across="synsets in a row's captions", up="rows", title="Rows by number of synsets")
    caption = (
        f"Half of the rows hold {median:,} or fewer, {tally.labels_per_row:.2f} on average, the longest "
        f"{len(rows) - 1:,}. The bar at 0 is the empty rows."
    )
    return section("lengths", "Synsets in a caption", figure(drawing, caption))


def frequency_section(tally: Tally, min_count: int) -> str:
    """Frequency against rank (figure 3a of the paper)."""
    places = thinned(len(tally.synsets))
    line = [(float(place + 1), float(tally.captions[place])) for place in places]
    kept = int(tally.sizes([min_count])[0])
    drawing = curves(
        [line],
        across=Axis("rank of the synset", log=True),
        up=Axis("rows that hold it", log=True),
        title="Frequency of synsets by rank",
        mark=float(kept) if kept else None,
    )
    caption = (
        f"Both axes logarithmic. Left of the dotted line: the {counted(kept, 'synset')} in {min_count:,} rows or more."
    )
    return section("frequency", "Frequency of synsets", figure(drawing, caption) if len(places) else NO_SYNSET)


def thresholds_of(tally: Tally, min_count: int) -> list[int]:
    """1, 5, 10, 50, 100, ... up to the most frequent synset's count, and `min_count`."""
    most = int(tally.captions.max(initial=0))
    steps = [times * 10**power for power in range(len(str(most))) for times in (1, 5)]
    return sorted({min_count, *(step for step in steps if step <= most)})


def threshold_section(tally: Tally, min_count: int) -> str:
    """Vocabulary size, and rows without a label, against V_tau (figure 3b of the paper)."""
    if not len(tally.synsets):
        return section("thresholds", "The vocabulary at each threshold", NO_SYNSET)
    every = np.array(thinned(int(tally.captions[0]))) + 1
    across = Axis("threshold: least rows of a synset", log=True)
    size = curves(
        [list(zip(every.tolist(), tally.sizes(every).tolist(), strict=True))],
        across=across,
        up=Axis("synsets in the vocabulary", log=True),
        title="Vocabulary size by threshold",
        mark=min_count,
    )
    without = curves(
        [list(zip(every.tolist(), (tally.unlabelled(every) / tally.rows).tolist(), strict=True))],
        across=across,
        up=Axis("rows without a label", percent=True),
        title="Share of rows without a label by threshold",
        mark=min_count,
    )
    drawn = figure(size, "Both axes logarithmic."), figure(without, "Exact, of labelled and empty rows together.")
    return section(
        "thresholds",
        "The vocabulary at each threshold",
        f"<p class=soft>A synset is a class if at least so many rows hold it (V<sub>τ</sub>); the dotted line is at "
        f"{min_count:,}.</p>{side_by_side(*drawn)}{_threshold_table(tally, min_count)}",
    )


def _threshold_table(tally: Tally, min_count: int) -> str:
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
    head = ("threshold", "synsets", "rows without a label", "share", "labels in a row", "share of all labels")
    return table(head, rows, numbers=range(6))


def coverage_section(coverage: Coverage | None, options: Report) -> str:
    """Nearness to the classes of a data set (figures 2b and 2c of the paper)."""
    title = "Nearness to a data set's classes"
    if coverage is None:
        return section(
            "coverage",
            title,
            "<p class=soft>No list of classes was given. Put the wnids of ImageNet-1k, or of another data set, into a "
            "file, one a line (n01440764), and name it with <code>--classes</code>.</p>",
        )
    total, seen, kept = len(coverage.classes), found_at(coverage.nearest_seen), found_at(coverage.nearest_kept)
    near = curves(
        [[(s, float(n)) for s, n in zip(SIMILARITIES, found, strict=True)] for found in (seen, kept)],
        across=Axis("path similarity, at least"),
        up=Axis("classes with a synset so near"),
        title="Classes by the similarity of their nearest synset",
    )
    held = np.sort(coverage.captions[coverage.captions > 0])[::-1]
    often = curves(
        [[(float(place + 1), float(held[place])) for place in range(len(held))]],
        across=Axis("classes, the most frequent first"),
        up=Axis("rows that hold the class's synset", log=True),
        title="Occurrences of each class",
    )
    rows = [(f"{s:.1f}", f"{a:,}", f"{b:,}") for s, a, b in zip(SIMILARITIES, seen, kept, strict=True)]
    head = ("similarity", "of all synsets seen", f"of those in {options.min_count:,} rows or more")
    legend = (
        f"<i class=first></i>all synsets seen <i class=broken></i>those that {options.min_count:,} rows or more hold"
    )
    return section(
        "coverage",
        title,
        f"<p class=soft>{total:,} classes in {stranger(str(options.classes))}. Similarity is 1 / (1 + steps of the "
        "shortest path through a common hypernym): 1 is the class's own synset.</p>",
        side_by_side(figure(near, legend), figure(often, _held(len(held), total))),
        table(head, rows, numbers=(1, 2)),
        _missing(coverage),
    )


def _held(held: int, total: int) -> str:
    return f"{held:,} of {total:,} classes occur themselves; the axis of rows is logarithmic."


def _missing(coverage: Coverage) -> str:
    """The classes that no caption holds, by name."""
    missing = coverage.classes[coverage.captions == 0].tolist()
    names = ", ".join(plain(words_of(synset)[0]) for synset in missing[:MISSING])
    more = f" and {len(missing) - MISSING:,} more" if len(missing) > MISSING else ""
    inside = f"<p>{names}{more}</p>" if missing else ""
    title = f"{len(missing):,} of {len(coverage.classes):,} classes that no row holds"
    return f"<details><summary>{title}</summary>{inside}</details>"
