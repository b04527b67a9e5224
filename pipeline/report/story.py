"""Contents of a label directory on one HTML page: the story of `python -m pipeline report`.

In: a finished label directory; optionally its input files and a list of classes. Out: one page that
opens without a network and holds no script: the account of every row, synsets by frequency and by row, the vocabulary
and its gaps at every threshold, the head with example captions, the tail, the nearness to a data set's classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.config import Report
from pipeline.report import sections
from pipeline.report.coverage import Coverage, coverage_of, read_classes
from pipeline.report.examples import Examples, examples_of, label_again
from pipeline.report.tally import Tally, tally_of
from vocab.pages.page import render
from vocab.store.files import write_whole
from vocab.store.label_shards import LabelShards
from vocab.store.locations import make_folder_of, refuse_taken
from vocab.store.secrets import without_secrets


def report(options: Report) -> Tally:
    """Write the page, whole or not at all, and return the numbers behind it.

    Raises OutputExistsError if the page exists, FormatError for a directory that is not a finished label directory
    or differs from its manifest, and for captions and classes what `label_again` and `read_classes` raise.
    """
    refuse_taken(options.out)
    classes = None if options.classes is None else read_classes(options.classes)
    labels = LabelShards.open(options.labels, checksums=False)
    # Report a mismatch before the part files are read.
    captions = None
    if options.captions:
        captions = label_again(labels, options.captions, apart_from=options.labels)
    tally = tally_of(labels)

    samples = sections.tail_samples(tally)
    listed = np.concatenate([tally.synsets[: sections.HEAD], *(tally.synsets[sample.ranks] for sample in samples)])
    examples = None if captions is None else examples_of(captions, listed, count=options.examples)
    coverage = None if classes is None else coverage_of(tally, classes, min_count=options.min_count)

    content = page(labels, tally, options, samples=samples, examples=examples, coverage=coverage)
    make_folder_of(options.out)
    with write_whole(options.out) as file:
        file.write(content.encode())
    return tally


def page(
    labels: LabelShards,
    tally: Tally,
    options: Report,
    *,
    samples: Sequence[sections.TailSample],
    examples: Examples | None,
    coverage: Coverage | None,
) -> str:
    """HTML of the page."""
    return render(
        "pipeline/report/report.html",
        title=f"Labels: {without_secrets(labels.location)}",
        location=without_secrets(labels.location),
        labels=labels,
        manifest=labels.manifest,
        min_count=options.min_count,
        classes=None if options.classes is None else without_secrets(str(options.classes)),
        examples=examples,
        summary=sections.summary(labels, tally, options.min_count),
        account=sections.account(labels.manifest, tally),
        lengths=sections.lengths(tally),
        frequency=sections.frequency(tally, options.min_count),
        thresholds=sections.thresholds(tally, options.min_count),
        shown=sections.shown(tally, options.min_count),
        areas=sections.areas(tally),
        head=sections.head(tally, examples),
        tail=sections.tail(tally, samples, examples),
        nearness=sections.nearness(coverage),
    )
