"""Counts to a vocabulary, at any threshold, without reading a caption again.

In: the counts of one or more label directories. Out: vocabulary.parquet.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipeline.config import Prune
from vocab.errors import MismatchError, OutputExistsError
from vocab.label_shards import LabelShards
from vocab.vocabulary import Vocabulary


def prune(options: Prune) -> Vocabulary:
    """Choose the classes and write them. The counts of several corpora are added before the threshold applies.

    Raises OutputExistsError if the output file exists, MismatchError if the directories were labelled by different
    labelers, and InputError if no synset passes.
    """
    if Path(options.out).exists():
        raise OutputExistsError(
            options.out, found="a file", wanted="a new name", remedy="Choose another --out, or remove this one first."
        )
    corpora = [LabelShards.open(place, checksums=False) for place in options.labels]
    refuse_mixed_labelers(corpora)
    refuse_repeated(corpora)
    merged = (
        pa.concat_tables([corpus.counts() for corpus in corpora]).group_by("synset").aggregate([("captions", "sum")])
    )
    vocabulary = Vocabulary.from_counts(
        merged.rename_columns(["synset", "captions"]),
        rows=sum(corpus.manifest.labelled + corpus.manifest.empty for corpus in corpora),
        min_count=options.min_count,
        top_k=options.top_k,
        sources=tuple(corpus.counts_sha256 for corpus in corpora),
    )
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    vocabulary.save(options.out)
    return vocabulary


def refuse_repeated(corpora: list[LabelShards]) -> None:
    """Raise MismatchError if one corpus stands twice: its captions would count twice."""
    seen: dict[str, str] = {}
    for corpus in corpora:
        if corpus.counts_sha256 in seen:
            raise MismatchError(
                corpus.place,
                found=f"the counts of {seen[corpus.counts_sha256]} once more",
                wanted="each corpus once",
                remedy="Leave one of the two out of --labels.",
            )
        seen[corpus.counts_sha256] = corpus.place


def refuse_mixed_labelers(corpora: list[LabelShards]) -> None:
    """Raise MismatchError unless one labeler made all the labels: counts of different rules do not add up."""
    first = corpora[0].manifest
    for corpus in corpora[1:]:
        if corpus.manifest.labeler_fingerprint != first.labeler_fingerprint:
            raise MismatchError(
                corpus.place,
                found=f"labels by {corpus.manifest.labeler} {corpus.manifest.labeler_fingerprint[:12]}",
                wanted=f"labels by {first.labeler} {first.labeler_fingerprint[:12]}, as in {corpora[0].place}",
                remedy="Label both corpora with the same release.",
            )
