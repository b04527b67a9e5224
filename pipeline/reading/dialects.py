r"""Separators, quotes and column names of TSV and CSV files, from the options and the first bytes of the files.

caption,id                  CSV is read as RFC 4180 quotes, unless backslashes before quotes explain more lines
"a \"big\" dog",7
caption\tid  caption|id      quotes in TSV and in text between bars are ordinary, unless quoting explains more lines
"a cat\non a table"\t7
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from pipeline.config import Label, Quoting
from pipeline.reading.csv_files import QUOTE, Block, Dialect, Fault, fields_of, is_of_lines, quoted_lines, records
from pipeline.reading.gzip_files import verified_text
from pipeline.reading.inputs import InputFiles
from pipeline.reading.lines import BLOCK, first_line, has_returns_alone, no_text, split_lines
from pipeline.reading.lookahead import Faults, require_names, sampled
from pipeline.reading.rows import ReadOptions, broken_file, column_fault, own_reading
from vocab.errors import InputError
from vocab.store.files import open_file, open_stream
from vocab.store.manifest import InputFile


def dialect_of(head: bytes, reading: ReadOptions) -> Dialect:
    """Tell the dialect of a file from the options and its head: its first BLOCK of bytes, or all."""
    dialect = Dialect(reading.separator, reading.quoting or "rfc4180", len(reading.columns))
    if reading.quoting is not None:
        return replace(dialect, trusted=True)
    # Like TSV, text between bars is mostly written without quoting.
    is_csv = reading.format == "csv" and reading.separator != b"|"
    if QUOTE not in head:
        return replace(dialect, lenient=not is_csv)
    if has_returns_alone(head):
        head = head.replace(b"\r", b"\n")
    # A line that the end of the head cuts off is not a fault.
    block = split_lines(head if len(head) < BLOCK else head[: head.rfind(b"\n") + 1])
    found = _survey(block, dialect)
    if b'\\"' in head and (found.faults or found.swallowed):
        escaped = replace(dialect, quoting="backslash")
        if (others := _survey(block, escaped)).faults < found.faults or found.swallowed:
            dialect, found = escaped, others
    if is_csv:
        return replace(dialect, trusted=found.needed)
    plain_faults = int(np.sum(_wrong_counts(block, dialect)))
    if found.faults < plain_faults or (found.needed and found.faults == plain_faults):
        return replace(dialect, trusted=True)
    names_are_quoted = first_line(head).startswith(QUOTE) and starts_with_header(head, reading)
    if names_are_quoted or found.quoted * 2 > len(block.lines) or found.escaped > found.stray:
        return replace(dialect, trusted=True)
    return replace(dialect, lenient=True, quoting="none" if found.ordinary else "rfc4180")


def spans_lines(head: bytes, reading: ReadOptions) -> bool:
    """Tell whether a row of the file may have several lines."""
    dialect = dialect_of(head, reading)
    return dialect.quoting != "none" and not dialect.lenient


def starts_with_header(head: bytes, reading: ReadOptions) -> bool:
    """Tell whether the first line names the columns, even if the options name them too."""
    if reading.header:
        return True
    fields = _fields_in(first_line(head), reading, "rfc4180")
    return fields is not None and plain_names(fields) == plain_names(name.encode() for name in reading.columns)


def _fields_in(line: bytes, reading: ReadOptions, quoting: Quoting) -> list[bytes] | None:
    """Fields of a first line; None if it is not a record."""
    fields = fields_of(line, Dialect(reading.separator, quoting, len(reading.columns)))
    return None if isinstance(fields, Fault) else fields


def plain_names(names: Iterable[bytes]) -> list[str]:
    """Names of columns in lower case, without spaces and punctuation: "imageurl" for "Image_URL"."""
    texts = [name.decode("utf-8", "replace") for name in names]
    return [re.sub(r"[\W_]+", "", text).casefold() or text for text in texts]


class _Survey(NamedTuple):
    """Measures of how well a dialect fits some lines."""

    faults: int
    """records with stray quotes, or with a number of fields other than that of the columns"""
    stray: int
    """faults whose quotes fit no grammar, as when quotes are ordinary characters"""
    ordinary: int
    """stray faults outside quoted fields: these lines and their neighbours have the right number of separators"""
    quoted: int
    """records with a quoted field that fit"""
    escaped: int
    """quoted records of one line that hold an escaped quote: hardly any writer but one that quotes makes them"""
    swallowed: bool
    """a record goes on over a line's end only because the quote before it does not count as escaped"""
    needed: bool
    """a field shows that its writer quotes: its content needs the quotes around it"""


