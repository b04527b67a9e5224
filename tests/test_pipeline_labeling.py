"""The library call, and what it makes of hostile captions."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Label
from pipeline.labeling import label_lists, with_synsets
from pipeline.labels import named_synsets, with_named
from vocab import labeler
from vocab.errors import InputError, MissingRequirementError
from vocab.labelers import load_labeler

DOG, CAT, SOFA = 2084071, 2121620, 4256520


@pytest.fixture
def wordnet_folder() -> Path:
    """WordNet's own files, for the labeler reference."""
    pytest.importorskip("nltk", reason="needs NLTK: pip install nltk ftfy")
    pytest.importorskip("ftfy", reason="needs ftfy: pip install nltk ftfy")
    folder = Path("/usr/share/wordnet")
    if not (folder / "index.sense").is_file():
        pytest.skip("needs WordNet's files: apt-get install wordnet-base wordnet-sense-index")
    return folder


def labels(*rows: list[bytes], limit: int = 100) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = label_lists(pa.array(rows, pa.list_(pa.binary())), limit).to_pylist()
    return result


def test_a_row_gets_the_union_of_its_captions() -> None:
    assert labels([b"a dog", b"dog and cat", b"nothing"])[0]["synsets"] == [DOG, CAT]


@pytest.mark.parametrize(
    ("captions", "reason"),
    [
        ([], "null_caption"),
        ([b"nan"], "missing_value"),
        ([b"NaN", b" None "], "missing_value"),
        ([b"<NA>", b"dog \xff"], "not_utf8"),
        ([b"dog \xff"], "not_utf8"),
        ([b"dog", b"\xed\xa0\x80"], "not_utf8"),
        ([b"dog " * 26], "caption_too_long"),
    ],
)
def test_a_row_that_cannot_be_labelled_says_why(captions: list[bytes], reason: str) -> None:
    before, bad, after = labels([b"dog"], captions, [b"cat"])
    assert bad == {"synsets": None, "reason": reason}
    assert (before["synsets"], after["synsets"]) == ([DOG], [CAT])


@pytest.mark.parametrize("captions", [[b""], [b"  \t"], [b"of the"]])
def test_a_caption_without_a_noun_is_empty_not_rejected(captions: list[bytes]) -> None:
    assert labels(captions) == [{"synsets": [], "reason": None}]


def test_the_text_of_a_missing_value_beside_a_caption_is_passed_over() -> None:
    assert labels([b"nan", b"a dog"], [b"a cat", b"NULL"], [b"nan", b""]) == [
        {"synsets": [DOG], "reason": None},
        {"synsets": [CAT], "reason": None},
        {"synsets": [], "reason": None},
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.one_of(st.binary(max_size=8), st.sampled_from([b"dog", b"cats", b"nan"])), max_size=3)))
def test_a_batch_equals_its_rows_one_by_one(rows: list[list[bytes]]) -> None:
    assert labels(*rows) == [labels(row)[0] for row in rows]


def test_with_synsets_adds_a_column_and_keeps_the_others(spark: Any) -> None:
    frame = spark.createDataFrame(
        [(1, "a couch", ["dogs"]), (2, None, ["cat", None]), (3, None, None)],
        "id int, title string, alts array<string>",
    )
    rows = with_synsets(frame, captions=("title", "alts")).orderBy("id").collect()
    assert [row.asDict() for row in rows] == [
        {"id": 1, "title": "a couch", "alts": ["dogs"], "synsets": [DOG, SOFA]},
        {"id": 2, "title": None, "alts": ["cat", None], "synsets": [CAT]},
        {"id": 3, "title": None, "alts": None, "synsets": None},
    ]


def test_spark_and_the_labeler_agree(spark: Any) -> None:
    captions = ["two Golden Retrievers", "", "hot dogs & mice", "ice-cream", "<b>sofa</b>"] * 20
    frame = spark.createDataFrame([(i, c) for i, c in enumerate(captions)], "id int, caption string")
    rows = with_synsets(frame, captions=("caption",)).orderBy("id").collect()
    assert [row["synsets"] for row in rows] == labeler.load().label(pa.array(captions)).to_pylist()


def test_a_missing_column_is_named_with_those_there_are(spark: Any) -> None:
    frame = spark.createDataFrame([("a",)], "text string")
    with pytest.raises(InputError, match="found columns text; wanted a column 'caption'") as error:
        with_synsets(frame, captions=("caption",))
    assert "--" not in str(error.value)


def test_a_column_of_numbers_holds_no_captions(spark: Any) -> None:
    frame = spark.createDataFrame([(1,)], "caption int")
    with pytest.raises(InputError, match="found type int") as error:
        with_synsets(frame, captions=("caption",))
    assert "--" not in str(error.value)


@pytest.mark.parametrize("captions", ["caption", (), None, (1,)])
def test_the_columns_are_names_in_a_tuple(captions: Any) -> None:
    with pytest.raises(InputError, match=r'found .*wanted the names of one or more columns.*captions=\("caption",\)'):
        with_synsets(None, captions=captions)  # type: ignore[arg-type]


