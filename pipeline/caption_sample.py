"""A seeded sample of captions in any format the job reads, without Spark and, where it can be, without reading it all.

In: an `Inputs` and what holds the captions. Out: a `CaptionSample`.

Parquet: some row groups of some files. Tars: some tars. Text: its first gigabyte, by files in a random order. Of what
is read every row has the same chance; how many rows were read stands in the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from pipeline.caption_records import Record, json_records, row_groups, tar_records, text_records
from pipeline.inputs import Inputs
from vocab.errors import InputError

# Rows are drawn from this many times as many, so that one row group or tar does not make the whole sample.
SPREAD = 4
MAX_CAPTION_BYTES = 65_536


@dataclass
class CaptionSample:
    """Captions, and what they were drawn from."""

    captions: list[str]
    rows: int = 0
    """rows drawn; a row holds none, one or several captions"""
    rows_read: int = 0
    """rows they were drawn from"""
    unusable: int = 0
    """captions drawn that the labelling job would reject: not UTF-8, or too long"""
    files: int = 0
    """files of the input"""


def draw_captions(
    inputs: Inputs, *, caption_columns: tuple[str, ...], columns: tuple[str, ...], rows: int, seed: int
) -> CaptionSample:
    """Draw `rows` rows, or all there are, and take their captions.

    Raises InputError for a file that cannot be read, a column that is not there, and if no caption is found.
    """
    chance = Random(seed)
    paths = chance.sample([file.path for file in inputs.files], len(inputs.files))
    records = read_records(inputs, paths, chance, caption_columns=caption_columns, columns=columns, rows=rows)
    drawn, read = reservoir(records, rows, chance)
    texts = [text for record in drawn for text in record]
    captions = [caption for text in texts if (caption := usable(text)) is not None]
    if not captions:
        raise InputError(
            inputs.files[0].path if len(inputs.files) == 1 else f"{len(inputs.files)} input files",
            found=f"no caption in {read:,} rows",
            wanted="at least one",
            remedy="Check --format, --caption-columns and --columns.",
        )
    return CaptionSample(captions, len(drawn), read, len(texts) - len(captions), len(inputs.files))


def read_records(
    inputs: Inputs,
    paths: Sequence[str],
    chance: Random,
    *,
    caption_columns: tuple[str, ...],
    columns: tuple[str, ...],
    rows: int,
) -> Iterator[Record]:
    """Rows to draw from: enough of them, in an order of files that chance made."""
    names = caption_columns or (("txt",) if inputs.format == "webdataset" else ("caption",))
    match inputs.format:
        case "parquet" | "img2dataset":
            groups = row_groups(paths, names, chance, sidecars=inputs.format == "img2dataset")
            return itertools.chain.from_iterable(until(groups, rows * SPREAD))
        case "webdataset":
            return itertools.chain.from_iterable(until(tar_records(paths, names), rows * SPREAD))
        case "tsv":
            return text_records(paths, names, columns, quoted=False)
        case "csv":
            return text_records(paths, names, columns, quoted=True)
        case "jsonl":
            return json_records(paths, names)


def until(groups: Iterator[list[Record]], rows: int) -> Iterator[list[Record]]:
    """Groups of rows until they hold `rows`."""
    held = 0
    for group in groups:
        yield group
        held += len(group)
        if held >= rows:
            return


def reservoir(records: Iterator[Record], rows: int, chance: Random) -> tuple[list[Record], int]:
    """`rows` of the records, each with the same chance, and how many there were (Vitter's algorithm R)."""
    drawn = list(itertools.islice(records, rows))
    read = len(drawn)
    for record in records:
        read += 1
        place = int(chance.random() * read)
        if place < rows:
            drawn[place] = record
    return drawn, read


def usable(text: bytes) -> str | None:
    """A caption that the labelling job would label, else None."""
    if len(text) > MAX_CAPTION_BYTES:
        return None
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return None
