"""Transfer Init's table says of every class where it starts, and why."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from tests.synsets import CHURCH, DOG, FISH, vocabulary_of
from trainer.transfer.class_tables import match_csv, match_page, match_summary, no_match_note, write_matches
from trainer.transfer.transfer_init import ClassMatch, match_classes


def matches() -> list[ClassMatch]:
    names = ["dog", "domestic dog", "zzyzx", "tench", "goldfish", "airplane"]
    return match_classes(names, vocabulary_of(DOG, FISH, CHURCH), alpha=0.14)


def test_every_class_has_a_row_with_its_match_and_what_is_to_be_said() -> None:
    assert match_page(matches(), alpha=0.14).splitlines()[8:] == [
        "| class | synsets | starts from | similarity | remarks |",
        "|---|---|---|---|---|",
        "| dog | dog (n02084071) | dog (n02084071) | 1.00 | same synsets as domestic dog |",
        "| domestic dog | dog (n02084071) | dog (n02084071) | 1.00 | same synsets as dog |",
        "| zzyzx | | random | | no synset |",
        "| tench | tench (n01440764) | fish (n02512053) | 0.14 | starts like goldfish |",
        "| goldfish | goldfish (n01443537) | fish (n02512053) | 0.14 | starts like tench |",
        "| airplane | airplane (n02691156) | random | | below alpha; nearest church (n03028079) at 0.08 |",
    ]


def test_the_summary_counts_rows_fall_backs_and_classes_that_start_alike() -> None:
    assert match_summary(matches(), alpha=0.14) == [
        "4 of 6 classes start from pre-trained rows at path similarity >= 0.14, 2 of them from their own synset's.",
        "1 at random, below alpha: airplane.",
        "1 at random, no synset: zzyzx.",
        "2 have the same synsets as another class: dog, domestic dog.",
        "2 more start from the same rows as another class: tench, goldfish.",
    ]


def test_a_note_on_classes_without_a_row_says_how_to_get_one() -> None:
    start = "Transfer Init found no pre-trained row, and 1 class starts at random"
    assert no_match_note(match_classes(["zzyzx"], vocabulary_of(DOG), alpha=0.14)) == [
        f"{start} (1 no synset): --task.class-names gives names"
    ]
    assert no_match_note(match_classes(["airplane"], vocabulary_of(CHURCH), alpha=0.14)) == [
        f"{start} (1 below alpha): a lower --alpha takes rows of less similar synsets, or pre-train with a vocabulary "
        "that has these classes"
    ]


def test_the_csv_has_a_row_for_every_class_whatever_its_name() -> None:
    odd = match_classes(['a "b", c', "two\nlines", "dog"], vocabulary_of(DOG), alpha=1.0)
    rows = list(csv.DictReader(io.StringIO(match_csv(odd))))
    assert [row["class"] for row in rows] == ['a "b", c', "two\nlines", "dog"]
    assert rows[2] == {
        "class": "dog", "synsets": "n02084071", "matches": "n02084071", "similarities": "1.0000",
        "nearest": "n02084071 1.0000", "reason": "", "shared_with": "", "starts_like": "",
    }  # fmt: skip


def test_the_three_files_hold_the_same_classes(tmp_path: Path) -> None:
    write_matches(matches(), tmp_path, alpha=0.14)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "transfer_init.csv", "transfer_init.json", "transfer_init.md",
    ]  # fmt: skip
    stored = json.loads((tmp_path / "transfer_init.json").read_text())
    assert (stored["version"], stored["alpha"], len(stored["classes"])) == (1, 0.14, 6)
    assert stored["classes"][0] == {
        "name": "dog", "synsets": ["n02084071"], "matches": [["n02084071", 1.0]], "reason": None,
        "shared_with": ["domestic dog"], "nearest": [["n02084071", 1.0]], "starts_like": ["domestic dog"],
    }  # fmt: skip
    assert stored["classes"][2]["reason"] == "no synset"
