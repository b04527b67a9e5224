"""Counts to a vocabulary at any threshold, without reading a caption again.

In: the counts of one or more label directories. Out: vocabulary.parquet; or a table of thresholds to choose from:

    V_tau    classes  labels per row
        1     14,310            3.44
      500      1,193            2.71
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.choice import choose
from pipeline.config import Prune
from pipeline.counts import add_counts
from vocab.errors import MismatchError
from vocab.labeler_record import record_of
from vocab.pages.text import counted
from vocab.store.label_shards import LabelShards
from vocab.store.locations import make_folder_of, refuse_taken
from vocab.vocabulary import Vocabulary

THRESHOLDS = tuple(10**power * digit for power in range(7) for digit in (1, 2, 5))
FEW_CLASSES = 10
"""a threshold that leaves fewer is likely too high for the corpus, and is remarked on"""


@dataclass(frozen=True)
class Pruned:
    """A vocabulary, and how well it covers the corpora."""

    vocabulary: Vocabulary
    unlabelled: int | None
    """rows that hold none of its synsets; None if they were not counted"""
    remarks: tuple[str, ...] = ()
    """synsets of --only that no caption holds; where classes are few, how to get more of them"""

    def __str__(self) -> str:
        """ "1,193 classes seen in at least 500 of 66,309 captions, 2.71 labels per caption, 1.3 % without one"."""
        found = self.vocabulary
        labels = found.captions.sum() / max(1, found.rows)
        text = f"{counted(len(found), 'class', 'classes')} seen in at least {found.min_count:,} of "
        text += f"{counted(found.rows, 'caption')}, {labels:.2f} labels per caption"
        if self.unlabelled is not None:
            text += f", {counted(self.unlabelled, 'caption')} ({self.unlabelled / max(1, found.rows):.1%}) without one"
        if found.merged:
            text += f", {counted(len(found.merged), 'synset')} merged into another"
        return "\n".join([text, *self.remarks])


def prune(options: Prune) -> Pruned:
    """Choose the classes and write the vocabulary. Counts of several corpora are added before the threshold applies.

    Raises InputError if no synset passes and for a list that cannot be read, OutputExistsError if the output file
    exists, and MismatchError if different labelers made the directories.
    """
    assert options.out is not None, "preview needs no output file"
    refuse_taken(options.out)
    corpora = open_corpora(options.labels)
    chosen = choose(add_counts(corpus.counts() for corpus in corpora), options, corpora)
    vocabulary = Vocabulary.from_counts(
        chosen.counts,
        rows=rows_of(corpora),
        min_count=options.min_count,
        top_k=options.top_k,
        sources=tuple(corpus.counts_sha256 for corpus in corpora),
        # All corpora have the same, or they would have been refused.
        labeler=record_of(corpora[0]),
        merged=chosen.merged,
        choice=chosen.choice,
    )
    synsets = np.concatenate([vocabulary.synsets, np.array([each for each, _ in vocabulary.merged], dtype=np.int32)])
    unlabelled = count_unlabelled(corpora, synsets) if options.count_unlabelled else None
    make_folder_of(options.out)
    vocabulary.save(options.out)
    is_few = len(vocabulary) < FEW_CLASSES and len(vocabulary) != options.top_k
    more = how_to_get_more(chosen.counts, vocabulary) if is_few else ""
    return Pruned(vocabulary, unlabelled, tuple(filter(None, (chosen.remark, more))))


def how_to_get_more(counts: pa.Table, vocabulary: Vocabulary) -> str:
    """Remark on few classes: the lower thresholds that leave more, from high to low, if there are any."""
    captions = np.asarray(counts["captions"])
    lower = [(each, int((captions >= each).sum())) for each in reversed(THRESHOLDS) if each < vocabulary.min_count]
    more = [f"--min-count {each:,} leaves {classes:,}" for each, classes in lower if classes > len(vocabulary)]
    otherwise = f"{'a wider choice or ' if vocabulary.choice else ''}more captions would give more"
    return f"few classes for a model to tell apart: {', '.join(more) or otherwise}"


def preview(options: Prune) -> str:
    """Table of classes and labels per caption at thresholds from 1 to the count of the most frequent synset chosen."""
    corpora = open_corpora(options.labels)
    chosen = choose(add_counts(corpus.counts() for corpus in corpora), options, corpora)
    captions = np.sort(np.asarray(chosen.counts["captions"]))[::-1]
    lines = [f"{'V_tau':>9} {'classes':>9} {'labels per caption':>19}"]
    for threshold in THRESHOLDS:
        kept = captions[captions >= threshold]
        if len(kept):
            lines.append(f"{threshold:>9,} {len(kept):>9,} {kept.sum() / max(1, rows_of(corpora)):>19.2f}")
    return "\n".join([*lines, *filter(None, [chosen.remark])]) + "\n"


def open_corpora(locations: tuple[str, ...]) -> list[LabelShards]:
    """Open the label directories. Raises MismatchError for different labelers, or for a corpus that comes twice."""
    corpora = [LabelShards.open(location, checksums=False) for location in locations]
    refuse_mixed_labelers(corpora)
    refuse_repeated(corpora)
    return corpora


def rows_of(corpora: Sequence[LabelShards]) -> int:
    """Rows that were counted: labelled + empty."""
    return sum(corpus.manifest.labelled + corpus.manifest.empty for corpus in corpora)


def count_unlabelled(corpora: Sequence[LabelShards], synsets: NDArray[np.int32]) -> int:
    """Count rows that hold none of the synsets, in one pass over the label shards."""
    known = np.zeros(int(synsets.max(initial=0)) + 1, dtype=bool)
    known[synsets] = True
    without = 0
    for corpus in corpora:
        for lists in corpus.synset_lists():
            values = np.asarray(lists.flatten())
            member = known[np.minimum(values, len(known) - 1)] & (values < len(known))
            rows = np.asarray(pc.list_parent_indices(lists))[member]
            without += len(lists) - len(np.unique(rows))
    return without


def refuse_repeated(corpora: list[LabelShards]) -> None:
    """Raise MismatchError if a corpus comes twice: its captions would count twice."""
    seen: dict[str, str] = {}
    for corpus in corpora:
        if corpus.counts_sha256 in seen:
            raise MismatchError(
                corpus.location,
                found=f"the counts of {seen[corpus.counts_sha256]} once more",
                wanted="each corpus once",
                remedy="Leave one of the two out of --labels.",
            )
        seen[corpus.counts_sha256] = corpus.location


def refuse_mixed_labelers(corpora: list[LabelShards]) -> None:
    """Raise MismatchError unless one labeler made all labels: counts by different rules cannot be added."""
    first = corpora[0].manifest
    for corpus in corpora[1:]:
        if corpus.manifest.labeler_fingerprint != first.labeler_fingerprint:
            raise MismatchError(
                corpus.location,
                found=f"labels by {corpus.manifest.labeler} {corpus.manifest.labeler_fingerprint[:12]}",
                wanted=f"labels by {first.labeler} {first.labeler_fingerprint[:12]}, as in {corpora[0].location}",
                remedy="Label both corpora with the same release.",
            )
