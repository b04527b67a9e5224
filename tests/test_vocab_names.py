"""Lists of names to the feature that says on which of them a word is."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from vocab.errors import InputError
from vocab.fit.names import NAMES_FILE, read_grades, read_long_names, read_names

HEADS = {
    "given_names_us.tsv": "name\tsex",
    "surnames_us.tsv.gz": "name\trank",
    "places.tsv": "name\tcountry",
    "brands_nsi.tsv.gz": "name\tscope",
    "brands_simple_icons.tsv": "name\tslug",
    "names_misc.tsv.gz": "kind\tname",
}


def write(folder: Path, lists: dict[str, Sequence[str]]) -> Path:
    """All lists, empty but for the given rows."""
    for file, head in HEADS.items():
        content = "".join(f"{line}\n" for line in (head, *lists.get(file, ())))
        opened = gzip.open if file.endswith(".gz") else open
        with opened(folder / file, "wt", encoding="utf-8") as lines:
            lines.write(content)
    return folder


def test_a_word_has_the_lists_that_it_is_on(tmp_path: Path) -> None:
    lists = {
        "given_names_us.tsv": ["Paris\tF", "Max\tM"],
        "surnames_us.tsv.gz": ["MAX\t1"],
        "places.tsv": ["Paris\tFR"],
        "brands_simple_icons.tsv": ["Nike\tnike"],
    }
    assert read_names(write(tmp_path, lists)) == {"paris": "g0p0", "max": "g0s0", "nike": "b0"}


def test_the_rarer_a_given_name_or_surname_the_higher_its_step(tmp_path: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [a + b + c for a in letters for b in letters for c in letters][:5_001]
    lists = {
        "given_names_us.tsv": [f"{name}\tF" for name in names],
        "surnames_us.tsv.gz": [f"{name}\t1" for name in names[::-1]],
    }
    found = read_names(write(tmp_path, lists))
    at = (0, 299, 300, 1_499, 1_500, 4_999, 5_000)
    assert [found[names[rank]][:2] for rank in at] == ["g0", "g0", "g1", "g1", "g2", "g2", "g3"]
    assert (found[names[0]], found[names[5_000]]) == ("g0s3", "g3s0")


def test_a_name_that_is_listed_twice_has_its_most_common_step(tmp_path: Path) -> None:
    lists = {"given_names_us.tsv": ["Ada\tF"], "names_misc.tsv.gz": ["first_name\tAda", "last_name\tCurie"]}
    assert read_names(write(tmp_path, lists)) == {"ada": "g0", "curie": "s2"}


def test_names_of_several_words_and_single_letters_are_none(tmp_path: Path) -> None:
    lists = {
        "places.tsv": ["New York\tUS", "Y\tFR", "Aix-en-Provence\tFR", "\u00c5lesund\tNO", "Route66\tUS"],
        "brands_simple_icons.tsv": ["3M\tthreem"],
    }
    assert read_names(write(tmp_path, lists)) == {"alesund": "p0"}


def test_of_a_person_the_first_and_the_last_word_count(tmp_path: Path) -> None:
    lists = {"names_misc.tsv.gz": ["person\tMarie Salomea Curie", "person\tPlato"]}
    assert read_names(write(tmp_path, lists)) == {"marie": "g2", "curie": "s2", "plato": "g2"}


def test_a_kind_that_is_no_name_is_left_out(tmp_path: Path) -> None:
    kinds = ["dog_name\tRex", "team\tArsenal", "myth\tZeus", "nationality\tDutch", "newspaper\tTimes", "colour\tTeal"]
    assert read_names(write(tmp_path, {"names_misc.tsv.gz": kinds})) == {
        "rex": "d2", "arsenal": "b2", "zeus": "m2", "dutch": "n2", "times": "b2",
    }  # fmt: skip


def test_a_brand_of_another_country_is_left_out(tmp_path: Path) -> None:
    lists = {"brands_nsi.tsv.gz": ["Lidl\tworld", "Tesco\ten", "Migros\tch"]}
    assert read_names(write(tmp_path, lists)) == {"lidl": "b0", "tesco": "b0"}


def test_quotes_are_letters_of_no_name_and_part_no_rows(tmp_path: Path) -> None:
    lists = {"places.tsv": ['"Paris\tFR', "London\tUK"]}
    assert read_names(write(tmp_path, lists)) == {"london": "p0"}


@pytest.mark.parametrize("file", HEADS)
def test_a_missing_list_is_named(tmp_path: Path, file: str) -> None:
    (write(tmp_path, {}) / file).unlink()
    with pytest.raises(InputError, match=rf"{file}: found no such file; wanted a list of names"):
        read_names(tmp_path)


def test_names_of_several_words_come_from_the_own_list_and_the_folder(tmp_path: Path) -> None:
    lists = {"brands_simple_icons.tsv": ["Blue Zebra Nine\tbluezebranine", "Nike\tnike", "Area 51\tarea51"]}
    own = set(read_long_names(None))
    assert {"abbey road", "north face", "assassin creed"} <= own
    assert set(read_long_names(write(tmp_path, lists))) - own == {"blue zebra nine"}


def test_a_noun_that_is_a_name_as_well_has_a_grade() -> None:
    grades = read_grades()
    assert (grades["corvette"], "abbey" in grades, "table" in grades) == ("a", False, False)


def test_every_line_of_the_own_list_is_a_name_of_several_words_or_a_word_with_a_grade() -> None:
    lines = [line for line in NAMES_FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert lines == sorted(set(lines))
    assert [line for line in lines if not re.fullmatch("[a-z0-9']+( [a-z0-9']+){1,3}", line)] == []
