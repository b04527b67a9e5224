"""Captions to synsets as a Spark column, for Spark jobs of your own.

from pipeline.labeling import with_synsets
labelled = with_synsets(frame, captions=("title", "alt_text"))
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import ArrayType, BinaryType, StringType

from pipeline.config import MAX_CAPTION_BYTES
from pipeline.labels import LoadLabeler, label_lists
from vocab.errors import InputError
from vocab.labelers import SPACY_MODEL, LabelerName, load_labeler
from vocab.store.locations import Location
from vocab.user_lexicon import read_lexicon

RESULT_DDL = "struct<synsets: array<int>, reason: string>"
COLUMN_REMEDY = "Name a column of captions: captions=(...)."


def with_synsets(
    frame: DataFrame,
    *,
    captions: tuple[str, ...],
    max_caption_bytes: int = MAX_CAPTION_BYTES,
    labeler: LabelerName = "catlip",
    spacy_model: str = SPACY_MODEL,
    wordnet: Path | None = None,
    lexicon: Location | None = None,
) -> DataFrame:
    """Add `synsets: array<int>`: WordNet 3.0 offsets, unique and ascending, the union over the named columns.

    A caption column holds text or a list of texts. A row gets null if it has no caption, or only the text of missing
    values (`vocab.missing_values`), or one that is not UTF-8 or longer than `max_caption_bytes`. `labeler`,
    `spacy_model` and `wordnet` are arguments of `load_labeler`. `lexicon` is a file of your own words, or a label
    directory, for the words that it was made with.

    Raises InputError for a column that is not there or holds no text, and what `load_labeler` and `read_lexicon` raise.
    """
    refuse_no_names(captions)
    texts = caption_list(frame, captions)
    own = None if lexicon is None else read_lexicon(lexicon)
    load = partial(load_labeler, labeler, spacy_model=spacy_model, wordnet=wordnet, lexicon=own)
    # An error of loading is better raised here than in the middle of the job.
    load()
    return frame.withColumn("synsets", label(texts, max_caption_bytes, load)["synsets"])


def refuse_no_names(captions: object) -> None:
    """Raise InputError for anything but a tuple or list of names: a string would be read as one-letter names."""
    if not (isinstance(captions, (tuple, list)) and captions and all(isinstance(name, str) for name in captions)):
        raise InputError(
            "captions",
            found=repr(captions),
            wanted="the names of one or more columns, in a tuple",
            remedy='Write captions=("caption",).',
        )


def label(captions: Column, max_caption_bytes: int, load: LoadLabeler = load_labeler) -> Column:
    """Label a column: array<binary> -> struct<synsets, reason>; exactly one of the two is null."""

    # PySpark's stubs have only the call with a function type, which PySpark itself advises against.
    @arrow_udf(RESULT_DDL)  # type: ignore[call-overload, untyped-decorator, unused-ignore]
    def label_batch(batch: pa.Array) -> pa.Array:
        return label_lists(batch, max_caption_bytes, load)

    labelled: Column = label_batch(captions)
    return labelled


def caption_list(frame: DataFrame, columns: tuple[str, ...]) -> Column:
    """Captions of several columns, each text or a list of texts, as one array<binary> without nulls.

    Raises InputError for a column that is not there or holds no text.
    """
    arrays: list[Column] = []
    for name in columns:
        if name not in frame.columns:
            found = f"columns {', '.join(frame.columns)}"
            raise InputError("DataFrame", found=found, wanted=f"a column {name!r}", remedy=COLUMN_REMEDY)
        kind = frame.schema[name].dataType
        column = frame[f"`{name}`"]
        if isinstance(kind, (StringType, BinaryType)):
            column = F.array(column)
        elif not (isinstance(kind, ArrayType) and isinstance(kind.elementType, (StringType, BinaryType))):
            raise InputError(
                f"column {name!r}",
                found=f"type {kind.simpleString()}",
                wanted="text, or a list of texts",
                remedy=COLUMN_REMEDY,
            )
        arrays.append(F.coalesce(column.cast("array<binary>"), F.array().cast("array<binary>")))
    return F.filter(F.concat(*arrays), lambda caption: caption.isNotNull())
