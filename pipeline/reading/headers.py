"""Names of the columns of TSV and CSV files, out of the options and of the files' first lines.

In: options and the files of a job, or the head of one file. Out: a `Reading` with the columns of its text files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from pipeline.config import Label
from pipeline.reading.csv_files import Dialect, Fault, fields_of
from pipeline.reading.dialects import plain_name
from pipeline.reading.gzip_files import verified_text
from pipeline.reading.inputs import Inputs
from pipeline.reading.lines import first_line, no_text
from pipeline.reading.lookahead import Faults, require_names, sampled
from pipeline.reading.rows import Reading, column_fault, own_reading
from vocab.errors import InputError
from vocab.store.files import filesystem_of
from vocab.store.manifest import InputFile

HEADER_BYTES = 1 << 20
USUAL_NAMES = frozenset(
    "alt alttext caption captions comment commentnumber description file filename filepath hash height href id image "
    "imageid imagename imagepath images imageurl img imgid imgurl key label labels lang language license link md5 name "
    "originalheight originalwidth path pwatermark punsafe score sha256 shard similarity source split status text texts "
    "title uid url urls width".split()
)
"""names of columns in files of captions, in small letters, without spaces and signs"""


def table_reading(reading: Reading, options: Label, inputs: Inputs) -> Reading:
    """Complete a reading of TSV or CSV files; `columns` are those of the first file that has all that are needed.

    Raises InputError for a column that no file has that is looked at, or that is there twice, and where none can be
    read.
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
        # What a damaged file begins with says nothing; whether one is damaged takes reading it all.
        if faults and _damage(file.path) is not None:
            return None
        seen.append(columns)
        return faults

    if not require_names(inputs.files, look):
        first = sampled(inputs.files)[0].path
        raise InputError(
            first,
            found=f"a file that cannot be read ({_damage(first) or 'the disk or the network failed'})",
            wanted="a whole file of the format that its name tells",
            remedy="Download it again, or leave it out of --captions.",
        )
    return replace(reading, columns=seen[-1])


def reading_of_table(reading: Reading, head: bytes, *, where: str) -> Reading:
    """The reading of one file, whose own header, the first line of `head`, may have other columns or another order.

    Raises InputError for a header of other names than those that the options give.
    """
    if not reading.header:
        _refuse_other_header(first_line(head), reading, where=where)
        return reading
    try:
        columns = _columns_of(first_line(head), reading, where="")
    except InputError:
        # Its rows are rejected like those of any file without the columns.
        columns = ("",)
    return with_columns(reading, columns)


def with_columns(reading: Reading, columns: tuple[str, ...]) -> Reading:
    """A reading of files with these columns, under the names that the files have."""
    return replace(own_reading(reading, lambda name: _spelled(name, columns)), columns=columns)


def _spelled(name: str, columns: Sequence[str]) -> str | None:
    """The one column of that name, which may have spaces around it, as in `image| comment`; None for none or two."""
    found = [column for column in columns if column == name] or [c for c in columns if c.strip() == name]
    return found[0] if len(found) == 1 else None


def _faults(columns: Sequence[str], reading: Reading, *, where: str) -> dict[str, InputError]:
    """By column that the job needs: why the file lacks it. Raises InputError for columns that cannot be told apart."""
    _refuse_repeated(columns, where=where)
    _refuse_other_separator(columns, reading, where=where)
    missing = [name for name in reading.needed if _spelled(name, columns) is None]
    faults = ((name, column_fault(columns, name, where=where)) for name in missing)
    return {name: fault for name, fault in faults if fault is not None}


def separator_of(options: Label, inputs: Inputs) -> bytes:
    """The byte between two fields; \\t may be spelled out."""
    named = {"tsv": "\t", "csv": ","}[inputs.format] if options.separator is None else options.separator
    return named.replace("\\t", "\t").encode()


def _columns_of(header: bytes, reading: Reading, *, where: str) -> tuple[str, ...]:
    """Names in the header line. TSV has them in quotes where its writer quotes every field."""
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


def _refuse_other_header(line: bytes, reading: Reading, *, where: str) -> None:
    """Raise InputError for a first line that plainly names columns, and not those that --columns gives, in its order.

    One name by itself may be a caption, as "title" is.
    """
    fields = fields_of(line, Dialect(reading.separator, reading.quoting or "rfc4180", len(reading.columns)))
    if isinstance(fields, Fault) or len(fields) == 1:
        return
    found, given = [plain_name(name) for name in fields], [plain_name(name.encode()) for name in reading.columns]
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


def _refuse_other_separator(columns: Sequence[str], reading: Reading, *, where: str) -> None:
    """Raise InputError for a header in which another sign parts the columns that are needed."""
    others = [sign for sign in "\t,;|" if set(reading.needed) <= {name.strip('" ') for name in columns[0].split(sign)}]
    if len(columns) == 1 and others and columns[0] not in reading.needed:
        raise InputError(
            where,
            found=f"a header whose names stand between {others[0]!r}: {columns[0][:200]!r}",
            wanted=f"{reading.separator.decode()!r} between them, as a {reading.format} file has it",
            remedy=f"Give --separator {others[0]!r}.".replace("\\\\", "\\"),
        )


def _refuse_repeated(columns: Sequence[str], *, where: str) -> None:
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise InputError(
            where, found=f"two columns {repeated[0]!r}", wanted="different names", remedy="Name them with --columns."
        )


def _damage(path: str) -> OSError | None:
    """Read a gzip file and give its damage; None for an intact file, or one that is not gzip."""
    if not path.endswith(".gz"):
        return None
    filesystem, inner = filesystem_of(path)
    with filesystem.open_input_file(inner) as file:
        return verified_text(file)[1]


def _first_line(path: str) -> bytes | None:
    """Read the first line; None where the file cannot be read, which is for the task that reads it to say."""
    filesystem, inner = filesystem_of(path)
    head = b""
    try:
        with filesystem.open_input_stream(inner) as stream:
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
