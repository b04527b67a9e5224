"""Rows of captions to rows of synsets, in Arrow, without Spark; also synsets that rows name themselves.

In: list<binary>, a list for each row. Out: struct<synsets, reason>: the union over the row's texts, or the reason why
there is none; exactly one of the two is null in each row. Names of synsets are checked against WordNet 3.0:

    n02084071               dog.n.01 by its offset, as ImageNet names classes
    dog.n.01  Dog.n.1       by word and number of the sense, as NLTK names it; any word of the synset
    n02084071, n02121620    several in one text, between spaces, commas, semicolons or bars; brackets and quotes around
    ["n02084071"]           them do not count
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.reading.lines import valid_utf8
from pipeline.reject_reasons import CAPTION_TOO_LONG, MISSING_VALUE, NOT_UTF8, NULL_CAPTION, NULL_SYNSET, UNKNOWN_SYNSET
from vocab.arrays import sorted_unique
from vocab.empty_reasons import LABELLED
from vocab.labelers import CaptionLabeler, load_labeler
from vocab.missing_values import are_missing
from vocab.synset_names import synset_named

RESULT_TYPE = pa.struct([("synsets", pa.list_(pa.int32())), ("reason", pa.string())])

LoadLabeler = Callable[[], CaptionLabeler]
"""`load_labeler` with its arguments: travels to the workers, each of which loads its own labeler once"""


def label_lists(captions: pa.ListArray, max_caption_bytes: int, load: LoadLabeler = load_labeler) -> pa.StructArray:
    """Union of the labels of each row's captions, or the reason why there is none.

    `captions`: list<binary>, without nulls inside. The text of a missing value is not a caption; a row with nothing
    else has the reason "missing_value". Later batches and tasks of the same Python worker use the same labeler.
    """
    texts, rows, reasons = _usable(captions, max_caption_bytes)
    return _results(union_of(load().label(texts), rows, len(captions)), reasons)


def label_and_say_why(
    captions: pa.ListArray, max_caption_bytes: int, load: LoadLabeler
) -> tuple[pa.StructArray, NDArray[np.int8]]:
    """`label_lists`, and [rows] `EmptyReason` of each row whose captions have no label: of several, the greatest."""
    texts, rows, reasons = _usable(captions, max_caption_bytes)
    labelled = load().label_and_say_why(texts)
    why = np.full(len(captions), LABELLED, dtype=np.int8)
    np.maximum.at(why, rows, labelled.why_empty)
    return _results(union_of(labelled.synsets, rows, len(captions)), reasons), why


def _usable(captions: pa.ListArray, max_caption_bytes: int) -> tuple[pa.StringArray, NDArray[np.int64], pa.StringArray]:
    """The texts that can be labelled, the row of each, and [captions] reasons why a row has none."""
    texts = captions.flatten().cast(pa.binary())
    rows = pc.list_parent_indices(captions)
    too_long = pc.greater(pc.binary_length(texts), max_caption_bytes)
    not_utf8 = pc.invert(valid_utf8(texts))
    reasons = np.full(len(captions), None, dtype=object)
    reasons[np.asarray(pc.fill_null(pc.list_value_length(captions), 0)) == 0] = NULL_CAPTION
    reasons[np.asarray(rows.filter(too_long))] = CAPTION_TOO_LONG
    reasons[np.asarray(rows.filter(not_utf8))] = NOT_UTF8

    usable = pc.invert(pc.or_(too_long, not_utf8))
    texts, rows = texts.filter(usable).cast(pa.string()), np.asarray(rows.filter(usable), dtype=np.int64)
    missing = are_missing(texts)
    if missing.any():
        texts, present = texts.filter(pa.array(~missing)), rows[~missing]
        without = np.setdiff1d(rows[missing], present)
        reasons[without[reasons[without] == None]] = MISSING_VALUE  # noqa: E711 - element by element
        rows = present
    return texts, rows, pa.array(reasons, pa.string())


def _results(synsets: pa.ListArray, reasons: pa.StringArray) -> pa.StructArray:
    synsets = pc.if_else(pc.is_valid(reasons), pa.scalar(None, synsets.type), synsets)
    return pa.StructArray.from_arrays([synsets, reasons], fields=list(RESULT_TYPE))


def union_of(lists: pa.ListArray, rows: NDArray[np.int64], length: int) -> pa.ListArray:
    """Merge the lists of each row to one. `rows` [len(lists)]: row of each list, ascending."""
    if (np.diff(rows) > 0).all():
        # One caption a row, as in most corpora: nothing to merge.
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


_BETWEEN = re.compile(r"[\s,;|]+")
_AROUND = "[](){}'\""


def named_synsets(texts: pa.ListArray) -> pa.StructArray:
    """Synsets that each row names, or the reason: it names none, or one that is not a noun of WordNet 3.0.

    `texts`: list<binary>, without nulls inside. Each different text is looked up once a batch.
    """
    encoded = texts.flatten().cast(pa.binary()).dictionary_encode()
    found = [_synsets_in(text) for text in encoded.dictionary.to_pylist()]
    rows = np.asarray(pc.list_parent_indices(texts), dtype=np.int64)
    indices = np.asarray(encoded.indices, dtype=np.int64)
    reasons = np.full(len(texts), NULL_SYNSET, dtype=object)
    names_some = np.array([synsets is None or len(synsets) > 0 for synsets in found], dtype=bool)
    is_unknown = np.array([synsets is None for synsets in found], dtype=bool)
    reasons[rows[names_some[indices]]] = None
    reasons[rows[is_unknown[indices]]] = UNKNOWN_SYNSET
    lists = pa.array([synsets or () for synsets in found], pa.list_(pa.int32())).take(encoded.indices)
    return _results(union_of(lists, rows, len(texts)), pa.array(reasons, pa.string()))


def with_named(labels: pa.StructArray, named: pa.StructArray, *, has_captions: bool) -> pa.StructArray:
    """Put both results of a row together: the union of its synsets, or the reason to reject it.

    A row without a caption gets only the synsets that it names; a row that names none, only those of its caption.
    """
    if not has_captions:
        return named
    own, others = labels.field("reason"), named.field("reason")
    no_caption = pc.is_in(pc.fill_null(own, ""), value_set=pa.array([NULL_CAPTION, MISSING_VALUE]))
    reasons = pc.case_when(
        pc.make_struct(pc.equal(pc.fill_null(others, ""), UNKNOWN_SYNSET), pc.and_(no_caption, pc.is_null(others))),
        others,
        pa.scalar(None, pa.string()),
        own,
    )
    lists = [result.field("synsets").fill_null(pa.scalar([], pa.list_(pa.int32()))) for result in (labels, named)]
    rows = np.concatenate([np.arange(len(labels), dtype=np.int64)] * 2)
    order = np.argsort(rows, kind="stable")
    return _results(union_of(pa.concat_arrays(lists).take(pa.array(order)), rows[order], len(labels)), reasons)


def _synsets_in(text: bytes) -> tuple[int, ...] | None:
    """Synsets that a text names, each once, ascending; None if one of them is unknown."""
    decoded = text.decode("utf-8", "replace")
    if are_missing(pa.array([decoded]))[0]:
        return ()
    names = [part for part in _BETWEEN.split(decoded) if part.strip(_AROUND)]
    # 'hood.n.01 is a name as it stands.
    offsets = {synset_named(name) or synset_named(name.strip(_AROUND)) for name in names}
    return None if None in offsets else tuple(sorted(offset for offset in offsets if offset is not None))
