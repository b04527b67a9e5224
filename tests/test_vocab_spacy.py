"""The labeler over spaCy, with a pipeline small enough to read in place of a trained one."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from vocab import labeler, plain, spacy_labeler, wordnet
from vocab.errors import InputError, MissingRequirementError

spacy = pytest.importorskip("spacy", reason="needs spaCy: pip install 'open-catlip[spacy]'")

from spacy.language import Language  # noqa: E402 - after the skip

NOUNS = {"dog", "dogs", "sofa", "retriever", "retrievers", "run", "not", "hot", "york", "t"}


@Language.component("tests_tag_listed_nouns")
def tag_listed_nouns(doc: Any) -> Any:
    """NOUN for the words of a list, PROPN for capitals, X for all else."""
    for token in doc:
        token.pos_ = "NOUN" if token.lower_ in NOUNS else "PROPN" if token.is_title else "X"
    return doc


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a pipeline, as spaCy keeps a trained one."""
    nlp = spacy.blank("en")
    nlp.add_pipe("tests_tag_listed_nouns")
    folder = tmp_path_factory.mktemp("spacy") / "model"
    nlp.to_disk(folder)
    return str(folder)


def names(model: str, *captions: str | None) -> list[set[str]]:
    nouns = wordnet.load()
    lists = spacy_labeler.load(model).label(pa.array(captions, pa.string())).to_pylist()
    return [{nouns.name_of(nouns.row_of(synset)) for synset in synsets} for synsets in lists]


CAPTIONS = {
    # nouns are what spaCy says
    "a dog and a cat on a sofa": "dog.n.01 sofa.n.01",
    "they run": "",
    # and so are names, which have a label only if WordNet has that individual, and no other name is beside
    "the Cat": "",
    "a dog in Paris": "dog.n.01 paris.n.01",
    "a dog and Paris Rome": "dog.n.01",
    # words, lemmas, nouns of several words and senses are ours
    "two dogs": "dog.n.01",
    "Two golden retrievers": "golden_retriever.n.01",
    "a traffic light and a hot sofa": "sofa.n.01",
    "new york": "new_york.n.01",
    "ice-cream": "ice_cream.n.01",
    # also what is cleaned away, and which captions are English
    "<b>dog</b>&amp;sofa": "dog.n.01 sofa.n.01",
    "un Dog noir": "",
    "": "",
    " \t": "",
    "\x7f犬🐶": "",
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_a_caption_gets_the_synsets_of_what_spacy_calls_nouns(model: str, caption: str) -> None:
    assert names(model, caption) == [set(CAPTIONS[caption].split())]


def test_a_batch_is_labelled_like_its_captions(model: str) -> None:
    batch = ["a dog", None, "", "un chien noir", "in Paris", "a dog's sofa"]
    assert names(model, *batch) == [{"dog.n.01"}, set(), set(), set(), {"paris.n.01"}, {"dog.n.01", "sofa.n.01"}]
    assert names(model) == []


def test_labels_are_lists_of_int32_unique_and_ascending(model: str) -> None:
    labels = spacy_labeler.load(model).label(pa.array(["sofa dog sofa dogs", None]))
    assert labels.type == pa.list_(pa.int32())
    assert labels.to_pylist() == [[2084071, 4256520], []]


@pytest.mark.parametrize(
    ("text", "nouns"),
    [
        # the token at the last letter counts: spaCy's can|not, our cannot
        ("cannot dog", {"cannot", "dog"}),
        # one token, two words
        ("dog_t", set()),
        ("dog's sofa", {"dog", "sofa"}),
        ("(dog) ...sofa!", {"dog", "sofa"}),
        ("  dog\n\nsofa ", {"dog", "sofa"}),
        ("x", set()),
    ],
)
def test_a_word_has_the_tag_of_the_token_at_its_last_letter(model: str, text: str, nouns: set[str]) -> None:
    nlp = spacy_labeler.load(model).nlp
    words = plain.find_words(labeler.load().tagger, text)
    tags = spacy_labeler.tags_of(nlp(text), words)
    assert {word.text for word, tag in zip(words, tags, strict=True) if tag == "NOUN"} == nouns


def test_a_megabyte_of_text_is_labelled(model: str) -> None:
    assert names(model, "dog" + " " * 1_100_000 + "sofa") == [{"dog.n.01", "sofa.n.01"}]


def test_the_fingerprint_names_what_the_labels_depend_on(model: str) -> None:
    loaded = spacy_labeler.load(model)
    assert loaded.tools == f"spacy {spacy.__version__} en_pipeline 0.0.0"
    assert re.fullmatch("[0-9a-f]{64}", loaded.fingerprint)
    assert loaded.fingerprint != labeler.load().fingerprint


def test_a_pipeline_without_parts_of_speech_is_refused(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path)
    with pytest.raises(InputError, match=r"found no parts of speech from its components \(sentencizer\)"):
        spacy_labeler.load(str(tmp_path))


def test_a_missing_pipeline_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(MissingRequirementError) as error:
        spacy_labeler.load("en_core_web_zz")
    assert error.value.thing == "spaCy pipeline en_core_web_zz"
    assert error.value.remedy == "Run: python -m spacy download en_core_web_zz"


def test_a_folder_without_a_pipeline_is_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(MissingRequirementError, match="Run: python -m spacy download en_core_web_sm"):
        spacy_labeler.load(str(tmp_path))


def test_without_spacy_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingRequirementError, match=r"package spacy.*Run: pip install 'open-catlip\[spacy\]'"):
        spacy_labeler.load.__wrapped__("en_core_web_sm")
