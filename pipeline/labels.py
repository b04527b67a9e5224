"""Captions of rows to synsets of rows, in Arrow, without Spark: the union over a row's captions, or why there is none.

In: list<binary>, a list for each row. Out: struct<synsets, reason>, of which exactly one is null in each row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vocab.labelers import CaptionLabeler, load_labeler
from vocab.lexicon import sorted_unique
from vocab.missing_values import are_missing

RESULT_TYPE = pa.struct([("synsets", pa.list_(pa.int32())), ("reason", pa.string())])

LoadLabeler = Callable[[], CaptionLabeler]
"""`load_labeler` with its arguments: what travels to the workers, each of which loads a labeler of its own, once"""


def label_lists(captions: pa.ListArray, max_caption_bytes: int, load: LoadLabeler = load_labeler) -> pa.StructArray:
    """Union of the labels of each row's captions, and the reason where there is none.

    `captions`: list<binary>, without nulls inside. The text of a missing value counts as no caption; a row with nothing
    else has the reason "missing_value". The labeler is built once per Python worker and reused by later
    batches and tasks.
    """
    texts = captions.flatten().cast(pa.binary())
    rows = pc.list_parent_indices(captions)
    too_long = pc.greater(pc.binary_length(texts), max_caption_bytes)
    not_utf8 = pa.array(~_valid_utf8(texts), pa.bool_())
    reasons = np.full(len(captions), None, dtype=object)
    reasons[np.asarray(pc.fill_null(pc.list_value_length(captions), 0)) == 0] = "null_caption"
    reasons[np.asarray(rows.filter(too_long))] = "caption_too_long"
    reasons[np.asarray(rows.filter(not_utf8))] = "not_utf8"

    usable = pc.invert(pc.or_(too_long, not_utf8))
    texts, rows = texts.filter(usable).cast(pa.string()), np.asarray(rows.filter(usable), dtype=np.int64)
    missing = are_missing(texts)
    if missing.any():
        texts, present = texts.filter(pa.array(~missing)), rows[~missing]
        without = np.setdiff1d(rows[missing], present)
        reasons[without[reasons[without] == None]] = "missing_value"  # noqa: E711 - element by element
        rows = present
    synsets = union_of(load().label(texts), rows, len(captions))
    rejected = pa.array(reasons != None)  # noqa: E711 - element by element
    synsets = pc.if_else(rejected, pa.scalar(None, synsets.type), synsets)
    return pa.StructArray.from_arrays([synsets, pa.array(reasons, pa.string())], fields=list(RESULT_TYPE))


def _valid_utf8(texts: pa.BinaryArray) -> NDArray[np.bool_]:
    """[texts] whether each is UTF-8; one check of the whole batch unless it fails."""
    try:
        texts.cast(pa.string())
    except pa.ArrowInvalid:
        return np.array([_decodes(text) for text in texts.to_pylist()], dtype=bool)
    return np.ones(len(texts), dtype=bool)


def _decodes(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def union_of(lists: pa.ListArray, rows: NDArray[np.int64], length: int) -> pa.ListArray:
    """Merge the lists of one row. `rows` [len(lists)] is ascending."""
    if (np.diff(rows) > 0).all():
        # One caption a row, as most corpora have it: nothing to merge.
        sizes = np.zeros(length, dtype=np.int64)
        sizes[rows] = np.asarray(pc.list_value_length(lists))
        return pa.ListArray.from_arrays(pa.array(_offsets(sizes)), lists.flatten())
    parents = rows[np.asarray(pc.list_parent_indices(lists), dtype=np.int64)]
    pairs = sorted_unique(parents << 32 | np.asarray(lists.flatten(), dtype=np.int64))
    offsets = _offsets(np.bincount(pairs >> 32, minlength=length))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array((pairs & 0xFFFFFFFF).astype(np.int32)))


def _offsets(sizes: NDArray[np.int64]) -> NDArray[np.int32]:
    offsets = np.zeros(len(sizes) + 1, dtype=np.int32)
    np.cumsum(sizes, out=offsets[1:])
    return offsets
