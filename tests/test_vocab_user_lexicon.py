"""A user's own words: the file, and what the labeler does with them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile_captions import HOSTILE, captions
from vocab import labeler, plain, user_tables
from vocab.empty_reasons import EmptyReason
from vocab.errors import InputError
from vocab.labelers import load_labeler
from vocab.user_lexicon import UserLexicon, lexicon_in, read_lexicon

TOY, FRANK, CAT, HAT, WOLF = 4461879, 7676602, 2121620, 3497657, 2114100

WORDS = """
# my own words
pikachu = toy.n.03
hot dog = frank.n.02      # the sausage
vintage =
light\t
crane\tn02121620
"""


def labels(lines: str, *texts: str) -> list[list[int]]:
    """Labels of some captions with the lexicon of these lines; the plain rule must agree."""
    ours = labeler.load_with(lexicon_in(lines, name="words.txt"))
    found: list[list[int]] = ours.label(pa.array(texts)).to_pylist()
    assert found == plain.label(ours, texts)
    return found


def refusal(lines: str | bytes, tmp_path: Path) -> str:
    """Message of the error that a file gives."""
    file = tmp_path / "words.txt"
    file.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    with pytest.raises(InputError) as refused:
        read_lexicon(file)
    return str(refused.value).replace(f"{tmp_path}/", "")


def test_a_line_is_words_and_a_synset_between_equals_or_a_tab() -> None:
    assert lexicon_in(WORDS, name="").entries == [
        ("crane", CAT), ("hot dog", FRANK), ("light", None), ("pikachu", TOY), ("vintage", None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        WORDS.replace("\n", "\r\n"),
        WORDS.replace("\n", "\r"),
        "\n".join(reversed(WORDS.split("\n"))),
        WORDS.replace("pikachu", "PIKACHU").replace("toy.n.03", "n04461879"),
        WORDS.replace("hot dog", "Hot-Dog").replace("frank.n.02", "Frank.n.2"),
        WORDS.replace("vintage =", "vintage = -"),
        WORDS + "pikachu = n04461879\n",
    ],
)
def test_files_that_mean_the_same_are_the_same_lexicon(other: str) -> None:
    assert lexicon_in(other, name="") == lexicon_in(WORDS, name="")


@pytest.mark.parametrize(
    "table",
    [
        "hot dog\tfrank.n.02\r\nac/dc\ttoy.n.03\r\nvintage\t\r\n",
        'Word,Synset\r\n"Hot Dog",FRANK.N.02\r\n"ac, ""dc""",toy.n.03\r\nvintage,\r\n',
        'word\tsynset\n"hot dog"\tfrank.n.02\t\nAC / DC\tN04461879\nVINTAGE\t-\n',
        'hot dog,"frank.n.02",,\nac/dc,toy.n.03,,\nvintage,,,\n',
    ],
)
def test_a_table_of_a_spreadsheet_is_a_lexicon(table: str) -> None:
    assert lexicon_in(table, name="").entries == [("ac/dc", TOY), ("hot dog", FRANK), ("vintage", None)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_file_is_utf8_in_any_normal_form_with_a_byte_order_mark_or_without(
    encoding: str, form: str, tmp_path: Path
) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes(unicodedata.normalize(form, "Pokémon = toy.n.03\n").encode(encoding))  # type: ignore[arg-type]
    assert read_lexicon(file).entries == [("pokemon", TOY)]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "words.txt: found no entry; wanted a line such as 'hot dog = frank.n.02'"),
        ("# nothing\n\n", "words.txt: found no entry"),
        ("dog\n", "line 1: found 'dog', without =, tab or comma"),
        ("\n\ndog;dog.n.01\n", "line 3: found 'dog;dog.n.01', without =, tab or comma"),
        ("dog,dog.n.01,a note\n", "line 1: found 'dog,dog.n.01,a note', without =, tab or comma"),
        ("vintage\n" + "," * 99_999, "line 1: found 'vintage'"),
        ("term,class\ndog,dog.n.01\n", "line 1: found 'class'; wanted a noun of WordNet 3.0"),
        ("dog = dog", "line 1: found 'dog'; wanted a noun of WordNet 3.0, as dog.n.01 or .*Did you mean dog.n.01"),
        ("dog = dog.n.99", "found 'dog.n.99'; wanted a noun of WordNet 3.0.*Did you mean dog.n.01"),
        ("x = golden_retreiver.n.01", "Did you mean golden_retriever.n.01"),
        ("run = run.v.01", "Labels are nouns"),
        ("dog = n00000001", "found 'n00000001'.*not that of 2.1, 3.1"),
        ("mouse = mouse.n.01, mouse.n.04", "line 1: found 2 synsets, 'mouse.n.01, mouse.n.04'; wanted one synset"),
        ("a = toy.n.03\nb =\nA = dog.n.01", "line 3: found 'A' again, as 'a' in words.txt, line 1: n04461879 and n020"),
        ("dog =\ndog = dog.n.01", "line 2: .*no label and n02084071; wanted one synset for the same words"),
        ("iphone 12 = toy.n.03\niphone 13 = dog.n.01", "any digit stands for all"),
        ("2019 = toy.n.03", "'2019', digits alone"),
        ("20/20 =", "'20/20', digits alone"),
        ("one two three four five = toy.n.03", "5 words; wanted one to 4 words"),
        (" = toy.n.03", "line 1: found '', in which captions would have no word"),
        ("http://a.example/b =", "in which captions would have no word"),
        ("日本 = toy.n.03", "'日本', with letters that are not Latin"),
        (b"caf\xe9 = toy.n.03", "line 1: found bytes that are not UTF-8"),
        ("dog = dog.n.01".encode("utf-16"), "found bytes that are not UTF-8"),
        ("x\x1b[31m\0 = \x1b[0m", "found '\\\\x1b\\[0m'"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_refused_by_its_number(lines: str | bytes, said: str, tmp_path: Path) -> None:
    import re

    assert re.search(said, refusal(lines, tmp_path)), refusal(lines, tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No such file.*wanted a file of words and synsets"):
        read_lexicon(tmp_path / "words.txt")


@pytest.mark.parametrize(
    "caption",
    [
        "pikachu", "Pikachu", "PIKACHU", "a pikachu", "two pikachus", "to pikachu", "Pikachu Jordan",
        "pikachu-shirted", "he will pikachu it", "Pikachu's", "light blue pikachu", "pikachu pikachu!",
    ],
)  # fmt: skip
def test_an_entry_is_found_whatever_stands_around_it(caption: str) -> None:
    assert TOY in labels(WORDS, caption)[0]


def test_any_word_can_be_an_entry() -> None:
    words = ["the", "running", "very", "zorbification", "xq", "q", "paris", "navy", "3d", "us", "der"]
    captions = [form for word in words for form in (word, f"a {word}", word.upper())]
    assert labels("".join(f"{word} = toy.n.03\n" for word in words), *captions) == [[TOY]] * 33


def test_an_entry_wins_over_the_built_in_one() -> None:
    assert labels("hoodie = hat.n.01\ndog = cat.n.01", "a hoodie", "dogs") == [[HAT], [CAT]]


def test_an_entry_of_several_words_is_one_noun() -> None:
    lines = "zorf quux = hat.n.01\nblorf zorf quux zap = toy.n.03"
    assert labels(lines, "a zorf quux", "Zorf-Quuxs", "BLORF zorf quux zap", "zorf, quux") == [[HAT], [HAT], [TOY], []]


def test_an_entry_without_a_synset_takes_its_words_out() -> None:
    assert labels("hot dog =\nlight =", "a hot dog", "hot dogs", "lights", "a dog") == [[], [], [], [2084071]]


def test_the_longer_noun_wins_and_among_equals_the_users() -> None:
    """`dog` says nothing of a hot dog, which is a noun of its own."""
    assert labels("dog = cat.n.01", "a hot dog") == [[7697537]]
    assert labels("york city = hat.n.01", "york city") == [[HAT]]
    assert labels("stand cat = hat.n.01", "a hot dog stand cat")[0][0] == HAT


def test_built_in_words_that_are_no_noun_do_not_stand_in_the_way() -> None:
    assert labels("face = hat.n.01", "North Face jacket")[0][0] == HAT


def test_an_entry_with_a_sign_is_found_with_any() -> None:
    assert labels("AC/DC = toy.n.03", "AC/DC", "ac dc", "ac-dc") == [[TOY]] * 3
    assert labels("ac dc = toy.n.03", "AC/DC")[0] != [TOY]


def test_an_entry_is_found_in_its_plural() -> None:
    plurals = {
        "man": "men", "goose": "geese", "hand": "hands", "arm": "arms", "zorb": "zorbs", "blix": "blixes",
        "frobby": "frobbies", "zatch": "zatches", "zorbman": "zorbmen", "bobalo": "bobaloes", "dog": "dogs",
    }  # fmt: skip
    lines = "".join(f"{entry} = toy.n.03\nbig {entry} = hat.n.01\n" for entry in plurals)
    captions = [form for plural in plurals.values() for form in (plural, f"big {plural}")]
    assert labels(lines, *captions) == [[TOY], [HAT]] * 11


def test_a_plural_that_means_something_else_keeps_its_meaning() -> None:
    spectacles = 4272054
    assert labels("glass = toy.n.03", "glasses") == [[spectacles]]
    assert labels("glass = toy.n.03\nglasses = hat.n.01", "glasses", "glass") == [[HAT], [TOY]]
    assert labels("new =", "the news") == labels("zorb =", "the news")
    assert labels("ha = toy.n.03", "he has") == [[]]


def test_a_word_that_the_tagger_does_not_know_reads_like_its_ending() -> None:
    base, ours = labeler.load(), labeler.load_with(lexicon_in("zorbification = toy.n.03", name=""))
    row, ending = ours.tagger.row_of["zorbification"], base.tagger.row_of["*tion"]
    assert "zorbification" not in base.tagger.row_of
    assert ours.tagger.profile_of[row] == base.tagger.profile_of[ending]
    assert ours.tagger.class_of[row] == base.tagger.class_of[ending]


def test_the_fingerprint_tells_lexicons_apart_and_stays_without_one() -> None:
    without = labeler.load().fingerprint
    prints = [labeler.load_with(lexicon_in(lines, name="")).fingerprint for lines in ("a b =", "a/b =", "b = toy.n.03")]
    assert len({without, *prints}) == 4
    assert load_labeler("catlip", lexicon=None).fingerprint == without
    assert labeler.load_with(lexicon_in("# x\nB = n04461879", name="")) is labeler.load_with(
        lexicon_in("b = toy.n.03", name="")
    )


def test_the_labeler_without_a_lexicon_is_untouched_by_one_with() -> None:
    texts = pa.array(["a hot dog on the light", "pikachu", "vintage cranes"])
    before = labeler.load().label(texts)
    labeler.load_with(lexicon_in(WORDS, name="")).label(texts)
    assert labeler.load().label(texts).equals(before)


def test_captions_without_an_entry_have_the_labels_of_before() -> None:
    texts = pa.array([text for text in HOSTILE if text is not None and "ight" not in text])
    ours = labeler.load_with(lexicon_in("zorbifier = toy.n.03\nblorf quux =", name=""))
    assert ours.label(texts).equals(labeler.load().label(texts))


def test_the_released_rule_refuses_a_lexicon_by_name() -> None:
    with pytest.raises(
        InputError, match=r"--lexicon: found given for labeler reference.*wanted labeler catlip or spacy"
    ):
        load_labeler("reference", lexicon=lexicon_in(WORDS, name=""))


def test_a_lexicon_comes_back_from_its_parquet_file(tmp_path: Path) -> None:
    lexicon = lexicon_in(WORDS + "AC/DC = dog.n.01\n", name="")
    lexicon.write(tmp_path / "lexicon.parquet")
    assert read_lexicon(tmp_path / "lexicon.parquet") == lexicon


def test_a_lexicon_of_many_entries_is_read_and_found() -> None:
    words = ["".join(chr(97 + number // 26**place % 26) for place in range(4)) for number in range(30_000)]
    lexicon = lexicon_in("".join(f"zq{word} = n{HAT:08d}\n" for word in words), name="")
    assert len(lexicon.entries) == 30_000
    assert labeler.load_with(lexicon).label(pa.array(["a zqaaaa", f"ZQ{words[-1]}"])).to_pylist() == [[HAT], [HAT]]


def test_more_words_than_the_tables_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_tables, "ROW_BITS", 18)
    lexicon = UserLexicon(
        "".join(f"zq{number:x}x zr{number:x}y zs{number:x}y zt{number:x}v\tn{HAT:08d}\n" for number in range(10_000))
    )
    with pytest.raises(InputError, match=r"--lexicon: found 50,000 words and plurals.*wanted at most 3\d,\d{3}\."):
        labeler.load_with(lexicon)


ENTRIES = (
    "dog", "hot dog", "ice", "ice cream", "cream", "cup of tea", "white house", "new york", "york city", "light",
    "golden", "golden retriever", "mouse", "running", "saw", "bank", "the", "zorbing", "close up", "a/s", "n", "dog of",
)  # fmt: skip
lexicons = st.dictionaries(
    st.sampled_from(ENTRIES), st.sampled_from(["", "dog.n.01", "cat.n.01", "red.n.01", "paris.n.01"]), min_size=1
).map(lambda pairs: lexicon_in("".join(f"{words} = {synset}\n" for words, synset in pairs.items()), name=""))


@settings(max_examples=10, deadline=None)
@given(lexicons, st.lists(captions.filter(lambda caption: caption is not None), max_size=12))
def test_any_batch_is_labelled_as_by_the_plain_rule_with_any_lexicon(lexicon: UserLexicon, batch: list[str]) -> None:
    ours = labeler.load_with.__wrapped__(lexicon)
    texts = [*batch, *(text for text in HOSTILE if text is not None)]
    found = ours.label_and_say_why(pa.array(texts, pa.string()))
    assert dict(zip(texts, found.synsets.to_pylist(), strict=True)) == dict(
        zip(texts, plain.label(ours, texts), strict=True)
    )
    why = [plain.why_empty(ours, plain.read(ours, text)) for text in texts]
    assert dict(zip(texts, found.why_empty.tolist(), strict=True)) == {
        text: -1 if reason is None else int(reason) for text, reason in zip(texts, why, strict=True)
    }


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("a dog", None),
        ("Sehr schöne Schuhe für Damen und Herren", EmptyReason.OTHER_LANGUAGE),
        ("very nice and cheap", EmptyReason.NO_NOUN),
        ("", EmptyReason.NO_NOUN),
        (None, EmptyReason.NO_NOUN),
        ("Jordan Henderson", EmptyReason.NAMES_ONLY),
        ("a vintage one", EmptyReason.LEXICON),
        ("a vintage dog", None),
    ],
)
def test_a_caption_without_a_label_has_a_reason(caption: str | None, reason: EmptyReason | None) -> None:
    ours = labeler.load_with(lexicon_in(WORDS, name=""))
    found = ours.label_and_say_why(pa.array([caption], pa.string()))
    assert found.why_empty.tolist() == [-1 if reason is None else int(reason)]
