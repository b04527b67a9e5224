"""Samples of captions in any format that the job reads, without Spark and without reading all of the input.

`draw_captions` draws rows with a seed. Parquet: rows of some row groups of some files. Tars: rows of some tars. Text:
rows of the first five million, by files in a random order. Each row that is read has the same chance.
`sample_captions` takes the first rows of files spread evenly over all, as the job of a label directory read them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pyarrow.parquet as pq

from pipeline.config import MAX_CAPTION_BYTES, Label
from pipeline.reading.captions import Piece, UnreadableFile, read_piece, reading_of
from pipeline.reading.inputs import InputFiles, list_inputs
from pipeline.reading.lines import decoded
from pipeline.reading.lookahead import spread
from pipeline.reading.rows import ReadOptions, broken_file
from pipeline.reading.stored_formats import EXTENSIONS
from pipeline.reject_reasons import NOT_UTF8
from vocab.errors import FormatError, InputError, MismatchError
from vocab.store.field_types import require_fields
from vocab.store.files import BROKEN, open_file
from vocab.store.manifest import MANIFEST, InputFile, Manifest

Record = tuple[bytes, ...]
"""captions of one row as they are stored; empty for a row that the labelling job rejects"""

POOL_PER_ROW = 4
"""rows to draw from for each row wanted, so that one row group or tar does not make the whole sample"""
MAX_TEXT_ROWS = 5_000_000
"""rows of text, which has no index to choose from, that are read in all"""
MAX_FILES = 32
"""files that first rows are taken from"""
MAX_ROWS = 100_000
"""first rows taken in all"""
MAX_BYTES = 64 << 20
"""bytes of text in first rows that are kept in all"""


@dataclass(frozen=True)
class CaptionSample:
    """Some captions of a corpus, and how many rows and files they stand for."""

    texts: list[str]
    """captions in the order they were read"""
    rows: int
    """rows in the sample; a row holds none, one or several captions"""
    rows_read: int
    """rows read to choose from"""
    unusable: int = 0
    """captions left out because the labelling job would reject them: not UTF-8, or too long"""
    files: int = 0
    """files read from"""
    listed: int = 0
    """files of the input"""


def draw_captions(inputs: InputFiles, reading: ReadOptions, *, rows: int, seed: int) -> CaptionSample:
    """Draw `rows` rows, or all there are, and take their captions.

    Raises InputError for a file that cannot be read, and if no caption is found.
    """
    chance = Random(seed)
    paths = chance.sample([file.path for file in inputs.files], len(inputs.files))
    read_from: set[str] = set()

    def records_of(piece: Piece) -> Iterator[Record]:
        read_from.add(piece.path)
        for captions, reason in rows_of(piece, reading):
            yield tuple(captions) if reason in (None, NOT_UTF8) else ()

    drawn, rows_read = reservoir(_pool(paths, inputs.format, records_of, chance, rows=rows), rows, chance)
    captions = [caption for record in drawn for caption in record if caption]
    texts = [text for caption in captions if (text := usable(caption, MAX_CAPTION_BYTES)) is not None]
    if not texts:
        raise InputError(
            inputs.files[0].path if len(inputs.files) == 1 else f"{len(inputs.files)} input files",
            found=f"no caption in {rows_read:,} rows",
            wanted="at least one",
            remedy="Check --format, --caption-columns and --columns.",
        )
    return CaptionSample(
        texts, len(drawn), rows_read, len(captions) - len(texts), files=len(read_from), listed=len(inputs.files)
    )


def sample_captions(manifest: Manifest, locations: tuple[str, ...], *, apart_from: str | None = None) -> CaptionSample:
    """Read each different caption in the first rows of the input files that a label directory was made from.

    Files in the folder `apart_from` are left out: labels may lie among their captions.

    Raises InputError for a location without files and for a file that cannot be read, and MismatchError for a file that
    the manifest does not name. A file is known by its name and size, since folders move.
    """
    options = options_of(manifest, locations)
    inputs = _of_job(manifest, list_inputs(locations, options.format, apart_from=apart_from))
    refuse_others(manifest, inputs)
    reading = reading_of(options, inputs)
    chosen = spread(inputs.files, MAX_FILES)
    texts: dict[str, None] = {}
    rows = size = 0
    for number, file in enumerate(chosen, start=1):
        good = (captions for captions, reason in rows_of(Piece(file.path, ""), reading) if reason is None)
        for captions in itertools.islice(good, MAX_ROWS // len(chosen)):
            rows += 1
            for caption in captions:
                if (text := usable(caption, options.max_caption_bytes)) is not None:
                    size += len(caption)
                    texts[text] = None
            if size > MAX_BYTES * number // len(chosen):
                break
    return CaptionSample(list(texts), rows, rows, files=len(chosen), listed=len(inputs.files))


def rows_of(piece: Piece, reading: ReadOptions) -> Iterator[tuple[list[bytes], str | None]]:
    """Captions of each row, and the reason to reject it. Raises InputError for a file that cannot be read."""
    try:
        for batch in read_piece(piece, reading):
            yield from zip(batch.column("captions").to_pylist(), batch.column("reason").to_pylist(), strict=True)
    except UnreadableFile as error:
        raise broken_file(piece.path, error) from error


def usable(caption: bytes, most: int) -> str | None:
    """Text of a caption of at most `most` bytes; None for a caption that the job would reject."""
    return decoded(caption) if len(caption) <= most else None


def _pool(
    paths: Sequence[str], format_: str, records_of: Callable[[Piece], Iterator[Record]], chance: Random, *, rows: int
) -> Iterator[Record]:
    """Rows to draw from: enough of them, file by file in a random order."""
    files = (Piece(path, "") for path in paths)
    if format_ in ("parquet", "img2dataset", "webdataset"):
        pieces = files if format_ == "webdataset" else row_groups(paths, chance)
        groups = (list(records_of(piece)) for piece in pieces)
        return itertools.chain.from_iterable(until(groups, rows * POOL_PER_ROW))
    return itertools.islice(itertools.chain.from_iterable(map(records_of, files)), MAX_TEXT_ROWS)


def row_groups(paths: Sequence[str], chance: Random) -> Iterator[Piece]:
    """Row groups of Parquet files: one of each file, then the others; a footer is read when its file is needed."""
    others: list[Piece] = []
    for path in paths:
        pieces = [Piece(path, "", (group,)) for group in range(_count_groups(path))]
        chance.shuffle(pieces)
        others += pieces[1:]
        yield from pieces[:1]
    chance.shuffle(others)
    yield from others


def _count_groups(path: str) -> int:
    try:
        with open_file(path) as stream:
            count: int = pq.ParquetFile(stream).metadata.num_row_groups
    except BROKEN as error:
        raise broken_file(path, error) from error
    return count


def until(groups: Iterator[list[Record]], rows: int) -> Iterator[list[Record]]:
    """Groups of rows until they hold `rows` rows."""
    held = 0
    for group in groups:
        yield group
        held += len(group)
        if held >= rows:
            return


def reservoir(records: Iterator[Record], rows: int, chance: Random) -> tuple[list[Record], int]:
    """Draw `rows` of the records, each with the same chance (Vitter's algorithm R); also count all records."""
    drawn = list(itertools.islice(records, rows))
    read = len(drawn)
    for record in records:
        read += 1
        at = int(chance.random() * read)
        if at < rows:
            drawn[at] = record
    return drawn, read


def options_of(manifest: Manifest, locations: tuple[str, ...]) -> Label:
    """The options that the labels' own job was given, as far as they say how its input is read.

    Raises FormatError for options of types that a job does not have.
    """
    names = ("format", "caption_columns", "synset_columns", "columns", "separator", "quoting", "key_column")
    stored = {name: manifest.config.get(name) for name in (*names, "max_caption_bytes")}
    # JSON has lists for tuples.
    given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in stored.items() if v is not None}
    try:
        require_fields(Label, given)
    except ValueError as error:
        raise FormatError(
            MANIFEST,
            found=f"a job whose option {error}",
            wanted="the options of a job",
            remedy="Make the labels again, or copy their directory again from where it is whole.",
        ) from error
    return Label(captions=locations, out="", **given)


def _of_job(manifest: Manifest, inputs: InputFiles) -> InputFiles:
    """Leave out files that only a named format takes: a job that recognised the format by names passed them over."""
    known = {(_name(file), file.size) for file in manifest.inputs}
    own = [f for f in inputs.files if (_name(f), f.size) in known or f.path.endswith(EXTENSIONS[inputs.format])]
    return replace(inputs, files=tuple(own) or inputs.files)


def refuse_others(manifest: Manifest, inputs: InputFiles) -> None:
    """Raise MismatchError for a file that is not an input of the manifest, if the manifest names any."""
    known = {(_name(file), file.size) for file in manifest.inputs}
    for file in inputs.files:
        if known and (_name(file), file.size) not in known:
            raise MismatchError(
                file.path,
                found=f"a file of {file.size:,} bytes that the labels were not made from",
                wanted=f"one of the {len(known):,} input files in the manifest, such as {manifest.inputs[0].path}",
                remedy="Give --captions as the labels' own job had them, or leave them out.",
            )


def _name(file: InputFile) -> str:
    return file.path.rpartition("/")[2]
