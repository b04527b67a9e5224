"""TSV, CSV and JSONL as they are found: no row gets the caption of another, none is swallowed or made up in silence."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.caption_sample import draw_captions
from pipeline.config import Label
from pipeline.planning import QUOTED, Range, lines_starting
from pipeline.reading.captions import Piece, Span, UnreadableFile, read_piece, reading_of
from pipeline.reading.csv_files import Dialect, enclosed_fields, fields_of
from pipeline.reading.inputs import list_inputs
from pipeline.reading.lines import split_lines
from vocab.errors import InputError

Read = dict[str, str]


def write(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def read(path: Path, *, span: Span | None = None, **options: Any) -> tuple[Read, list[str]]:
    """Captions by key, and the reasons of the rejected rows."""
    inputs = list_inputs((str(path),), options.pop("format", "auto"))
    reading = reading_of(Label((str(path),), "out", **options), inputs)
    rows, reasons = {}, []
    for batch in read_piece(Piece(str(path), "", span=span), reading):
        for row in batch.to_pylist():
            if row["reason"] is None:
                rows[row["key"]] = b" ".join(row["captions"]).decode()
            else:
                reasons.append(row["reason"])
    return rows, reasons


KEYED = {"key_column": "id"}
HEAD = b"caption,id\n"


@pytest.mark.parametrize(
    ("name", "content", "rows", "malformed"),
    [
        ("more fields", b"caption,id\na horse, brown,k0\na cat,k1\n", {"k1": "a cat"}, 1),
        ("fewer fields", b"id,caption\nk0\nk1,a cat\n", {"k1": "a cat"}, 1),
        ("blank lines", b"id,caption\n\nk0,a dog\n\n", {"k0": "a dog"}, 0),
        ("doubled quotes", HEAD + b'"a ""big"", red dog",k0\n', {"k0": 'a "big", red dog'}, 0),
        (
            "backslashes",
            HEAD + b'"a \\"big, red\\" dog",k0\n"so \\"x\\"",k1\n',
            {"k0": 'a "big, red" dog', "k1": 'so "x"'},
            0,
        ),
        (
            "quotes inside",
            HEAD + b'a 12" cat,k0\na "tree" house,k1\n"a dog" on a couch,k2\na ship,k3\n',
            {"k3": "a ship"},
            3,
        ),
        (
            "lines in quotes",
            HEAD + b'"a dog,\r\non a couch",k0\r\n"a, b",k1\r\n',
            {"k0": "a dog,\r\non a couch", "k1": "a, b"},
            0,
        ),
        ("returns alone", b'caption,id\ra dog,k0\r"a cat, big",k1\r', {"k0": "a dog", "k1": "a cat, big"}, 0),
        ("one return alone", HEAD + b"a dog\ra bird,k0\na cat,k1\n", {"k1": "a cat"}, 1),
        (
            "ends of two kinds",
            HEAD + b"a dog,k0\r\na cat,k1\na cow,k2",
            {"k0": "a dog", "k1": "a cat", "k2": "a cow"},
            0,
        ),
        ("no line ends", HEAD + "a\u2028b\x0c\x85c\0,k0\n".encode(), {"k0": "a\u2028b\x0c\x85c\0"}, 0),
        (
            "a header again",
            HEAD + b'a dog,k0\n\xef\xbb\xbfcaption,id\na cat,k1\n"caption","id"\n',
            {"k0": "a dog", "k1": "a cat"},
            2,
        ),
        ("marks", b"\xef\xbb\xbfid,caption\nk0,a dog\n\xef\xbb\xbfk1,a cat\n", {"k0": "a dog", "k1": "a cat"}, 0),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "csv with |"])
def test_a_record_keeps_its_fields_or_is_malformed(
    tmp_path: Path, name: str, content: bytes, rows: Read, malformed: int, kind: str
) -> None:
    if kind in ("tsv", "csv with |"):
        if name == "quotes inside":  # Between tabs and bars they are ordinary characters.
            rows = rows | {"k0": 'a 12" cat', "k1": 'a "tree" house', "k2": '"a dog" on a couch'}
            malformed = 0
        if name == "one return alone":  # It belongs to the caption.
            rows, malformed = rows | {"k0": "a dog\ra bird"}, 0
    if kind == "tsv":
        content, rows = content.replace(b",", b"\t"), {key: text.replace(",", "\t") for key, text in rows.items()}
        if name == "blank lines":  # They are rows, for lines are counted.
            malformed += 2
    options: dict[str, Any] = dict(KEYED)
    if kind == "csv with |":
        content, rows = content.replace(b",", b"|"), {key: text.replace(",", "|") for key, text in rows.items()}
        options["separator"] = "|"
    path = write(tmp_path, f"a.{kind.split()[0]}", gzip.compress(content) if kind == "csv.gz" else content)
    assert read(path, **options) == (rows, ["malformed_record"] * malformed)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.csv", b'"a dog" on a couch,k0\n"a horse and a man,k1\na bridge,k2\na "tree" house,k3\n', 3),
        ("a.csv", b'a bridge,k0\n"a horse and a man,k1\na ship,k2\n', 3),
        ("a.csv", b'"a horse,k0\na bridge,k1\na 12",k2\n', 2),
        ("a.csv", b'a, dog on\nb",k0\na cat,k1\n', 3),
        ("a.csv", b'"a, b",k0\n"x\ny",k1\nb 12" c,k2\n', 5),
        ("a.csv", b'"a, b",k0\nb 12" c,k2\n"x\ny",k1\n', 4),
        ("a.csv", b'"a \\"b\\"",k0\n"c\\\n,k1\n', 3),
        ("a.tsv", b'"a dog\tk0\na cat"\tk1\n', 2),
        ("a.tsv", b'"a ""b""\tc"\tk0\n"x\ny"z\tk1\n', 3),
    ],
)
def test_where_quotes_leave_the_rows_in_doubt_the_line_and_the_remedy_are_named(
    tmp_path: Path, name: str, content: bytes, line: int
) -> None:
    head = b"caption\tid\n" if name == "a.tsv" else HEAD
    path = write(tmp_path, name, head + content)
    with pytest.raises(InputError, match=rf"a\.[ct]sv, line {line}: found .*quote.*--quoting none"):
        read(path, **KEYED)
    # Told that quotes are ordinary characters, every line is a row.
    rows, reasons = read(path, quoting="none", **KEYED)
    assert len(rows) + len(reasons) == content.count(b"\n")


def test_a_field_that_a_far_quote_closes_is_read_where_the_writer_is_known_to_quote(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", HEAD + b'"a dog\na cat, too",k1\n')
    assert read(path, **KEYED)[0] == {"k1": "a dog\na cat, too"}
    path = write(tmp_path, "b.csv", b'id,caption\nk1,"a dog\na cat, too"\n')
    with pytest.raises(InputError, match=r"one row or several.*--quoting rfc4180"):
        read(path, **KEYED)
    assert read(path, quoting="rfc4180", **KEYED)[0] == {"k1": "a dog\na cat, too"}


@pytest.mark.parametrize(
    "lines",
    [
        ['"dog" toy\tk0', 'a 24"\tk1', '"a cat\tk2', '"a" "b"\tk3', "it's\tk4", '"" \tk5'],
        ['"a cat\tk0', 'the dog\tk1', '24" tv\tk2', '"a" b\tk3'],
        ['"a cat\tk0', "a dog\tk1"],
    ],
)  # fmt: skip
def test_quotes_in_plain_tsv_are_ordinary_characters(tmp_path: Path, lines: list[str]) -> None:
    path = write(tmp_path, "a.tsv", "".join(f"{line}\n" for line in lines).encode())
    rows, reasons = read(path, columns=("caption", "id"), **KEYED)
    assert (rows, reasons) == ({key: text for text, key in (line.split("\t") for line in lines)}, [])


TORN = [
    ("caption\tid\n", 'a cat\non a table"\tk1\n'),
    ("caption\tid\n", 'a cat\n\non a big\ntable"\tk1\n'),
    ("caption\tid\n", '"a cat\non a table\tk1\n'),
    ("id\tcaption\n", 'k1\ta cat\non a table"\n'),
    ("id\tcaption\n", 'k1\t"a cat\non a table\n'),
]


@pytest.mark.parametrize(("head", "torn"), TORN)
def test_no_part_of_a_quoted_text_is_a_row_where_one_of_its_quotes_is_lost(
    tmp_path: Path, head: str, torn: str
) -> None:
    def row(key: str, text: str) -> str:
        return f"{key}\t{text}\n" if head.startswith("id") else f"{text}\t{key}\n"

    path = write(tmp_path, "a.tsv", (head + row("k0", "a dog") + torn + row("k2", "a cow")).encode())
    with pytest.raises(InputError, match=r"a\.tsv, line \d: found .*quote.*--quoting none"):
        read(path, **KEYED)
    # Where other lines show that quotes are ordinary characters, these lines alone are in doubt.
    path = write(tmp_path, "b.tsv", (head + row("k0", 'a 12" dog') + torn + row("k2", 'a 3" cow') + "\n").encode())
    rows, reasons = read(path, **KEYED)
    assert rows == {"k0": 'a 12" dog', "k2": 'a 3" cow'}
    assert reasons == ["malformed_record"] * (torn.count("\n") + 1)


@pytest.mark.parametrize(
    ("head", "torn"),
    [
        ("caption,id", "a cat\\\non a table,k1\n"),  # pandas: QUOTE_NONE, escapechar
        ("caption,id", "a\\, cat\\\n\\\non a table,k1\n"),
        ("caption,id", 'a 12\\" cat\\\r\non a table,k1\r\n'),
        ("id,caption", "k1,a cat\\\non a table\n"),
        ("caption,url,id", "a\\,cat\\\non a\\,table\\\n,\\N,k1\n"),  # MySQL: INTO OUTFILE
    ],
)
@pytest.mark.parametrize("kind", ["csv", "tsv"])
@pytest.mark.parametrize("blocks", [1, 2])
def test_no_part_of_a_text_is_a_row_where_its_line_end_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, torn: str, kind: str, blocks: int
) -> None:
    good = {"caption,id": "C:\\,k0\n", "id,caption": "k0,a\\\\\n", "caption,url,id": "a,b\\,k0\n"}[head]
    content = f"{head}\n{good}{torn}{good.replace('k0', 'k2')}"
    content = content.replace("\\,", "\0").replace(",", "\t").replace("\0", "\\\t") if kind == "tsv" else content
    good_rows = content.count("\n") - 1 - torn.count("\n")
    if blocks > 1:  # The first one ends behind the first backslash before a line end of the torn record.
        cut = content.encode().index(b"\\\n" if b"\\\n" in torn.encode() else b"\\\r\n", len(f"{head}\n{good}")) + 3
        monkeypatch.setattr("pipeline.reading.lines.BLOCK", cut)
        monkeypatch.setattr("pipeline.reading.captions.BLOCK", cut)
    path = write(tmp_path, f"a.{kind}", content.encode())
    with pytest.raises(InputError, match=rf"a\.{kind}, line 3: found a backslash at the end.*--quoting none"):
        read(path, **KEYED)
    rows, reasons = read(path, quoting="none", **KEYED)
    assert "k1" not in rows
    assert len(rows) + len(reasons) == content.count("\n") - 1
    assert len(rows) <= good_rows


@pytest.mark.parametrize("content", ["a cat,C:\\\na dog,k1\n", "a cat\\\na, b,k1\n", "a cat\\\\\na dog,k1\n"])
def test_a_backslash_at_the_end_of_a_line_that_no_record_goes_on_from_is_an_ordinary_character(
    tmp_path: Path, content: str
) -> None:
    rows, reasons = read(write(tmp_path, "a.csv", HEAD + content.encode()), **KEYED)
    assert len(rows) + len(reasons) == 2


@pytest.mark.parametrize(
    "lines",
    [
        ['"a ""big"" cat"\tk0', "a dog", 'on a table"\tk1', "a cow\tk2", "a ship\tk3"],
        ['"a \\"big\\" cat"\tk0', "a dog", 'on a table"\tk1', "a cow\tk2", "a ship\tk3"],
        ['"a cat, 12\\""\tk0', "a dog", 'on a table"\tk1', "a cow\tk2"],
    ],
)
def test_one_escaped_quote_shows_that_a_writer_quotes(tmp_path: Path, lines: list[str]) -> None:
    path = write(tmp_path, "a.tsv", "".join(f"{line}\n" for line in ["caption\tid", *lines]).encode())
    with pytest.raises(InputError, match=r"line 4: found a quote that closes a field and that nothing opened"):
        read(path, **KEYED)


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("named", [True, False])
def test_quoted_tsv_is_unquoted_and_rows_of_several_lines_are_one(tmp_path: Path, quoting: Any, *, named: bool) -> None:
    table = [("a cat\non a table", "k1"), ('a "big" horse', 'k"2'), ("a\tb", "k3"), ("plain", "k4")]
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", quoting=quoting, lineterminator="\n")
    writer.writerows([("caption", "id")] * named + table)
    path = write(tmp_path, "a.tsv", buffer.getvalue().encode())
    columns = () if named else ("caption", "id")
    assert read(path, columns=columns, **KEYED) == ({key: text for text, key in table}, [])
    assert read(path, columns=columns) == ({f"{row:09d}": text for row, (text, _) in enumerate(table)}, [])


@pytest.mark.parametrize(
    ("columns", "first"),
    [
        ("caption,url", "url,caption"),
        ("caption,url", '"URL","Caption"'),
        ("caption,url", "\ufeffid,caption,url"),  # more columns than were named
        ("caption,url", "TEXT,URL"),
        ("text,id", "caption,image_url\r"),
        ("caption", "url,caption"),
    ],
)
def test_a_header_of_other_names_than_those_given_is_no_row(tmp_path: Path, columns: str, first: str) -> None:
    path = write(tmp_path, "a.csv", f"{first}\na dog,k0\n".encode())
    names = tuple(columns.split(","))
    with pytest.raises(InputError, match=rf"a\.csv: found a first line that names .*order: {', '.join(names)}"):
        read(path, columns=names, caption_columns=names[:1])


@pytest.mark.parametrize("first", ["title,http://x.example/url", "a name,label", "caption,caption", "id,17"])
def test_a_caption_that_is_the_usual_name_of_a_column_is_a_row(tmp_path: Path, first: str) -> None:
    path = write(tmp_path, "a.csv", f"{first}\na dog,k0\n".encode())
    rows, reasons = read(path, columns=("caption", "url"))
    assert (len(rows), reasons) == (2, [])


@pytest.mark.parametrize("first", ["caption\tid", '"caption"\t"id"', " Caption \tI_D", "\ufeffcaption\tid\r"])
@pytest.mark.parametrize("kind", ["tsv", "csv"])
def test_a_header_that_is_named_as_well_is_no_row(tmp_path: Path, first: str, kind: str) -> None:
    text = f"{first}\na dog\tk0\na cat\tk1\n"
    path = write(tmp_path, f"a.{kind}", (text.replace("\t", ",") if kind == "csv" else text).encode())
    write(tmp_path, f"b.{kind}", b"a sofa\tk2\n".replace(b"\t", b"," if kind == "csv" else b"\t"))
    names = ("caption", "id")
    assert read(path, columns=names) == ({"000000000": "a dog", "000000001": "a cat"}, [])
    assert read(tmp_path / f"b.{kind}", columns=names) == ({"000000000": "a sofa"}, [])
    size = path.stat().st_size
    start = path.read_bytes().index(b"a cat")
    if kind == "tsv":
        assert read(path, columns=names, span=Span(start, size, 2)) == ({"000000001": "a cat"}, [])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"a dog,http://x\n", "found columns a dog, http://x; wanted a column 'caption'.*--columns"),
        ("a.csv", b"", "found an empty first line"),
        ("a.tsv", b"\ncaption\n", "found an empty first line"),
        ("a.csv", b"caption;id\na dog;7\n", "between ';'.*wanted ',' .*--separator ';'"),
        ("a.tsv", b"id|caption\n7|a dog\n", r"between '\|'.*--separator '\|'"),
        ("a.tsv", b"caption,id\na dog,7\n", "between ','.*--separator ','"),
        ("a.csv", b"caption\tid\na dog\t7\n", "--separator '.t'"),
        ("a.csv", 'caption,id\na dog,"\n'.encode("utf-16"), "found text in UTF-16; wanted text in UTF-8.*iconv"),
        ("a.tsv", "caption\tid\n".encode("utf-16-le"), "found text in UTF-16; wanted text in UTF-8.*iconv"),
        ("a.tsv", "caption\tid\n".encode("utf-32"), "found text in UTF-32; wanted text in UTF-8.*iconv -f UTF-32"),
        ("a.tsv", "caption\tid\n".encode("utf-32-be"), "found text in UTF-32"),
        ("a.tsv", "图像\tid\n".encode("utf-32-le"), "found text in UTF-32"),
        ("a.tsv", gzip.compress(b"caption\na dog\n", mtime=0), "found gzip bytes; wanted text"),
        ("a.tsv.gz", b"caption\na dog\n", r"cannot be read \(.*incorrect header"),
        ("a.csv", b"PK\x03\x04\x14", "found zip bytes; wanted text"),
        ("a.csv", b'"caption,id\na dog,7\n', "header with a quoted field"),
        # Compared with one another, they would take hours.
        pytest.param("a.csv", b"," * 1_000_000 + b"\n", "found two columns ''", id="a million columns"),
    ],
)
def test_a_header_of_another_kind_is_named_for_what_it_is(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(write(tmp_path, name, content))


def test_json_lines_in_utf16_are_unreadable_and_those_of_old_macs_are_read(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"text in UTF-16, where text in UTF-8 is wanted.*iconv"):
        read(write(tmp_path, "a.jsonl", '{"caption": "a dog"}\n'.encode("utf-16")))
    path = write(tmp_path, "b.jsonl", b'{"caption": "a dog"}\r\xef\xbb\xbf{"caption": "a cat"}\r')
    assert read(path) == ({"000000000": "a dog", "000000001": "a cat"}, [])


def test_a_sample_is_read_as_the_job_reads(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"caption;id\na dog, big;7\n")
    inputs = list_inputs((str(path),), "auto")
    reading = reading_of(Label((), "", inputs.format, separator=";"), inputs)
    drawn = draw_captions(inputs, reading, rows=5, seed=0)
    assert drawn.texts == ["a dog, big"]


def member(first: int, count: int, kind: str) -> bytes:
    """A whole gzip member with rows of which each caption tells the number."""
    line = {"tsv": "row {0}\tx\n", "csv": "row {0},x\n", "jsonl": '{{"caption": "row {0}"}}\n'}[kind]
    return gzip.compress("".join(line.format(n) for n in range(first, first + count)).encode(), mtime=0)


def read_damaged(path: Path, kind: str) -> tuple[Read, str]:
    columns = () if kind == "jsonl" else ("caption", "n")
    reading = reading_of(Label((str(path),), "out", columns=columns), list_inputs((str(path),), "auto"))
    rows: Read = {}
    try:
        for batch in read_piece(Piece(str(path), ""), reading):
            rows |= {row["key"]: row["captions"][0].decode() for row in batch.to_pylist()}
    except UnreadableFile as error:
        return rows, str(error)
    return rows, ""


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl"])
@pytest.mark.parametrize(
    ("damage", "rows", "said"),
    [
        (lambda a, b: a + b, 3000, ""),
        (lambda a, b: a + b + b"\0" * 700, 3000, ""),
        (lambda a, b: a + b + b"rubbish", 3000, "bytes behind them that are no gzip"),
        (lambda a, b: a + b[:-4], 1000, "breaks off"),
        (lambda a, b: a + b[:-9], 1000, "breaks off"),
        (lambda a, b: a[:-8] + b"\0" * 8 + b, 0, "incorrect data check in member 1"),
        (lambda a, b: a[:200] + bytes([a[200] ^ 4]) + a[201:] + b, 0, "damaged gzip file"),
        (lambda a, b: a + b[:200] + bytes([b[200] ^ 4]) + b[201:], 1000, "damaged gzip file"),
        (lambda a, b: b"", 0, "breaks off"),
    ],
)
def test_only_whole_gzip_members_whose_checksum_fits_are_used(
    tmp_path: Path, kind: str, damage: Any, rows: int, said: str
) -> None:
    path = write(tmp_path, f"a.{kind}.gz", damage(member(0, 1000, kind), member(1000, 2000, kind)))
    found, why = read_damaged(path, kind)
    assert found == {f"{n:09d}": f"row {n}" for n in range(rows)}
    assert said in why
    assert bool(said) == bool(why)


def test_a_row_that_a_damaged_member_would_finish_is_not_used(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv.gz", gzip.compress(b"row 0\tx\nrow 1\tx\nrow") + gzip.compress(b" 2\tx\n")[:-1])
    assert list(read_damaged(path, "tsv")[0].values()) == ["row 0", "row 1"]


def test_a_random_flip_in_a_gzip_file_changes_no_row(tmp_path: Path) -> None:
    chance = random.Random(0)
    whole = b"".join(member(start, 50, "tsv") for start in range(0, 200, 50))
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        found, why = read_damaged(write(tmp_path, "a.tsv.gz", bytes(damaged)), "tsv")
        assert all(text == f"row {int(key)}" for key, text in found.items())
        assert why or len(found) == 200


def test_a_header_of_a_damaged_file_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path, "b.tsv.gz", gzip.compress(b"caption\tid\na dog\t1\n"))
    broken = bytearray(gzip.compress(b"captain\tid\na dog\t1\n"))
    broken[-8] ^= 1
    write(tmp_path, "a.tsv.gz", bytes(broken))
    reading = reading_of(Label((str(tmp_path),), "out"), list_inputs((str(tmp_path),), "auto"))
    assert reading.columns == ("caption", "id")


def test_text_whose_rows_may_have_several_lines_is_not_cut(tmp_path: Path) -> None:
    plain, quoted = b"caption\tid\na dog\tk0\n", b'caption\tid\n"a\ndog"\tk0\n'
    for content, cut in ((plain, False), (quoted, True), (b'caption\tid\n"a" dog\tk0\n', False)):
        path = write(tmp_path, "a.tsv", content)
        reading = reading_of(Label((str(path),), "out"), list_inputs((str(path),), "auto"))
        assert (lines_starting(Range(str(path), 0, 5), reading)[1] == QUOTED) == cut


@given(st.text('a,"\n', max_size=60), st.integers(1, 3))
def test_lines_split_all_at_once_have_the_fields_that_each_has_by_itself(text: str, columns: int) -> None:
    block, dialect = split_lines(text.encode()), Dialect(b",", "rfc4180", columns)
    enclosed = enclosed_fields(block, dialect)
    found = {
        line: [block.data[a:b] for a, b in zip(begins, ends, strict=True)]
        for line, begins, ends in zip(*(part.tolist() for part in enclosed), strict=True)
    }
    naive = {line: fields_of(block.text(line, line), dialect) for line in range(len(block.lines))}
    assert found == {
        line: fields
        for line, fields in naive.items()
        if isinstance(fields, list) and len(fields) == columns and '"' in block.text(line, line).decode()
        if not any(b'"' in field for field in fields)
    }


def mutilated(text: str, separator: str, how: str, chance: random.Random) -> str:
    """The text with one quote less, a separator more, or other line ends."""
    quotes = [place for place, sign in enumerate(text) if sign == '"']
    place = chance.randrange(len(text))
    if how == "quote" and quotes:
        place = chance.choice(quotes)
        return text[:place] + text[place + 1 :]
    if how == "separator":
        return text[:place] + separator + text[place:]
    return text.replace("\r\n", "\n") if how == "ends" else text


def bare(text: str) -> str:
    """A text without the signs that are mutilated."""
    return "".join(sign for sign in text if sign not in '\r\n",\t')


@settings(max_examples=300)
@given(
    seed=st.integers(0, 1 << 32),
    how=st.sampled_from(["whole", "quote", "separator", "ends"]),
    kind=st.sampled_from(["csv", "csv", "tsv"]),
    keyed=st.booleans(),
)
def test_what_survives_a_mutilation_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, seed: int, how: str, kind: str, *, keyed: bool
) -> None:
    chance = random.Random(seed)
    signs = chance.choice(['abc ,"\n', 'a dog"', "word ,", 'ab\n"' if kind == "tsv" else 'ab,\t"\n\r'])
    table = [(f"k{n}", "".join(chance.choices(signs, k=chance.randrange(12)))) for n in range(chance.randrange(4, 40))]
    buffer = io.StringIO(newline="")
    writer = csv.writer(
        buffer,
        delimiter="\t" if kind == "tsv" else ",",
        quoting=chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        lineterminator=chance.choice(["\n", "\r\n"]),
    )
    writer.writerows([("id", "caption"), *table])
    path = tmp_path_factory.mktemp("fuzz") / f"a.{kind}"
    path.write_bytes(mutilated(buffer.getvalue(), "\t" if kind == "tsv" else ",", how, chance).encode())
    try:
        rows, _ = read(path, **(KEYED if keyed else {}))
    except InputError:
        return
    written = {key: bare(text) for key, text in table} if keyed else {
        f"{row:09d}": bare(text) for row, (_, text) in enumerate(table)
    }  # fmt: skip
    assert {bare(key): bare(text) for key, text in rows.items()}.items() <= written.items()


COCO = {
    "images": [{"id": 9, "file_name": "0009.jpg"}, {"id": "10", "coco_url": "http://x.org/a/0%31.jpg?w=1"}, 5],
    "annotations": [
        {"id": 1, "image_id": 9, "caption": "a dog"},
        {"id": 2, "image_id": 10, "caption": "a cat"},
        {"id": 3, "image_id": 9, "caption": ["a", "b"]},
        {"id": 4, "image_id": 77, "caption": "an orphan"},
        7,
    ],
}
KARPATHY = {"images": [{"cocoid": 9, "filename": "d/9.jpg", "sentences": [{"raw": "a"}, {"raw": "b"}]}]}
HOSTILE = {
    "images": [{"id": [], "file_name": 7}, {"id": 1, "file_name": "", "url": "http://[x/1.jpg"}, {"sentences": 5}],
    "annotations": [
        {"image_id": [], "caption": "a"},
        {"caption": "b"},
        {"image_id": 1, "caption": {}},
        {"image_id": 1.0},
    ],
}
BLIP = [{"image": "train/9.jpg", "caption": "a dog"}, None]
LEFT_OUT = ["unlisted_image", "malformed_record"]


@pytest.mark.parametrize(
    ("content", "options", "rows", "reasons"),
    [
        (COCO, {"key_column": "id"}, {"1": "a dog", "2": "a cat", "3": "a b"}, LEFT_OUT),
        (COCO, {"caption_columns": ("caption", "file_name")}, {"0009": "a b 0009.jpg", "01": "a cat"}, LEFT_OUT),
        (KARPATHY, {}, {"d/9": "a b"}, []),
        (BLIP, {"format": "coco"}, {"train/9": "a dog"}, ["malformed_record"]),
        (HOSTILE, {"format": "coco"}, {"1": ""}, ["unlisted_image"] * 2),
        ({"images": [{"sentences": 5, "caption": "a", "image": "x.jpg"}]}, {"format": "coco"}, {"x": "a"}, []),
    ],
)
def test_captions_of_coco_and_its_kin_have_the_keys_of_their_images(
    tmp_path: Path, content: Any, options: dict[str, Any], rows: Read, reasons: list[str]
) -> None:
    for name, data in (("a.json", json.dumps(content)), ("b.json", json.dumps(content, indent=2))):
        assert read(write(tmp_path, name, data.encode()), **options) == (rows, reasons)


@pytest.mark.parametrize("content", [b'{"images": 1}', b"{", b"7", b'{"annotations": []}', b"[" * 100_000, b"\xff"])
def test_a_file_that_is_no_coco_json_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableFile, match="JSON"):
        read(write(tmp_path, "a.json", content), format="coco")


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (b"image| comment_number| comment\n1.jpg| 0| a dog\n", {"separator": "|"}),
        (
            b'image|comment\n1.jpg|a dog\n2.jpg|a "big" cat\n3.jpg| 12" of snow\n4.jpg|"so" he said\n',
            {"separator": "|"},
        ),
        (b'image|comment\n1.jpg|a dog\n2.jpg|"a ""big"" cat"\n3.jpg|"a | b"\n4.jpg|x\n', {"separator": "|"}),
        (b"image,comment\n1.jpg,a dog\n", {}),
        (b"image , comment \n1.jpg,a dog\n", {}),
        (b"comment ;image\na dog;1.jpg\n", {"separator": ";"}),
    ],
)
def test_names_in_a_header_may_have_spaces_around_them(tmp_path: Path, content: bytes, options: dict[str, Any]) -> None:
    path = write(tmp_path, "results.csv", content)
    rows, reasons = read(path, caption_columns=("comment",), key_column="image", **options)
    assert (rows["1.jpg"].strip(), len(rows), reasons) == ("a dog", content.count(b".jpg"), [])
