"""Jobs that label nothing, or next to nothing: the options or the input must be wrong.

In: the account of the input files, and how they were read. Out: nothing, a note, or an error that shows captions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captions import Piece, UnreadableFile, read_piece
from pipeline.finishing import read_table
from pipeline.rows import Reading
from pipeline.task import JOB, Done, Job
from pipeline.terminal import harmless
from vocab.errors import InputError
from vocab.manifest import InputFile

FEW, OF_ROWS = 0.02, 100
"""share of rows below which labels are few, if there are so many rows"""
FILES_READ, CAPTIONS_READ, CAPTIONS_SHOWN, LETTERS_SHOWN = 3, 50, 3, 80
ADDRESS = re.compile(r"\s*(https?://|www\.|[a-z0-9]+://)|\S*\.(jpe?g|png|webp|gif|bmp|tiff?|tar)\s*$", re.IGNORECASE)
REMEDY = "Check --format, --caption-columns and --columns."


def refuse_nothing_labelled(job: Job, account: Sequence[InputFile], finished: Iterable[Done], *, allowed: bool) -> None:
    """Raise InputError if no row got a label. `allowed`: unless the job insists, having read some file."""
    if any(file.labelled for file in account):
        return
    broken = [file for file in account if file.unreadable]
    if len(broken) == len(account):
        raise InputError(
            broken[0].path,
            found=f"a file that cannot be read ({broken[0].unreadable})",
            wanted="a whole file of the format that its name tells",
            remedy="Download it again, or leave it out of --captions.",
        )
    if allowed:
        return
    place = account[0].path if len(account) == 1 else f"{len(account)} input files"
    rows, empty = (sum(getattr(file, name) for file in account) for name in ("rows", "empty"))
    if not empty:
        found = ", ".join(_most_frequent_reasons(job.out, finished)) if rows else "no rows"
        raise InputError(place, found=found, wanted="at least one row with a caption", remedy=REMEDY)
    raise InputError(
        place,
        found=f"no label in {rows:,} rows; {_evidence(account, job.reading)}",
        wanted="captions in English, at least one of which names a thing",
        remedy=f"{REMEDY} To keep rows without a label all the same, give --allow-unlabelled.",
    )


def few_labelled(account: Sequence[InputFile], reading: Reading) -> str | None:
    """Say that next to nothing was labelled, if that is so."""
    labelled, empty = (sum(getattr(file, name) for file in account) for name in ("labelled", "empty"))
    if labelled + empty < OF_ROWS or labelled > FEW * (labelled + empty):
        return None
    return f"only {labelled:,} of {labelled + empty:,} rows got a label; {_evidence(account, reading)}. {REMEDY}"


def _evidence(account: Sequence[InputFile], reading: Reading) -> str:
    """The first captions as they were read, and whether they are something else."""
    captions = list(islice(_first_captions(account, reading), CAPTIONS_READ))
    if not captions:
        return "its captions hold no letter"
    addresses = sum(ADDRESS.match(caption) is not None for caption in captions)
    what = "web addresses or names of files, not captions" if addresses * 2 > len(captions) else "the captions are"
    shown = (harmless(caption[:LETTERS_SHOWN]) for caption in captions[:CAPTIONS_SHOWN])
    return f"{what}, such as " + ", ".join(f"'{caption}'" for caption in shown)


def _first_captions(account: Sequence[InputFile], reading: Reading) -> Iterator[str]:
    for file in [file for file in account if file.empty][:FILES_READ]:
        try:
            for batch in read_piece(Piece(file.path, ""), reading):
                for captions in batch.column("captions").to_pylist():
                    yield from (text for caption in captions if (text := caption.decode("utf-8", "replace")).strip())
        except (UnreadableFile, InputError):
            # The rows before it were enough to find no label in.
            continue


def _most_frequent_reasons(out: str, finished: Iterable[Done]) -> list[str]:
    rejects = [read_table(f"{out}/{JOB}/{run.file.path}")["reason"] for done in finished for run in done.rejects]
    counts = pc.value_counts(pa.chunked_array([c for column in rejects for c in column.chunks], pa.string()))
    named = sorted((-row["counts"], row["values"]) for row in counts.to_pylist())
    return [f"{-count:,} rows {reason}" for count, reason in named[:3]]