def _survey(block: Block, dialect: Dialect) -> _Survey:
    stray, ordinary, opened, quoted, escaped, miscounted, swallowed, needed = 0, 0, 0, 0, 0, 0, False, False
    wrong = _wrong_counts(block, dialect)
    torn = wrong.copy()
    torn[1:] |= wrong[:-1]
    torn[:-1] |= wrong[1:]
    for record in records(block, quoted_lines(block, dialect), dialect):
        wrong[record.first : record.last + 1] = False
        if isinstance(record.fields, Fault):
            stray += record.fields is not Fault.OPEN
            ordinary += record.fields is not Fault.OPEN and not torn[record.first]
            # An open field is not a fault if the head may have cut it off.
            opened += record.fields is Fault.OPEN and len(block.data) < BLOCK // 2
            continue
        if len(record.fields) != dialect.columns:
            miscounted += 1
            continue
        quoted += 1
        if record.first == record.last:
            escaped += any(QUOTE in text for text in record.fields)
        else:
            swallowed |= _ends_behind_backslash(block.text(record.first, record.first), dialect)
        if record.first == record.last or not is_of_lines(record, block, dialect):
            needed |= any(QUOTE in text or dialect.separator in text or b"\n" in text for text in record.fields)
    faults = stray + opened + miscounted + int(np.sum(wrong))
    return _Survey(faults, stray, ordinary, quoted, escaped, swallowed, needed)


def _ends_behind_backslash(line: bytes, dialect: Dialect) -> bool:
    """Tell a line that is a whole record where backslashes escape quotes."""
    fields = fields_of(line, replace(dialect, quoting="backslash")) if b'\\"' in line else Fault.OPEN
    return isinstance(fields, list) and len(fields) == dialect.columns


