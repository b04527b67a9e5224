"""Label names of downstream datasets to synsets."""

from __future__ import annotations

import pyarrow as pa
import pytest

from vocab import wordnet
from vocab.class_names import readings_of, senses_of, synsets_of_class_names
from vocab.errors import InputError

DOG, TENCH, KITCHEN, BRIDGE = 2084071, 1440764, 3619890, 2898711
CRANE_BIRD, CRANE_MACHINE, HAND, GUARDIANSHIP = 2012849, 3126707, 5564590, 818678


def names_of(name: str) -> list[list[str]]:
    """The words of each synset that a name gives."""
    nouns = wordnet.load()
    return [nouns.words_of(nouns.row_of(synset)) for synset in synsets_of_class_names([name])[0]]


class Labels:
    """A labeler that knows a few captions, and notes what it was asked."""

    def __init__(self, known: dict[str, list[int]]) -> None:
        self.known = known
        self.asked: list[list[str]] = []

    def __call__(self, captions: pa.StringArray) -> pa.ListArray:
        self.asked.append(captions.to_pylist())
        return pa.array([self.known.get(caption, []) for caption in self.asked[-1]], pa.list_(pa.int32()))


def test_a_wnid_is_the_synset_itself_and_asks_no_labeler() -> None:
    labels = Labels({})
    assert synsets_of_class_names(["n02084071", " n01440764\n"], label=labels) == [[DOG], [TENCH]]
    assert labels.asked == []


@pytest.mark.parametrize("wnid", ["n02084072", "n99999999", "n00000000"])
def test_a_wnid_of_another_version_has_no_synset(wnid: str) -> None:
    assert synsets_of_class_names(["dog", wnid]) == [[DOG], []]


@pytest.mark.parametrize(
    ("name", "synset"),
    [("dog", DOG), ("Dog", DOG), (" dog ", DOG), ("tench", TENCH), ("kitchen", KITCHEN), ("BRIDGE", BRIDGE)],
)
def test_a_plain_noun_gives_its_synset(name: str, synset: int) -> None:
    assert synsets_of_class_names([name]) == [[synset]]


@pytest.mark.parametrize("name", ["hot_dog", "hot-dog", "HotDog", "hotDog", "hot dog", "Hot  Dog", "hot dogs"])
def test_a_noun_of_two_words_is_one_synset_however_it_is_written(name: str) -> None:
    (words,) = names_of(name)
    assert "hot_dog" in words or "hotdog" in words


@pytest.mark.parametrize("name", ["traffic-light", "TrafficLight", "traffic_lights", "trafficLights"])
def test_words_are_parted_at_hyphens_underscores_and_capitals(name: str) -> None:
    assert names_of(name) == [["traffic_light", "traffic_signal", "stoplight"]]


def test_capitals_inside_a_known_word_do_not_part_it() -> None:
    assert names_of("iPod") == [["iPod"]]


@pytest.mark.parametrize(("name", "synset"), [("dogs", DOG), ("kitchens", KITCHEN), ("bridges", BRIDGE)])
def test_a_plural_gives_the_singulars_synset(name: str, synset: int) -> None:
    assert synsets_of_class_names([name]) == [[synset]]


def test_synonyms_between_commas_are_one_class() -> None:
    assert synsets_of_class_names(["tench, Tinca tinca", "dog, domestic dog, Canis familiaris"]) == [[TENCH], [DOG]]


def test_the_sense_that_most_synonyms_share_wins_over_the_labelers_choice() -> None:
    labels = Labels({"crane": [CRANE_BIRD], "maillot": [3710637]})
    # "maillot" alone can mean tights or a swimsuit; "tank suit" only the latter.
    assert synsets_of_class_names(["maillot, tank suit", "maillot"], label=labels) == [[3710721], [3710637]]


@pytest.mark.parametrize("chosen", [CRANE_BIRD, CRANE_MACHINE])
def test_a_name_with_several_senses_gets_the_labelers_choice(chosen: int) -> None:
    assert synsets_of_class_names(["crane"], label=Labels({"crane": [chosen]})) == [[chosen]]


def test_a_noun_that_the_labeler_passes_over_gets_wordnets_first_sense() -> None:
    assert synsets_of_class_names(["dog"], label=Labels({})) == [[DOG]]


def test_a_plural_with_an_entry_of_its_own_is_read_as_the_labeler_reads_it() -> None:
    assert senses_of(["hands"])["hands"][0] == GUARDIANSHIP
    assert synsets_of_class_names(["hands"], label=Labels({"hands": [HAND]})) == [[HAND]]


def test_labels_of_a_part_of_a_noun_do_not_count() -> None:
    labels = Labels({"traffic light": [11473954, 8425303]})
    assert synsets_of_class_names(["traffic light"], label=labels) == [[6874185]]


def test_places365_folder_and_qualifier_go() -> None:
    assert synsets_of_class_names(["/k/kitchen", "/b/bridge", "k/kitchen", "/k/kitchen/indoor"]) == [
        [KITCHEN],
        [BRIDGE],
        [KITCHEN],
        [KITCHEN],
    ]


