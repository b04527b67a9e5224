"""A bounded sample of the captions in input files, read without Spark.

In: the manifest of a label directory and the places of its input files. Out: a `CaptionSample`: texts as the job read
them, from the first rows of files spread evenly over all.

The job itself reads every row; here a few rows of a few files are enough, on any machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from pipeline.config import Label
from pipeline.reading.captions import Piece, UnreadableFile, read_piece, reading_of
from pipeline.reading.inputs import Inputs, list_inputs
from pipeline.reading.rows import ReadOptions
from pipeline.reading.stored_formats import EXTENSIONS
from vocab.errors import FormatError, InputError, MismatchError
from vocab.store.field_types import require_fields
from vocab.store.manifest import MANIFEST, InputFile, Manifest

MAX_FILES = 32
MAX_ROWS = 100_000
"""rows read in all"""
MAX_BYTES = 64 << 20
"""bytes of text kept in all"""


@dataclass(frozen=True)
class CaptionSample:
    """Some captions of a corpus."""

    texts: list[str]
    """each once, in the order in which they were read"""
    rows: int
    """rows read for them"""
    files: int
    """files read from"""
    listed: int
    """input files given"""


def sample_captions(manifest: Manifest, places: tuple[str, ...], *, apart_from: str | None = None) -> CaptionSample:
    """Read captions out of the input files that a label directory was made from.

    Files in the folder `apart_from` are left out: labels may lie among their captions.

    Raises InputError for a place without files or a file that cannot be read so, and MismatchError for a file that
    the manifest does not name; a file is known by its name and size, for folders move.
    """
    options = options_of(manifest, places)
    inputs = _of_job(manifest, list_inputs(places, options.format, apart_from=apart_from))
    refuse_others(manifest, inputs)
    reading = reading_of(options, inputs)
    spread = np.unique(np.linspace(0, len(inputs.files) - 1, MAX_FILES).round().astype(int)).tolist()
    texts: dict[str, None] = {}
    rows = size = files = 0
    for place in spread:
        files += 1
        for captions in islice(rows_of_file(inputs.files[place], reading), MAX_ROWS // len(spread)):
            rows += 1
            for text in captions:
                if len(text) <= options.max_caption_bytes and (decoded := as_text(text)) is not None:
                    size += len(text)
                    texts[decoded] = None
            if size > MAX_BYTES * files // len(spread):
                break
    return CaptionSample(list(texts), rows, files, len(inputs.files))


def options_of(manifest: Manifest, places: tuple[str, ...]) -> Label:
    """The options that the labels' own job was given, as far as they say how its input is read.

    Raises FormatError for options of other types than a job has.
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
    return Label(captions=places, out="", **given)


def _of_job(manifest: Manifest, inputs: Inputs) -> Inputs:
    """The files without those that only a named format takes, which a job that told the format by names passed over."""
    known = {(_name(file), file.size) for file in manifest.inputs}
    own = [f for f in inputs.files if (_name(f), f.size) in known or f.path.endswith(EXTENSIONS[inputs.format])]
    return replace(inputs, files=tuple(own) or inputs.files)


def refuse_others(manifest: Manifest, inputs: Inputs) -> None:
    """Raise MismatchError for a file that is none of the manifest's inputs, if it names any."""
    known = {(_name(file), file.size) for file in manifest.inputs}
    for file in inputs.files:
        if known and (_name(file), file.size) not in known:
            raise MismatchError(
                file.path,
                found=f"a file of {file.size:,} bytes that the labels were not made from",
                wanted=f"one of the {len(known):,} input files in the manifest, such as {manifest.inputs[0].path}",
                remedy="Give --captions as the labels' own job had them, or leave them out.",
            )


def as_text(caption: bytes) -> str | None:
    """The caption, None if it is not UTF-8."""
    try:
        return caption.decode("utf-8")
    except UnicodeDecodeError:
        return None


def rows_of_file(file: InputFile, reading: ReadOptions) -> Iterator[list[bytes]]:
    """The captions of each row that the job did not reject as it read it."""
    try:
        for batch in read_piece(Piece(file.path, ""), reading):
            rows = batch.filter(batch.column("reason").is_null())
            yield from rows.column("captions").to_pylist()
    except UnreadableFile as error:
        raise InputError(
            file.path,
            found=f"a file that cannot be read ({error})",
            wanted="captions as the labels' own job read them",
            remedy="Copy the file again, or leave --captions out.",
        ) from error


def _name(file: InputFile) -> str:
    return file.path.rpartition("/")[2]
