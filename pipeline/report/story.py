"""What a label directory holds, on one HTML page: the story of `python -m pipeline report`.

In: a finished label directory, and as far as they are given the input files and a list of classes. Out: one page that
opens without a network and holds no script: the account of every row, synsets by frequency and by row, the vocabulary
and its gaps at every threshold, the head with example captions, the tail, the nearness to a data set's classes.
"""

from __future__ import annotations

import numpy as np

from pipeline.config import Report
from pipeline.report.coverage import coverage_of, read_classes
from pipeline.report.examples import examples_of, label_again
from pipeline.report.markup import document, side_by_side
from pipeline.report.number_sections import (
    account_section,
    coverage_section,
    frequency_section,
    length_section,
    summary,
    threshold_section,
)
from pipeline.report.synset_sections import HEAD, head_section, tail_samples, tail_section, treemap_section
from pipeline.report.tally import Tally, tally_of
from vocab.store.files import write_whole
from vocab.store.label_shards import LabelShards
from vocab.store.locations import make_folder_of, refuse_taken


def report(options: Report) -> Tally:
    """Write the page, whole or not at all, and return the numbers behind it.

    Raises OutputExistsError if the page exists, FormatError for a directory that is no finished label directory or
    does not hold what its manifest says, and for captions and classes what `label_again` and `read_classes` raise.
    """
    refuse_taken(options.out)
    classes = None if options.classes is None else read_classes(options.classes)
    labels = LabelShards.open(options.labels, checksums=False)
    # What does not fit together is better known before the part files are read.
    captions = None
    if options.captions:
        captions = label_again(labels.manifest, options.captions, apart_from=options.labels)
    tally = tally_of(labels)

    samples = tail_samples(tally)
    shown = np.concatenate([tally.synsets[:HEAD], *(tally.synsets[sample.places] for sample in samples)])
    examples = None if captions is None else examples_of(captions, shown, count=options.examples)
    coverage = None if classes is None else coverage_of(tally, classes, min_count=options.min_count)

    body = [
        summary(labels, tally, options.min_count),
        account_section(labels.manifest, tally),
        side_by_side(length_section(tally), frequency_section(tally, options.min_count)),
        threshold_section(tally, options.min_count),
        treemap_section(tally),
        head_section(tally, labels.manifest, examples),
        tail_section(tally, samples, examples),
        coverage_section(coverage, options),
    ]
    make_folder_of(options.out)
    with write_whole(options.out) as file:
        file.write(document(f"Labels in {labels.location}", "".join(body)).encode())
    return tally
