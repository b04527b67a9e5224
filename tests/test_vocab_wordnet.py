"""WordNet's nouns as arrays, and the packed file they come from."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from vocab import wordnet
from vocab.errors import FormatError, InputError
from vocab.fit.wordnet_files import parse_index, parse_sense, parse_synset, read_wordnet

DATABASE = Path("/usr/share/wordnet")


@pytest.fixture(scope="module")
def nouns() -> wordnet.WordNet:
    return wordnet.load()


@pytest.fixture(scope="module")
def packed(nouns: wordnet.WordNet) -> bytes:
    return wordnet.pack(nouns)


@pytest.mark.parametrize(
    ("name", "words"),
    [("dog.n.01", "dog"), ("traffic_light.n.01", "traffic light"), ("st._bernard_lily.n.01", "st. bernard lily")],
)
def test_a_name_in_plain_words_has_neither_underscores_nor_the_number_of_the_sense(name: str, words: str) -> None:
    assert wordnet.words_of_name(name) == words


def row(nouns: wordnet.WordNet, lemma: str) -> int:
    return nouns.lemmas.index(lemma).as_py()


def test_all_nouns_of_wordnet_3_0_are_there(nouns: wordnet.WordNet) -> None:
    assert nouns.version == "3.0"
    assert len(nouns.synsets) == 82_115
    assert len(nouns.lemmas) == 117_798
    assert len(nouns.sense_synsets) == 146_312
    assert len(nouns.words) == 146_347


def test_the_packed_file_is_compact() -> None:
    assert len(resources.files("vocab").joinpath("data", wordnet.PACKED.file).read_bytes()) <= 6_000_000


def test_the_licence_lies_beside_the_data() -> None:
    licence = resources.files("vocab").joinpath("data", "LICENSE.wordnet").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in licence


def test_the_arrays_are_kept_as_arrays(nouns: wordnet.WordNet) -> None:
    assert all(isinstance(v, np.ndarray | wordnet.pa.StringArray | str) for v in vars(nouns).values())


def test_dog_has_its_words_name_and_hypernyms(nouns: wordnet.WordNet) -> None:
    dog = nouns.row_of(2084071)
    assert nouns.name_of(dog) == "dog.n.01"
    assert nouns.words_of(dog) == ["dog", "domestic_dog", "Canis_familiaris"]
    parents = nouns.hypernyms[nouns.hypernym_starts[dog] : nouns.hypernym_starts[dog + 1]]
    assert [nouns.name_of(p) for p in parents] == ["canine.n.02", "domestic_animal.n.01"]
    assert wordnet.LEXICOGRAPHER_FILES[int(nouns.lexicographer_files[dog])] == "animal"


def test_senses_stand_in_wordnets_order_with_their_counts(nouns: wordnet.WordNet) -> None:
    dog = row(nouns, "dog")
    senses = slice(nouns.sense_starts[dog], nouns.sense_starts[dog + 1])
    assert nouns.sense_synsets[senses].tolist()[:2] == [nouns.row_of(2084071), nouns.row_of(10114209)]
    assert nouns.sense_counts[senses].tolist() == [42, 0, 0, 0, 0, 0, 0]


def test_an_instance_is_told_from_a_kind(nouns: wordnet.WordNet) -> None:
    paris = nouns.row_of(8932568)
    assert nouns.name_of(paris) == "paris.n.01"
    kinds = nouns.instance_hypernyms[nouns.instance_starts[paris] : nouns.instance_starts[paris + 1]]
    assert [nouns.name_of(k) for k in kinds] == ["national_capital.n.01"]


def test_irregular_plurals_are_there(nouns: wordnet.WordNet) -> None:
    pairs = dict(zip(nouns.exception_forms.to_pylist(), nouns.exception_bases.to_pylist(), strict=True))
    assert (pairs["geese"], pairs["mice"], pairs["wolves"]) == ("goose", "mouse", "wolf")


def test_wnids_have_eight_digits() -> None:
    assert wordnet.wnid_of(2084071) == "n02084071"
    assert wordnet.synset_of_wnid("n02084071") == 2084071


@pytest.mark.parametrize("wnid", ["n2084071", "v02084071", "n0208407x", "", "n02084071\n"])
def test_what_is_no_wnid_is_refused(wnid: str) -> None:
    with pytest.raises(InputError, match="eight digits"):
        wordnet.synset_of_wnid(wnid)


def test_an_offset_of_another_version_is_refused(nouns: wordnet.WordNet) -> None:
    with pytest.raises(InputError, match=r"n02084072.*WordNet 3\.0"):
        nouns.row_of(2084072)


def test_packing_and_unpacking_changes_nothing(nouns: wordnet.WordNet, packed: bytes) -> None:
    again = wordnet.unpack(packed)
    for name, value in vars(nouns).items():
        same = np.array_equal(value, vars(again)[name]) if isinstance(value, np.ndarray) else value == vars(again)[name]
        assert same, name


@pytest.mark.parametrize("damage", [b"", b"no archive", b"cut"])
def test_a_damaged_packed_file_is_refused(packed: bytes, damage: bytes) -> None:
    content = packed[:1000] if damage == b"cut" else damage
    with pytest.raises(FormatError, match="Install the project again"):
        wordnet.unpack(content)


@pytest.mark.slow
def test_the_packed_file_is_what_wordnets_own_files_give() -> None:
    if not (DATABASE / "index.sense").is_file():
        pytest.skip(f"no {DATABASE}; on Debian: apt-get install wordnet-base wordnet-sense-index")
    checked_in = resources.files("vocab").joinpath("data", wordnet.PACKED.file).read_bytes()
    assert wordnet.pack(read_wordnet(DATABASE)) == checked_in


def test_a_folder_without_wordnet_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="apt-get install wordnet-base"):
        read_wordnet(tmp_path)


def test_a_line_of_data_noun_is_parsed() -> None:
    line = "00017222 03 n 02 plant 0 Plant_life 0 003 @ 00004475 n 0000 ~ 11529603 n 0000 @i 09820263 n 0000 | a; b | c"
    synset = parse_synset(line)
    assert (synset.offset, synset.lexicographer_file) == (17222, 3)
    assert synset.words == ("plant", "Plant_life")
    assert (synset.hypernyms, synset.instance_hypernyms) == ((4475,), (9820263,))


def test_lines_of_the_indexes_are_parsed() -> None:
    assert parse_index("acris n 1 3 @ #m %m 1 0 01651370") == ("acris", [1651370])
    assert parse_sense("absorbing%5:00:00:interesting:00 01344171 1 0") == ("absorbing", "3", 1344171, 0)