def test_the_labeler_is_chosen_by_name(wordnet_folder: Path) -> None:
    rows = pa.array([[b"a couch", b"two dogs"], []], pa.list_(pa.binary()))
    reference = partial(load_labeler, "reference", wordnet=wordnet_folder, punkt="untrained")
    two = 13743269
    assert label_lists(rows, 100).to_pylist()[0]["synsets"] == [DOG, SOFA]
    assert label_lists(rows, 100, reference).to_pylist() == [
        {"synsets": [DOG, two], "reason": None},
        {"synsets": None, "reason": "null_caption"},
    ]


def test_workers_load_the_chosen_labeler(spark: Any, tmp_path: Path) -> None:
    """The pipeline's model tags everything as a noun, so that one labeler is told from the other."""
    spacy = pytest.importorskip("spacy", reason="needs spaCy: pip install 'open-catlip[spacy]'")
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("attribute_ruler")
    ruler.add(patterns=[[{"ORTH": {"REGEX": "."}}]], attrs={"POS": "NOUN"})
    nlp.to_disk(tmp_path / "model")
    frame = spark.createDataFrame([("they walk to a dog",)], "caption string")
    ours = with_synsets(frame, captions=("caption",)).collect()[0]["synsets"]
    model = str(tmp_path / "model")
    labelled = with_synsets(frame, captions=("caption",), labeler="spacy", spacy_model=model)
    theirs = labelled.collect()[0]["synsets"]
    assert ours == [DOG]
    assert DOG in theirs
    assert len(theirs) == 2


def test_a_labeler_that_is_not_there_is_named_before_the_job(spark: Any) -> None:
    frame = spark.createDataFrame([("a",)], "caption string")
    with pytest.raises(InputError, match="found 'nltk'; wanted catlip or spacy or reference"):
        with_synsets(frame, captions=("caption",), labeler="nltk")  # type: ignore[arg-type]
    with pytest.raises(MissingRequirementError, match=r"python -m spacy download en_core_web_zz|pip install"):
        with_synsets(frame, captions=("caption",), labeler="spacy", spacy_model="en_core_web_zz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacy_model": "x"}, "--spacy-model: found given for labeler catlip; wanted labeler spacy"),
        ({"wordnet": Path("x")}, "--wordnet: found given for labeler catlip; wanted labeler reference"),
    ],
)
def test_an_option_of_another_labeler_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Label(captions=("a.tsv",), out="labels", **options)


UNKNOWN = (
    "dog",
    "dog.n.99",
    "dog.n.0",
    "run.v.01",
    "v01926311",
    "n00000001",
    "n2084071",
    "207",
    "n02084071 x",
    "\udcff",
)


@pytest.mark.parametrize(
    ("text", "synsets"),
    [
        ("n02084071", [DOG]),
        (" n02084071\n", [DOG]),
        ("dog.n.01", [DOG]),
        ("Domestic_Dog.n.1", [DOG]),
        ("cat.n.01, n02084071 dog.n.01", [DOG, CAT]),
        ("['n02084071', \"cat.n.01\"]", [DOG, CAT]),
        ("n02084071;n02121620|", [DOG, CAT]),
        ("queen_anne's_lace.n.01 'hood.n.01", [8641944, 12937130]),
        *((text, "null_synset") for text in ("", " ", "nan", "[]", "None")),
        *((text, "unknown_synset") for text in UNKNOWN),
    ],
)
def test_synsets_that_a_row_names_are_nouns_of_wordnet(text: str, synsets: list[int] | str) -> None:
    rows = pa.array([[b"dog.n.01"], [text.encode("utf-8", "surrogateescape")], []], pa.list_(pa.binary()))
    before, row, after = named_synsets(rows).to_pylist()
    reason = synsets if isinstance(synsets, str) else None
    assert row == {"synsets": None if reason else synsets, "reason": reason}
    assert (before["synsets"], after["reason"]) == ([DOG], "null_synset")


@pytest.mark.parametrize(
    ("caption", "named", "result"),
    [
        ([b"a cat"], [b"dog.n.01"], [DOG, CAT]),
        ([b"a dog"], [b"dog.n.01"], [DOG]),
        ([b"nothing"], [b"dog.n.01"], [DOG]),
        ([b"nothing"], [], []),
        ([], [b"dog.n.01"], [DOG]),
        ([b"nan"], [b"dog.n.01"], [DOG]),
        ([b"a cat"], [b"x"], "unknown_synset"),
        ([b"\xff"], [b"dog.n.01"], "not_utf8"),
        ([], [], "null_caption"),
    ],
)
def test_synsets_of_captions_and_named_ones_are_joined(
    caption: list[bytes], named: list[bytes], result: list[int] | str
) -> None:
    captions, names = (pa.array([row, [b"cat.n.01"]], pa.list_(pa.binary())) for row in (caption, named))
    joined = with_named(label_lists(captions, 100), named_synsets(names), has_captions=True)
    reason = result if isinstance(result, str) else None
    assert joined[0].as_py() == {"synsets": None if reason else result, "reason": reason}
    assert named_synsets(names).equals(with_named(label_lists(captions, 100), named_synsets(names), has_captions=False))
