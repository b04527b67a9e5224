"""Captions to synsets as a Spark column: the library call.

In: a DataFrame with captions. Out: the same DataFrame with a column `synsets: array<int>`.

    from pipeline.labeling import with_synsets
    labelled = with_synsets(frame, captions=("title", "alt_text"))
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql.pandas.functions import arrow_udf

from pipeline.captions import caption_list, require_columns
from vocab.errors import InputError
from vocab.labelers import SPACY_MODEL, CaptionLabeler, LabelerName, load_labeler

RESULT_DDL = "struct<synsets: array<int>, reason: string>"
RESULT_TYPE = pa.struct([("synsets", pa.list_(pa.int32())), ("reason", pa.string())])
MAX_CAPTION_BYTES = 65_536
COLUMN_REMEDY = "Name a column of captions: captions=(...)."

LoadLabeler = Callable[[], CaptionLabeler]
"""`load_labeler` with its arguments: what travels to the workers, each of which loads a labeler of its own, once"""


def with_synsets(
    frame: DataFrame,
    *,
    captions: tuple[str, ...],
    max_caption_bytes: int = MAX_CAPTION_BYTES,
    labeler: LabelerName = "catlip",
    spacy_model: str = SPACY_MODEL,
    wordnet: Path | None = None,
) -> DataFrame:
    """Add `synsets: array<int>`: WordNet 3.0 offsets, unique and ascending, the union over the named columns.

    A caption column holds text or a list of texts. Rows that cannot be labelled get null: no caption, one that is not
    UTF-8, or one longer than `max_caption_bytes`. `labeler`, `spacy_model` and `wordnet` are those of `load_labeler`.

    Raises InputError for a column that is not there or holds no text, and what `load_labeler` raises.
    """
    refuse_no_names(captions)
    require_columns(frame, captions, where="DataFrame", remedy=COLUMN_REMEDY)
    texts = caption_list(frame, captions, remedy=COLUMN_REMEDY)
    load = partial(load_labeler, labeler, spacy_model=spacy_model, wordnet=wordnet)
    # What a worker cannot load is better known before the job than in the middle of it.
    load()
    return frame.withColumn("synsets", label(texts, max_caption_bytes, load)["synsets"])


def refuse_no_names(captions: object) -> None:
    """Raise InputError for anything but a tuple or list of names: a string would be taken for one-letter names."""
    if not (isinstance(captions, (tuple, list)) and captions and all(isinstance(name, str) for name in captions)):
        raise InputError(
            "captions",
            found=repr(captions),
            wanted="the names of one or more columns, in a tuple",
            remedy='Write captions=("caption",).',
        )


def label(captions: Column, max_caption_bytes: int, load: LoadLabeler = load_labeler) -> Column:
    """array<binary> -> struct<synsets, reason>; exactly one of the two is null."""

    # PySpark's own stubs know only the call with a function type, which PySpark itself advises against.
    @arrow_udf(RESULT_DDL)  # type: ignore[call-overload, untyped-decorator, unused-ignore]
    def label_batch(batch: pa.Array) -> pa.Array:
        return label_lists(batch, max_caption_bytes, load)

    labelled: Column = label_batch(captions)
    return labelled


def label_lists(captions: pa.ListArray, max_caption_bytes: int, load: LoadLabeler = load_labeler) -> pa.StructArray:
    """Union of the labels of each row's captions, and the reason where there is none.

    `captions`: list<binary>, without nulls inside. The labeler is built once per Python worker and reused by later
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
    lists = load().label(texts.filter(usable).cast(pa.string()))
    synsets = _union(lists, np.asarray(rows.filter(usable), dtype=np.int64), len(captions))
    rejected = pa.array(reasons != None)  # noqa: E711 - element by element
    synsets = pc.if_else(rejected, pa.scalar(None, synsets.type), synsets)
    return pa.StructArray.from_arrays([synsets, pa.array(reasons, pa.string())], fields=list(RESULT_TYPE))


def _valid_utf8(texts: pa.BinaryArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
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


def _union(lists: pa.ListArray, rows: np.ndarray[tuple[int], np.dtype[np.int64]], length: int) -> pa.ListArray:
    """Merge the lists of one row. `rows` [len(lists)] is ascending."""
    parents = rows[np.asarray(pc.list_parent_indices(lists), dtype=np.int64)]
    pairs = np.unique(parents << 32 | np.asarray(lists.flatten(), dtype=np.int64))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(pairs >> 32, minlength=length))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array((pairs & 0xFFFFFFFF).astype(np.int32)))
