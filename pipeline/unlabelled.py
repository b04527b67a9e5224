"""Jobs that label nothing, or next to nothing: most likely the options or the input are wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.finishing import read_table
from pipeline.reading.captions import Piece, UnreadableFile, read_piece
from pipeline.reading.rows import ReadOptions, broken_file
from pipeline.reading.tars import HOW_TO_REPEAT_NONE
from pipeline.reject_reasons import NULL_KEY, NULL_SHARD, REPEATED_KEY, UNKNOWN_SYNSET
from pipeline.task import JOB, Done, JobSettings
from vocab.empty_reasons import EmptyReason, counts_by_reason
from vocab.errors import InputError
from vocab.pages.text import shown
from vocab.store.manifest import InputFile, empty_reasons_of

FEW_LABELLED, ROWS_FOR_A_NOTE = 0.02, 100
"""share of labelled rows that counts as next to none, and least number of rows for a note about it"""
FILES_READ, CAPTIONS_READ, CAPTIONS_SHOWN, LETTERS_SHOWN = 3, 50, 3, 80
ADDRESS = re.compile(r"\s*(www\.|[a-z][a-z0-9+.-]*://)|\S*\.(jpe?g|png|webp|gif|bmp|tiff?)\s*$", re.IGNORECASE)
REMEDY = "Check --format, --caption-columns and --columns."

REMEDIES = {
    REPEATED_KEY: f"Pack the tars again ({HOW_TO_REPEAT_NONE}).",
    NULL_KEY: "Name the column that holds the samples' keys in --key-column: the one given is empty.",
    NULL_SHARD: "Name the column that holds the shards' names in --shard-column: the one given is empty.",
    UNKNOWN_SYNSET: "Name nouns of WordNet 3.0, as n02084071 or dog.n.01, in --synset-columns.",
}
"""remedies by the most frequent reason of the rejected rows"""
EMPTY_REMEDIES = {
    EmptyReason.OTHER_LANGUAGE: f"Captions in English alone are labelled: label a translation. {REMEDY}",
    EmptyReason.LEXICON: "Check --lexicon: it has no label for words of these captions.",
}
"""remedies by the most frequent reason of the empty rows"""


class UnlabelledError(InputError):
    """Raised for a finished job whose labels are not worth keeping."""


def require_labels(
    job: JobSettings, account: Sequence[InputFile], finished: Iterable[Done], *, allowed: bool
) -> str | None:
    """Return a note if next to no row got a label.

    Raises UnlabelledError if no file could be read; and, unless `allowed`, if no row got a label, or next to none did
    and the captions are web addresses.
    """
    rows, labelled, empty, rejected = (
        sum(getattr(file, name) for file in account) for name in ("rows", "labelled", "empty", "rejected")
    )
    if labelled > FEW_LABELLED * (labelled + empty):
        return None
    broken = [file for file in account if file.unreadable]
    if not labelled and len(broken) == len(account):
        raise broken_file(broken[0].path, broken[0].unreadable, kind=UnlabelledError)
    where = account[0].path if len(account) == 1 else f"{len(account)} input files"
    insist = " To keep rows without a label all the same, give --allow-unlabelled."
    reasons = _most_frequent_reasons(job.out, finished) if 2 * rejected > rows else []
    refused = ", ".join(f"{count:,} rows {reason}" for reason, count in reasons)
    remedy_of_most = REMEDIES.get(reasons[0][0], REMEDY) if reasons else REMEDY
    if labelled + empty == 0 and not allowed:
        found, wanted = refused or "no rows", "at least one row with a caption"
        raise UnlabelledError(where, found=found, wanted=wanted, remedy=remedy_of_most + insist)
    captions = list(islice(_first_captions(account, job.reading), CAPTIONS_READ))
    addresses = sum(ADDRESS.match(caption) is not None for caption in captions) * 2 > len(captions)
    what = "web addresses or names of files, not captions" if addresses else "the captions are"
    found = f"{labelled:,} of {labelled + empty:,} rows with a label; {what}: {_shown(captions)}"
    if why := empty_reasons_of(account):
        found += f"; left empty: {counts_by_reason(why)}"
    most_often = max(why, key=lambda reason: why[reason], default=EmptyReason.NO_NOUN)
    remedy = REMEDY if addresses else EMPTY_REMEDIES.get(most_often, REMEDY)
    wanted = "English captions with nouns"
    if reasons:
        found = f"{rejected:,} of {rows:,} rows rejected ({refused}); of the others {found}"
        remedy, wanted = remedy_of_most, "rows that can be read, with English captions that have nouns"
    if (labelled == 0 or addresses) and not allowed:
        raise UnlabelledError(where, found=found, wanted=wanted, remedy=remedy + insist)
    return f"{found}. {remedy}" if labelled == 0 or labelled + empty >= ROWS_FOR_A_NOTE else None


def _shown(captions: Sequence[str]) -> str:
    some = [*dict.fromkeys(captions)][:CAPTIONS_SHOWN]
    return ", ".join(f"'{shown(caption, longest=LETTERS_SHOWN)}'" for caption in some) or "without a letter"


def _first_captions(account: Sequence[InputFile], reading: ReadOptions) -> Iterator[str]:
    for file in [file for file in account if file.empty][:FILES_READ]:
        try:
            for batch in read_piece(Piece(file.path, ""), reading):
                for captions in batch.column("captions").to_pylist():
                    yield from (text for caption in captions if (text := caption.decode("utf-8", "replace")).strip())
        except (UnreadableFile, InputError):
            # Captions before the error are enough to show.
            continue


def _most_frequent_reasons(out: str, finished: Iterable[Done]) -> list[tuple[str, int]]:
    rejects = [read_table(f"{out}/{JOB}", each.file)["reason"] for done in finished for each in done.rejects]
    counts = pc.value_counts(pa.chunked_array([c for column in rejects for c in column.chunks], pa.string()))
    named = sorted((-row["counts"], row["values"]) for row in counts.to_pylist())
    return [(reason, -count) for count, reason in named[:3]]
