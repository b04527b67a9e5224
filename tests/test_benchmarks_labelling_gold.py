"""Labels beside captions that people judged: what counts as right, wrong and missed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.labelling.depictable import compare, marks_of
from benchmarks.labelling.gold import Item, Judged, Tally, labels_of, measure_gold, read_gold, tally, words_of
from vocab import labeler, wordnet
from vocab.errors import InputError

DOG, SOFA, RED, PARIS = 2084071, 4256520, 4962784, 8932568


def judged(*items: Item, number: int = 2, source: str = "web", caption: str = "") -> Judged:
    return Judged(number, source, caption, items)


def item(text: str, kind: str, *synsets: int) -> Item:
    return Item(frozenset(text.split()), kind, frozenset(synsets), next(iter(synsets), None))


def of_words(labels: dict[int, str]) -> dict[int, frozenset[str]]:
    return {synset: frozenset(words.split()) for synset, words in labels.items()}


NOUNS = judged(item("dog", "noun", DOG), item("sofa couch", "noun", SOFA))
NAME = judged(item("paris hilton", "name"))


def test_labels_are_right_that_the_caption_allows_and_nouns_are_found_that_have_one() -> None:
    counts = tally([(NOUNS, of_words({DOG: "dog", RED: "red"}))])
    assert (counts.labels, counts.allowed, counts.nouns, counts.found) == (2, 1, 2, 1)
    assert (counts.precision, counts.recall, counts.f1) == (0.5, 0.5, 0.5)
    assert counts.wrong == {"unjudged": 1}


def test_any_of_the_synsets_of_a_noun_will_do() -> None:
    counts = tally([(judged(item("dog", "noun", SOFA, DOG)), of_words({DOG: "dog"}))])
    assert (counts.precision, counts.recall) == (1.0, 1.0)


def test_a_wrong_label_on_a_name_is_an_error_of_names() -> None:
    counts = tally([(NAME, of_words({PARIS: "paris"})), (NOUNS, of_words({DOG: "dog", SOFA: "couch", RED: "dog"}))])
    assert counts.wrong == {"name": 1, "noun": 1}
    assert (counts.labels, counts.allowed, counts.name_error) == (4, 2, 0.25)


def test_a_name_that_wordnet_has_is_allowed_but_no_noun_to_be_found() -> None:
    counts = tally([(judged(item("paris", "name", PARIS)), of_words({PARIS: "paris"}))])
    assert (counts.labels, counts.allowed, counts.nouns, counts.name_error) == (1, 1, 0, 0.0)


def test_a_noun_that_wordnet_lacks_is_not_missed_but_a_label_on_it_is_wrong() -> None:
    counts = tally([(judged(item("minifig", "none")), of_words({DOG: "minifig"}))])
    assert (counts.nouns, counts.precision, counts.recall) == (0, 0.0, 0.0)
    assert counts.wrong == {"none": 1}


def test_nothing_at_all_gives_zeros() -> None:
    counts = tally([])
    assert (counts.precision, counts.recall, counts.f1, counts.name_error) == (0.0, 0.0, 0.0, 0.0)
    assert counts == Tally()


def test_a_text_falls_into_the_labelers_words() -> None:
    assert words_of("T-shirts (2)") == {"t", "shirts", "0"}


def test_labels_have_the_words_that_they_come_from() -> None:
    found = labels_of(labeler.load(), judged(caption="Two Golden Retrievers on a couch"))
    nouns = wordnet.load()
    assert {nouns.name_of(nouns.row_of(synset)): words for synset, words in found.items()} == {
        "golden_retriever.n.01": {"golden", "retrievers"}, "sofa.n.01": {"couch"},
    }  # fmt: skip


def write(file: Path) -> Path:
    records = [
        (1, "web", "a dog", [("dog", "noun", "n02084071")]),
        (2, "web", "a dog on a couch", [("dog", "noun", "n02084071"), ("couch", "noun", "n04256520")]),
        (4, "coco", "a dog, Paris", [("dog", "not", None), ("Paris", "name", "n08932568")]),
    ]
    lines = [
        json.dumps(
            {
                "id": number,
                "source": source,
                "caption": caption,
                "items": [
                    {"text": text, "kind": kind, "synsets": [wnid] if wnid else [], "depictable": False}
                    for text, kind, wnid in items
                ],
            }
        )
        for number, source, caption, items in records
    ]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def test_judged_captions_are_read(tmp_path: Path) -> None:
    first, _, last = read_gold(write(tmp_path / "captions.jsonl"))
    assert first == Judged(1, "web", "a dog", (item("dog", "noun", DOG),))
    assert last.items == (item("dog", "not"), item("paris", "name", PARIS))


def test_figures_are_those_of_even_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = measure_gold(labeler.load(), write(tmp_path / "captions.jsonl"))
    # Caption 2 has two right labels; in caption 4 the dog is judged to be none, and Paris is allowed.
    assert figures == {
        "caption_f1": 0.8571, "caption_precision": 0.75, "caption_recall": 1.0, "caption_f1_odd": 1.0,
        "web_precision": 1.0, "web_recall": 1.0, "name_error": 0.0, "web_name_error": 0.0,
    }  # fmt: skip
    said = capsys.readouterr().out
    assert "judged captions, even ids: precision 0.750 recall 1.000" in said
    assert "wrong: not 1" in said


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"captions\.jsonl: found no such file.*CATLIP_DATA"):
        read_gold(tmp_path / "captions.jsonl")


def test_marks_of_pictures_are_compared_noun_by_noun() -> None:
    dog, day = 2084071, 15155220
    marks = compare([(dog, True), (dog, False), (day, False), (day, True)])
    assert (marks.both, marks.ours_alone, marks.neither, marks.theirs_alone) == (1, 1, 1, 1)
    assert (marks.precision, marks.recall, marks.f1) == (0.5, 0.5, 0.5)
    assert marks.wrong == {"dog.n.01": 1, "day.n.01+": 1}
    assert compare([(dog, True), (day, False)], all_true=True).f1 == pytest.approx(2 / 3)


def test_only_nouns_with_a_synset_have_a_mark() -> None:
    first = Item(frozenset({"dog"}), "noun", frozenset({DOG, SOFA}), SOFA, is_depictable=True)
    name = Item(frozenset({"paris"}), "name", frozenset({PARIS}), PARIS, is_depictable=True)
    assert marks_of([judged(first, name, item("minifig", "noun"))]) == [(SOFA, True)]
