r"""Tables: cells stay inside their columns, and nothing that a stranger wrote is marked up."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocab.pages.tables import Markdown, in_markdown, markdown_list, markdown_table, terminal_table


def test_numbers_of_a_terminal_table_are_flush_right_and_names_are_last() -> None:
    assert terminal_table([("n", "name"), (12345, "x\r"), (1, "y")]) == ["     n  name", "12,345  x\\r", "     1  y"]


def test_a_markdown_table_has_a_line_for_each_row_and_a_space_for_nothing() -> None:
    assert markdown_table(["class", "top-1"], [["dog", 1], ["", "a|b"], [Markdown("[80.6, 81.2]"), ""]]) == (
        "| class | top-1 |\n|---|---|\n| dog | 1 |\n| | a\\|b |\n| [80.6, 81.2] | |"
    )
    assert markdown_list(["hot_dog: 3", "# no heading"]) == "- hot\\_dog: 3\n- \\# no heading"
    assert markdown_list([]) == ""


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