def test_a_qualifier_counts_where_nothing_else_is_a_noun() -> None:
    labels = Labels({"ocean deep": [9376198]})
    assert synsets_of_class_names(["/u/underwater/ocean_deep"], label=labels) == [[9376198]]


def test_a_name_that_is_no_noun_gives_what_a_caption_would_give() -> None:
    labels = Labels({"dog kitchen": [KITCHEN, DOG]})
    assert synsets_of_class_names(["/d/dog_kitchen"], label=labels) == [[DOG, KITCHEN]]
    assert synsets_of_class_names(["/d/dog_kitchen"]) == [[DOG, KITCHEN]]


def test_the_labeler_is_asked_once_for_all_names() -> None:
    labels = Labels({})
    synsets_of_class_names(["dog", "cat, true cat", "dog", "HotDog"], label=labels)
    assert labels.asked == [["dog", "cat", "true cat", "hotdog", "hot dog"]]


def test_the_order_of_names_is_kept_and_a_name_stands_alone() -> None:
    names = ["kitchen", "zzzz", "n02084071", "tench, Tinca tinca", "dog"]
    assert synsets_of_class_names(names) == [synsets_of_class_names([name])[0] for name in names]


@pytest.mark.parametrize("name", ["", " ", ",", "/", "//,_", "\0", "\ud800", "zzzz", "n/a", "/a/", "a, b", "🐕", "\n"])
def test_what_names_nothing_gives_an_empty_list(name: str) -> None:
    assert synsets_of_class_names([name, "dog"]) == [[], [DOG]]


@pytest.mark.parametrize("name", ["dog\0", "\0dog", "dog\ud800", "d\0og, dog", "<dog>", '"dog"', "dog!", "\N{BOM}dog"])
def test_signs_and_null_bytes_part_words(name: str) -> None:
    assert synsets_of_class_names([name]) == [[DOG]]


@pytest.mark.parametrize("name", ["dog " * 50_000, "dog, " * 50_000, "/" * 50_000 + "dog", "dog/" * 10_000])
def test_a_hostile_long_name_is_read_like_any_other(name: str) -> None:
    assert synsets_of_class_names([name]) == [[DOG]]


@pytest.mark.parametrize("name", ["x" * 500_000, "aQ" * 100_000, "a," * 100_000, "\0" * 500_000])
def test_a_long_name_of_nothing_gives_an_empty_list(name: str) -> None:
    assert synsets_of_class_names([name], label=Labels({})) == [[]]


def test_no_names_give_no_lists() -> None:
    assert synsets_of_class_names([]) == []


def test_a_string_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(InputError, match=r"the string 'dog'.*Write \['dog'\]"):
        synsets_of_class_names("dog")


@pytest.mark.parametrize(
    ("name", "readings"),
    [
        ("tench, Tinca tinca", [["tench", "tinca tinca"]]),
        ("/c/church/indoor", [["church"], ["indoor"]]),
        ("HotDog", [["hotdog"], ["hot dog"]]),
        ("RGBImage", [["rgbimage"], ["rgb image"]]),
        ("bull's-eye", [["bulls eye"]]),
        ("dog, Dog,, dog ", [["dog"]]),
        ("7", [["7"]]),
        ("", []),
    ],
)
def test_a_name_has_these_readings(name: str, readings: list[list[str]]) -> None:
    assert readings_of(name) == readings


def test_a_lemma_with_signs_is_found_by_its_words() -> None:
    nouns = wordnet.load()
    found = senses_of(["bulls eye", "t shirt", "jack o lantern", "hood", "zzzz"])
    assert sorted(found) == ["bulls eye", "hood", "jack o lantern", "t shirt"]
    # 'hood, the neighbourhood, is another lemma.
    assert all("hood" in nouns.words_of(nouns.row_of(synset)) for synset in found["hood"])


@pytest.mark.parametrize("name", ["bull\u2019s-eye", "bull\u00e2\u20ac\u2122s-eye", "bull\u00e2\u0080\u0099s eye"])
def test_a_name_in_misread_letters_is_the_name_that_was_written(name: str) -> None:
    assert synsets_of_class_names([name]) == synsets_of_class_names(["bull's-eye"]) != [[]]


@pytest.mark.parametrize(
    ("name", "synset"),
    [("dog.n.01", DOG), ("domestic_dog.n.01", DOG), ("Hot_Dog.n.01", 10187710), ("hot_dog.n.02", 7697537)],
)
def test_a_lemma_with_the_number_of_its_sense_is_that_synset(name: str, synset: int) -> None:
    labels = Labels({})
    assert synsets_of_class_names([name], label=labels) == [[synset]]
    assert labels.asked == []


def test_a_synset_that_wordnet_does_not_have_is_read_by_its_lemma() -> None:
    assert synsets_of_class_names(["hot_dog.n.99"]) == synsets_of_class_names(["hot dog"])
