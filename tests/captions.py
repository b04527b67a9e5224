"""Captions as the label job reads them, without Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config import Label
from pipeline.reading.captions import Piece, read_piece, reading_of
from pipeline.reading.inputs import list_inputs


def read_captions(path: Path, **options: Any) -> list[dict[str, Any]]:
    """Read all caption rows of a file or folder, with options of `label`."""
    label = Label((str(path),), "", **options)
    inputs = list_inputs(label.captions, label.format)
    reading = reading_of(label, inputs)
    return [row for file in inputs.files for b in read_piece(Piece(file.path, "s"), reading) for row in b.to_pylist()]