def _wrong_counts(block: Block, dialect: Dialect) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mask [lines]: lines, but no blank ones, whose number of fields between separators is not that of the columns."""
    counts = np.diff(np.asarray(pc.split_pattern(block.lines, dialect.separator).offsets))
    wrong: np.ndarray[tuple[int], np.dtype[np.bool_]] = (counts != dialect.columns) & (block.ends > block.begins)
    return wrong


HEADER_BYTES = 1 << 20
USUAL_NAMES = frozenset(
    "alt alttext caption captions comment commentnumber description file filename filepath hash height href id image "
    "imageid imagename imagepath images imageurl img imgid imgurl key label labels lang language license link md5 name "
    "originalheight originalwidth path pwatermark punsafe score sha256 shard similarity source split status text texts "
    "title uid url urls width".split()
)
"""usual names of columns in files of captions, as `plain_names` spells them"""


def table_reading(reading: ReadOptions, options: Label, inputs: InputFiles) -> ReadOptions:
    """Complete the options of TSV or CSV files; `columns` are those of the first file that has all that are needed.

    Raises InputError if none of the files looked at has a column, if one has it twice, or if none can be read.
    """
    reading = replace(
        reading, separator=separator_of(options, inputs), quoting=options.quoting, header=not options.columns
    )
    if options.columns:
        for fault in _faults(options.columns, reading, where=inputs.files[0].path).values():
            raise fault
        return with_columns(reading, options.columns)
    seen: list[tuple[str, ...]] = []

    def look(file: InputFile) -> Faults | None:
        header = _first_line(file.path)
        if header is None:
            return None
        try:
            columns = _columns_of(header, reading, where=file.path)
            faults: Faults = _faults(columns, reading, where=file.path)
        except InputError as error:
            columns, faults = (), dict.fromkeys(reading.needed, error)
        # The beginning of a damaged file means nothing. To find damage takes reading all of it.
        if faults and _damage(file.path) is not None:
            return None
        seen.append(columns)
        return faults

    if not require_names(inputs.files, look):
        first = sampled(inputs.files)[0].path
        raise broken_file(first, _damage(first) or "the disk or the network failed")
    return replace(reading, columns=seen[-1])


def reading_of_table(reading: ReadOptions, head: bytes, *, where: str) -> ReadOptions:
    """Options for one file, whose header, the first line of `head`, may have other columns or another order.

    Raises InputError for a header with names other than those in the options.
    """
    if not reading.header:
        _refuse_other_header(first_line(head), reading, where=where)
        return reading
    try:
        columns = _columns_of(first_line(head), reading, where="")
    except InputError:
        # The file's rows are rejected, like those of any file without the columns.
        columns = ("",)
    return with_columns(reading, columns)


def with_columns(reading: ReadOptions, columns: tuple[str, ...]) -> ReadOptions:
    """Options for files with these columns, with the names as the files spell them."""
    return replace(own_reading(reading, lambda name: _spelled(name, columns)), columns=columns)


def _spelled(name: str, columns: Sequence[str]) -> str | None:
    """The one column of this name, maybe between spaces, as in `image| comment`; None if there is none, or two."""
    found = [column for column in columns if column == name] or [c for c in columns if c.strip() == name]
    return found[0] if len(found) == 1 else None


def _faults(columns: Sequence[str], reading: ReadOptions, *, where: str) -> dict[str, InputError]:
    """Errors by column that the file lacks. Raises InputError for columns that cannot be told apart."""
    if repeated := [name for name, count in Counter(columns).items() if count > 1]:
        raise InputError(
            where, found=f"two columns {repeated[0]!r}", wanted="different names", remedy="Name them with --columns."
        )
    _refuse_other_separator(columns, reading, where=where)
    missing = [name for name in reading.needed if _spelled(name, columns) is None]
    faults = ((name, column_fault(columns, name, where=where)) for name in missing)
    return {name: fault for name, fault in faults if fault is not None}


def separator_of(options: Label, inputs: InputFiles) -> bytes:
    """The byte between two fields. In --separator, a tab may be written as \\t."""
    named = {"tsv": "\t", "csv": ","}[inputs.format] if options.separator is None else options.separator
    return named.replace("\\t", "\t").encode()


def _columns_of(header: bytes, reading: ReadOptions, *, where: str) -> tuple[str, ...]:
    """Names in the header line. In TSV they are quoted if the writer quotes every field."""
    if not header:
        raise InputError(
            where,
            found="an empty first line",
            wanted="column names in the first line",
            remedy="Remove that line, or leave out a file without rows; or name the columns with --columns.",
        )
    fields: list[bytes] | Fault = header.split(reading.separator)
    if reading.quoting != "none" and (reading.format == "csv" or header.startswith(b'"')):
        fields = fields_of(header, Dialect(reading.separator, reading.quoting or "rfc4180", 0))
    if isinstance(fields, Fault):
        raise InputError(
            where,
            found=f"a header with {fields.value}: {header[:200]!r}",
            wanted="column names in one line that ends as the other lines do",
            remedy="Correct the first line, or name the columns with --columns.",
        )
    return tuple(name.decode("utf-8", "replace") for name in fields)


def _refuse_other_header(line: bytes, reading: ReadOptions, *, where: str) -> None:
    """Raise InputError for a first line that plainly names columns, but not those of --columns in their order.

    A single name, such as "title", may be a caption.
    """
    fields = _fields_in(line, reading, reading.quoting or "rfc4180")
    if fields is None or len(fields) == 1:
        return
    found, given = plain_names(fields), plain_names(name.encode() for name in reading.columns)
    is_header = set(found) <= USUAL_NAMES.union(given) or (len(given) > 1 and set(given) <= set(found))
    if found == given or not is_header or len(set(found)) < len(found):
        return
    raise InputError(
        where,
        found=f"a first line that names the columns {b', '.join(fields).decode('utf-8', 'replace')[:200]}",
        wanted=f"the columns of --columns in their order: {', '.join(reading.columns)}",
        remedy="Leave out --columns: then the first line of each file names its columns. Or give --columns as that "
        "line has them.",
    )


def _refuse_other_separator(columns: Sequence[str], reading: ReadOptions, *, where: str) -> None:
    """Raise InputError for a header in which another separator stands between the columns that are needed."""
    others = [sign for sign in "\t,;|" if set(reading.needed) <= {name.strip('" ') for name in columns[0].split(sign)}]
    if len(columns) == 1 and others and columns[0] not in reading.needed:
        raise InputError(
            where,
            found=f"a header whose names stand between {others[0]!r}: {columns[0][:200]!r}",
            wanted=f"{reading.separator.decode()!r} between them, as a {reading.format} file has it",
            remedy=f"Give --separator {others[0]!r}.".replace("\\\\", "\\"),
        )


def _damage(path: str) -> OSError | None:
    """Read a gzip file to find its damage; None for an intact file, or one that is not gzip."""
    if not path.endswith(".gz"):
        return None
    with open_file(path) as file:
        return verified_text(file)[1]


def _first_line(path: str) -> bytes | None:
    """Read the first line; None if the file cannot be read, which its task will report."""
    head = b""
    try:
        with open_stream(path) as stream:
            while b"\n" not in head and len(head) <= HEADER_BYTES and (block := stream.read(1 << 16)):
                head += block
    except PermissionError as error:
        raise InputError(
            path, found="no permission to read it", wanted="a file that this user may read", remedy="Check its mode."
        ) from error
    except OSError:
        return None
    if (other := no_text(head)) is not None:
        found, remedy = other
        raise InputError(path, found=found, wanted="text in UTF-8", remedy=remedy)
    return first_line(head)
