"""Names of classes: what files of them may say, and that no name goes to another class."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trainer.transfer.tasks import numbering
from trainer.transfer.tasks.class_names import Names, names_of_classes, read_name_file
from vocab.class_names import synsets_of_class_names
from vocab.errors import InputError, MismatchError

SOURCE = Path("names.txt")


def read(folder: Path, name: str, text: str | bytes) -> Names:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_name_file(folder / name)


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("a.txt", "tench\n goldfish  \r\n\n", ["tench", "goldfish"]),
        ("a.txt", "\ufeffhot  dog\n", ["hot dog"]),
        ("a.txt", "n01440764 tench, Tinca tinca\nn01443537\tgoldfish", ["n01440764", "n01443537"]),
        ("a.txt", "/a/airfield 1\n/a/alley 0\n", ["/a/alley", "/a/airfield"]),
        ("a.txt", "alley 2\nairfield 1\n", ["airfield", "alley"]),
        ("a.txt", "1 crow\n10 wren\n" + "".join(f"{n} bird {n}\n" for n in range(2, 10)),
         ["crow", *(f"bird {n}" for n in range(2, 10)), "wren"]),
        ("a.txt", "1: crow\n0: wren\n", ["wren", "crow"]),
        ("a.txt", "Airbus 320\nBoeing 707\n", ["Airbus 320", "Boeing 707"]),
        ("a.txt", "class 0\nclass 1\n", ["class 0", "class 1"]),
        ("a.json", '["tench", "n01443537 goldfish"]', ["tench", "n01443537"]),
        ("a.json", '{"b": "tench", "a": "goldfish"}', {"b": "tench", "a": "goldfish"}),
        ("a.json", '{"0": ["n01440764", "tench"]}', {"0": "n01440764"}),
        ("a.csv", 'label,name\nx,"tench, Tinca tinca"\ny,cat\n', {"x": "tench, Tinca tinca", "y": "cat"}),
        ("a.csv", "x,tench\n\ny,cat\n", {"x": "tench", "y": "cat"}),
        ("a.TSV", "Label\tName\nx\ttench, fish\n", {"x": "tench, fish"}),
    ],
)  # fmt: skip
def test_what_name_files_say(tmp_path: Path, name: str, text: str, names: Names) -> None:
    assert read(tmp_path, name, text) == names


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "found '' as the name of line 1"),
        ("a.txt", "cat\n\ndog", "found '' as the name of line 2"),
        ("a.txt", "cat\nd\x00g", "as the name of line 2; wanted a text without control characters"),
        ("a.txt", b"caf\xe9", "not UTF-8"),
        ("a.md", "cat", "found a file that ends in '.md'; wanted .txt, .json, .csv or .tsv"),
        ("a.json", "{", "no JSON"),
        ("a.json", "[" * 100_000, "no JSON"),
        ("a.json", "7", "found a int"),
        ("a.json", '{"tench": 0}', "found 0 as the name of label 'tench'"),
        ("a.json", '["cat", null]', "found None as the name of entry 1"),
        ("a.json", '[["cat", "feline"]]', r"found \['cat', 'feline'\] as the name of entry 0"),
        ("a.json", r'["\ud800"]', "without control characters"),
        ("a.json", '{"a": "cat", "a ": "dog"}', "found label 'a' twice"),
        ("a.csv", "a,cat\na,dog\n", "found label 'a' twice"),
        ("a.csv", "a,tench, Tinca tinca\n", "found 3 fields in line 1"),
        ("a.csv", 'a,"tench\n', "no CSV"),
        ("a.csv", "a, \n", "found ' ' as the name of label 'a'"),
    ],
)
def test_what_name_files_must_not_say(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, name, text)


def test_a_name_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_name_file(tmp_path / "none.txt")


def named(labels: list[str], given: Names | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = names_of_classes(labels, given, source=SOURCE)
    return found.names, found.notes


def test_without_a_file_labels_are_names_unless_they_are_numbers() -> None:
    assert named(["n01440764", "cat"], None) == (("n01440764", "cat"), ())
    names, notes = named(["0", "10"], None)
    assert names == ("cls0", "cls10")
    assert "nothing can be matched with WordNet" in notes[0]


def test_the_name_of_a_number_is_no_noun_though_the_number_is_one() -> None:
    assert all(synsets_of_class_names(["0", "1", "10"]))
    names, _ = named([str(number) for number in range(1000)], None)
    assert not any(synsets_of_class_names(names))


def test_a_list_names_classes_in_their_order() -> None:
    assert named(["airfield", "hotel"], ["runway", "inn"]) == (("runway", "inn"), ())
    assert named(["hot_dog", "cat"], ["Hot Dog", "tabby"])[0] == ("Hot Dog", "tabby")


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        (
            ["airfield", "hotel"],
            ["hotel", "airfield"],
            "'hotel' as name 1, where class 1 of the data set is 'airfield'",
        ),
        (["a", "hot_dog", "b"], ["x", "b", "Hot Dog"], "'b' as name 2, where class 2 .*'hot_dog' and class 3 is 'b'"),
        (["n01440764", "n01443537"], ["n01443537", "n01440764"], "'n01443537' as name 1"),
        (
            ["n02084071", "n02121620", "n02958343", "n99999999"],
            ["cat", "car", "dogs", "dog"],
            "found 4 names that mean the label of another class, 0 that mean their own: 'cat' is name 1, and class 2 "
            "of the data set is 'n02121620'",
        ),
        (
            ["car", "cat", "dog"],
            ["n02084071", "n02121620", "n02958343"],
            "2 names .*, 1 that mean their own: 'n02084071",
        ),
        (
            ["10", "8", "9"],
            ["x", "y", "z"],
            "labels are in the order 10, 8, 9, and by their numbers in another, 8, 9, 10",
        ),
    ],
)
def test_a_list_of_another_order_is_refused(labels: list[str], given: list[str], message: str) -> None:
    with pytest.raises(MismatchError, match=message) as raised:
        named(labels, given)
    assert raised.value.remedy == 'Write a mapping: a .json of {"label": "name"}, or a .csv of label,name.'
    assert raised.value.thing == "names.txt"


MAP = 'Write a mapping: a .json of {"label": "name"}, or a .csv of label,name.'


@pytest.mark.parametrize(
    ("labels", "given", "found", "remedy"),
    [
        (
            ["a", "b"],
            ["x"],
            "a list of 1 name for 2 classes: a, b; 1 name is missing",
            "Add a line for each class that",
        ),
        (["a", "b", "c"], ["x"], "a list of 1 name for 3 classes: a, b, c; 2 names are missing", "Add a line for each"),
        (["0", "1", "2"], ["x"], "a list of 1 name for 3 classes: 0, 1, 2; 2 names are missing", "Add a line for each"),
        (
            ["a", "b"],
            ["x", "y", "z"],
            "3 names for 2 classes: a, b; 1 name is too many",
            f"Take out names of no class. {MAP}",
        ),
        (["0", "1"], list("wxyz"), "4 names for 2 classes: 0, 1; 2 names are too many", "Take out names of no class."),
    ],
)
def test_a_list_of_another_length_says_how_many_are_missing(
    labels: list[str], given: list[str], found: str, remedy: str
) -> None:
    with pytest.raises(MismatchError) as raised:
        named(labels, given)
    assert found in raised.value.found
    assert raised.value.remedy.startswith(remedy)


def test_words_in_the_order_of_wnids_are_taken_though_a_word_may_mean_another_class() -> None:
    # ImageNet has two classes called crane, a bird and a machine.
    labels = ["n02012849", "n02084071", "n03126707"]
    assert named(labels, ["crane", "dog", "crane"])[0] == ("crane", "dog", "crane")


def test_numbers_are_places_in_a_list_that_ends_with_the_last_of_them() -> None:
    eleven = [f"name {number}" for number in range(11)]
    names, notes = named(["0", "1", "10", "2"], eleven)
    assert names == ("name 0", "name 1", "name 10", "name 2")
    assert notes == ("7 names of names.txt have no class: name 3, name 4, name 5, name 6, name 7 and 2 more",)


def test_numbers_from_one_on_take_a_list_in_their_order() -> None:
    assert named(["1", "2", "3"], ["x", "y", "z"])[0] == ("x", "y", "z")


ORDERED = [f"name {number}" for number in range(12)]


@pytest.mark.parametrize(
    "labels",
    [
        [f"class_{number}" for number in range(12)],
        [f"c{number}" for number in range(12)],
        [f"class {number}" for number in range(12)],
        [f"{number}_x" for number in range(12)],
        [f"n{number:02}" for number in range(12)],
        [f"{number}.0" for number in range(12)],
        [f"v1.{number} b" for number in range(12)],
        [f"{'Class' if number % 2 else 'class'}{'_-'[number % 2]}{number}" for number in range(12)],
        [f"class_{number}" for number in (0, 3, 10, 11)],
        [f"class_{number:03}" for number in (0, 3, 11)],
    ],
    ids=lambda labels: labels[-1],
)
def test_a_list_is_given_to_numbered_labels_by_their_numbers(labels: list[str]) -> None:
    names, notes = named(sorted(labels), ORDERED)
    wanted = dict(
        zip(labels, (ORDERED[int(re.findall(r"\d+", label.removesuffix(".0"))[-1])] for label in labels), strict=True)
    )
    assert dict(zip(sorted(labels), names, strict=True)) == wanted
    assert "names were given to classes by their number: " in notes[-1]


@pytest.mark.parametrize(
    "labels",
    [
        [f"{number}_{letter}" for number, letter in enumerate("abcdefghijkl")],
        [f"{letter}{11 - number}" for number, letter in enumerate("abcdefghijkl")],
        [f"{'train' if number % 2 else 'test'}_{number}" for number in range(12)],
        [f"class_{number}" for number in range(1, 13)],
        [f"class_{number}" for number in (1, 5, 7, 10, 12, 17, 20, 23, 25, 29, 31, 90)],
        [f"class_{number:x}" for number in range(5, 17)],
        [f"0x{number:x}" for number in range(5, 17)],
        [f"{number}" for number in range(-6, 6)],
        [f"{number / 2}" for number in range(15, 27)],
        [f"{10 ** (12 * number)}0" for number in range(1, 12)] + ["9"],
        ["1", "01", *map(str, range(2, 12))],
        [f"class {word}" for word in numbering.WORDS[1:13]],
        [f"Type-{numeral.upper()}" for numeral in numbering.ROMAN[1:13]],
    ],
    ids=lambda labels: labels[-1],
)
def test_a_list_for_labels_whose_numbers_put_them_in_another_order_is_refused(labels: list[str]) -> None:
    with pytest.raises(MismatchError, match=r"labels are in the order .* by their numbers in another"):
        named(sorted(labels), ORDERED)
    assert named(sorted(labels), dict(zip(labels, ORDERED, strict=True)))[0][0] == ORDERED[labels.index(min(labels))]


def test_padded_hexadecimal_numbers_take_a_list_in_their_order() -> None:
    labels = [f"class_{number:02x}" for number in range(5, 17)]
    assert dict(zip(labels, named(labels, ORDERED)[0], strict=True)) == dict(zip(labels, ORDERED, strict=True))


def test_a_list_of_the_labels_themselves_is_taken_whatever_their_numbers() -> None:
    labels = sorted(f"{number}_x" for number in range(1, 13))
    assert named(labels, [label.replace("_", " ") for label in labels])[1] == ()


def test_numbers_that_may_count_from_zero_or_from_one_are_refused() -> None:
    with pytest.raises(MismatchError, match="least number is 1, and whose greatest is 11"):
        named([f"class_{number:02}" for number in range(1, 12)], ORDERED)


def test_a_mapping_names_every_class_and_the_rest_is_said() -> None:
    names, notes = named(["b", "a"], {"a": "cat", "b": "dog", "c": "cow"})
    assert names == ("dog", "cat")
    assert notes == ("1 label of names.txt is no class of the data set: c",)
    with pytest.raises(MismatchError, match="found no name for 2 of 3 classes: x, y"):
        named(["x", "a", "y"], {"a": "cat"})


def test_classes_of_one_name_are_said() -> None:
    assert named(["a", "b", "c"], ["crane", "maillot", "crane"])[1] == ("2 classes are called 'crane': a, c",)
