r"""Tables: cells stay inside their columns, and nothing that a stranger wrote is marked up."""

from __future__ import annotations

import csv
import io
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocab.pages.tables import Markdown, csv_table, in_markdown, markdown_list, markdown_table, terminal_table


def test_numbers_of_a_terminal_table_are_flush_right_and_names_are_last() -> None:
    assert terminal_table([("n", "name"), (12345, "x\r"), (1, "y")]) == ["     n  name", "12,345  x\\r", "     1  y"]


def test_a_markdown_table_has_a_line_for_each_row_and_a_space_for_nothing() -> None:
    assert markdown_table(["class", "top-1"], [["dog", 1], ["", "a|b"], [Markdown("[80.6, 81.2]"), ""]]) == (
        "| class | top-1 |\n|---|---|\n| dog | 1 |\n| | a\\|b |\n| [80.6, 81.2] | |"
    )
    assert markdown_list(["hot_dog: 3", "# no heading"]) == "- hot\\_dog: 3\n- \\# no heading"
    assert markdown_list([]) == ""


def test_a_csv_table_has_six_digits_and_an_empty_cell_for_no_number() -> None:
    text = csv_table(["class", "images", "accuracy"], [('a "b", c', 3, 1 / 3), ("dog", 0, math.nan), ("cat", 0, None)])
    assert text == 'class,images,accuracy\n"a ""b"", c",3,0.333333\ndog,0,\ncat,0,\n'


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x")'])
def test_a_spreadsheet_takes_no_name_for_a_formula(text: str) -> None:
    _, row = csv.reader(io.StringIO(csv_table(["class", "score"], [(text, -0.5)]), newline=""))
    assert row == [f"'{text}", "-0.500000"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_a_csv_table_gives_every_name_back_but_for_the_apostrophe(names: list[str]) -> None:
    text = csv_table(["name", "number"], [(name, number) for number, name in enumerate(names)])
    _, *rows = csv.reader(io.StringIO(text, newline=""))
    assert [row[1] for row in rows] == [f"{number}" for number in range(len(names))]
    for (found, _), name in zip(rows, names, strict=True):
        assert found == (f"'{name}" if name[:1] in {"=", "+", "-", "@", "\t", "\r"} else name)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("dog.n.01", "dog.n.01"),
        ("tench (n01440764), 3 of 4: -0.5 >= 1; C#", "tench (n01440764), 3 of 4: -0.5 >= 1; C#"),
        ("a_b", r"a\_b"),
        ("a\r\nb\u2028c\x1b[2J", r"a b c\\x1b\[2J"),
        ("\\", "\\\\"),
        ("WWW.x.org http://y.org s3://z", r"WWW\.x.org http\://y.org s3://z"),
        ("me@evil.example ~~a~~ $x$ &lt;", r"me\@evil.example \~\~a\~\~ \$x\$ \&lt;"),
        ("a|b\n*c* <d> [e](f) ![g](h) `i` \\j_", r"a\|b \*c\* \<d> \[e\](f) !\[g\](h) \`i\` \\j\_"),
        ("# heading", r"\# heading"),
        ("> said", r"\> said"),
        ("- item", r"\- item"),
    ],
)  # fmt: skip
def test_text_is_shown_by_markdown_as_it_is(text: str, wanted: str) -> None:
    assert in_markdown(text) == wanted


@given(st.text(st.sampled_from("ab|\\`*_[]()<>!&~$@:/w.# \n\t-+")))
def test_no_text_leaves_its_cell_or_begins_markup(text: str) -> None:
    row = markdown_table(["a", "b"], [[text, "end"]]).splitlines()
    assert len(row) == 3
    unescaped = re.sub(r"\\.", "", row[2])
    assert unescaped.count("|") == 3
    assert not re.search(r"[`*_\[\]<&~$@]|https?://|www\.", unescaped)
