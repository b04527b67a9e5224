"""Lists of synsets: what users write in them, what is refused, and the ready-made ones."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from vocab import wordnet
from vocab.depictable import are_depictable
from vocab.errors import InputError
from vocab.synset_lists import ReadyList, read_list
from vocab.synset_names import synset_named
from vocab.taxonomy import rows_of

DOG, CAT, POODLE, CORGI, FRUMP = 2084071, 2121620, 2113335, 2112826, 10114209


def read(folder: Path, text: str | bytes) -> list[int]:
    file = folder / "list.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_list(file).synsets.tolist()


@pytest.mark.parametrize(
    ("text", "synsets"),
    [
        ("n02084071\nn02121620\n", [DOG, CAT]),
        ("dog.n.01\ncat.n.01", [DOG, CAT]),
        ("Dog.n.1\n", [DOG]),
        ("domestic_dog.n.01\n", [DOG]),
        ("domestic dog\n", [DOG]),
        ("poodle dog\r\npoodle\r\n", [POODLE]),
        ("n02084071 dog, domestic dog, Canis familiaris\n", [DOG]),
        ("n02084071,dog\n", [DOG]),
        ("# mine\n\n  dog.n.01  # the animal\n", [DOG]),
        ("\ufeffdog.n.01\n", [DOG]),
        ("domestic  dog\nDomestic\u00a0Cat\n", [DOG, 2121808]),
        ("dog.n.01\ndog.n.01\nn02084071\n", [DOG]),
    ],
)
def test_synsets_are_read_as_people_write_them(tmp_path: Path, text: str, synsets: list[int]) -> None:
    assert read(tmp_path, text) == synsets


def test_a_subtree_is_a_synset_and_all_below_it(tmp_path: Path) -> None:
    for item in ("dog.n.01+", "n02084071+", "n02084071 +", "n02084071+ dog", "domestic dog+", "Canis familiaris +"):
        found = read(tmp_path, item)
        assert {DOG, POODLE, CORGI} <= set(found)
        assert CAT not in found
    assert len(read(tmp_path, "entity.n.01+")) == 82_115


def test_all_senses_of_a_word_are_asked_for_with_a_star(tmp_path: Path) -> None:
    assert read(tmp_path, "dog.n.*") == [2084071, 2710044, 3901548, 7676602, 9886220, 10023039, FRUMP]


def test_a_word_of_several_synsets_is_refused_with_their_names(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, "dog.n.01\nbaby doll\ncrane\n")
    assert str(refused.value).startswith(f"{tmp_path}/list.txt, line 2: baby doll: found no such noun in WordNet 3.0;")
    with pytest.raises(InputError) as refused:
        read(tmp_path, "cat.n.01\nfir\n")
    assert str(refused.value) == (
        f"{tmp_path}/list.txt, line 2: fir: found a word of 2 synsets: fir.n.01 (fir), fir.n.02 (fir, fir tree, true "
        "fir); wanted one synset. Write the name of the one that is meant, or fir.n.* for all of them."
    )
    with pytest.raises(InputError, match=r"a word of 7 synsets: dog\.n\.01 .* and 2 more; wanted one"):
        read(tmp_path, "dog+\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("poodel.n.01", r"line 1: poodel\.n\.01: found no such noun in WordNet 3\.0; .*Did you mean poodle\.n\.01"),
        ("dog.n.01\ndog.n.99", r"line 2: dog\.n\.99: found no such noun .*Did you mean dog\.n\.01, dog\.n\.02"),
        ("n99999999", r"n99999999: found no such noun .*A wnid must be WordNet 3\.0's"),
        ("run.v.01", r"run\.v\.01: found no such noun .*Labels are nouns"),
        ("zzzzz.n.*", r"zzzzz\.n\.\*: found no such noun"),
        ("+", r"line 1: \+: found no such noun"),
        ("poodles", r"Did you mean poodle\.n\.01\?"),
        ("children+", r"Did you mean child\.n\.01, child\.n\.02"),
        ("n02084071 n02121620", "found another synset or a . behind the words; wanted one synset"),
        ("n02084071,cat.n.01+", "found another synset or a . behind the words; wanted one synset"),
        ("n00007846 person+", "found another synset or a . behind the words; wanted one synset"),
        ("dog.n.01, cat.n.01", "found no such noun .* Write one item a line, without quotes"),
        ('["n02084071"]', "found no such noun .* Write one item a line, without quotes"),
        ("Synset('dog.n.01')", "found no such noun .* Write one item a line, without quotes"),
        ("<script>", "found no such noun"),
        ("x" * 100_000, "found no such noun"),
        ("", "found no synset in it"),
        ("# nothing\n\n", "found no synset in it; wanted wnids"),
        (b"PAR1\xff\xfe\x00", "found no readable text file"),
    ],
)
def test_what_names_no_synset_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path, text)


def test_a_file_that_is_no_list_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocab.synset_lists.MAX_BYTES", 8)
    with pytest.raises(InputError, match=r"list\.txt: found more than 8 bytes; wanted a list of synsets"):
        read(tmp_path, "dog.n.01\n")


def test_a_missing_list_names_the_ready_made_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no readable text file .*imagenet-1k, imagenet-21k, places365, slurs-"):
        read_list(tmp_path / "imagenet1k")


@pytest.mark.parametrize(
    ("name", "length"), [("imagenet-1k", 1000), ("imagenet-21k", 21_841), ("places365", 293), ("slurs-and-adult", 308)]
)
def test_ready_made_lists_hold_synsets_of_wordnet(name: str, length: int) -> None:
    synsets = read_list(name).synsets
    assert len(synsets) == length
    assert len(rows_of(wordnet.load(), synsets)) == length


def test_every_ready_made_list_lies_in_the_folder() -> None:
    folder = Path(wordnet.__file__).parent / "lists"
    names = {file.stem for file in folder.glob("*.txt")}
    assert names == {*get_args(ReadyList), "near-duplicates"}


def test_imagenet_s_classes_and_scenes_are_what_pictures_show() -> None:
    assert are_depictable(read_list("imagenet-1k").synsets).mean() > 0.99
    assert are_depictable(read_list("places365").synsets).mean() > 0.95


def test_slurs_and_adult_terms_are_listed_and_innocent_senses_are_not() -> None:
    listed = set(read_list("slurs-and-adult").synsets.tolist())
    for name in ("slattern.n.02", "pornography.n.01", "nigger.n.01", "fagot.n.01", "prostitute.n.01", "penis.n.01"):
        assert synset_named(name) in listed, name
    for name in ("dog.n.01", "woman.n.01", "cock.n.04", "spade.n.02", "fairy.n.01", "lesbian.n.01", "bikini.n.02"):
        assert synset_named(name) not in listed, name


def test_each_line_of_the_slurs_has_its_words() -> None:
    text = (Path(wordnet.__file__).parent / "lists" / "slurs-and-adult.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    nouns = wordnet.load()
    for line in lines:
        name, words = line.split("  # ")
        synset = synset_named(name)
        assert synset is not None
        assert words == ", ".join(word.replace("_", " ") for word in nouns.words_of(nouns.row_of(synset)))
