"""Names of the columns of TSV and CSV files, out of the options and of the files' first lines.

In: options and the files of a job. Out: a `Reading` that says what its text files' columns are called, and checked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pipeline.config import Label
from pipeline.csv_files import Dialect, Fault, fields_of
from pipeline.gzip_files import verified_text
from pipeline.inputs import Inputs
from pipeline.lines import first_line, no_text
from pipeline.rows import Reading, require_columns
from vocab.errors import InputError
from vocab.storage import filesystem_of

HEADER_BYTES = 1 << 20


def table_reading(reading: Reading, options: Label, inputs: Inputs) -> Reading:
    """Complete a reading of TSV or CSV files.

    Raises InputError for a column that is not there, or twice, and for files of different headers.
    """
    reading = replace(
        reading, separator=separator_of(options, inputs), quoting=options.quoting, header=not options.columns
    )
    where = inputs.files[0].path
    columns = options.columns or _columns_of(_common_header(inputs), reading, where=where)
    _refuse_repeated(columns, where=where)
    _refuse_other_separator(columns, reading, where=where)
    require_columns(columns, reading.needed, where=where)
    return replace(reading, columns=columns)


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


def _refuse_other_separator(columns: tuple[str, ...], reading: Reading, *, where: str) -> None:
    """Raise InputError for a header in which another sign parts the columns that are needed."""
    others = [sign for sign in "\t,;|" if set(reading.needed) <= {name.strip('" ') for name in columns[0].split(sign)}]
    if len(columns) == 1 and others and columns[0] not in reading.needed:
        raise InputError(
            where,
            found=f"a header whose names stand between {others[0]!r}: {columns[0][:200]!r}",
            wanted=f"{reading.separator.decode()!r} between them, as a {reading.format} file has it",
            remedy=f"Give --separator {others[0]!r}.".replace("\\\\", "\\"),
        )


def _refuse_repeated(columns: tuple[str, ...], *, where: str) -> None:
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise InputError(
            where, found=f"two columns {repeated[0]!r}", wanted="different names", remedy="Name them with --columns."
        )


def _common_header(inputs: Inputs) -> bytes:
    """Read the header, which must be the same in every file.

    Files that cannot be read are left to their tasks, unless none can.
    """
    held = [file for file in inputs.files if file.size] or inputs.files
    headers = [(file.path, header) for file in held if (header := _first_line(file.path)) is not None]
    if len({header for _, header in headers}) > 1:
        # What a damaged file begins with says nothing; whether one is damaged takes reading it all.
        headers = [(path, header) for path, header in headers if _damage(path) is None]
    if not headers:
        raise InputError(
            held[0].path,
            found=f"a file that cannot be read ({_damage(held[0].path) or 'the disk or the network failed'})",
            wanted="a whole file of the format that its name tells",
            remedy="Download it again, or leave it out of --captions.",
        )
    place, first = headers[0]
    for path, header in headers:
        if header != first:
            raise InputError(
                path,
                found=f"header {_shown(header)}",
                wanted=f"{_shown(first)}, as in {place}",
                remedy="Label files of another header in a job of their own, or name the columns with --columns.",
            )
    return first


def _shown(header: bytes) -> str:
    return repr(header.decode("utf-8", "replace")[:200])


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
