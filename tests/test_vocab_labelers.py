"""The labelers by name: each is found, says what it is, and says what it lacks."""

from __future__ import annotations

import pickle
import re
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from vocab import labeler, labelers
from vocab.errors import InputError, MissingRequirementError
from vocab.labelers import load_labeler

DEBIAN_WORDNET = Path("/usr/share/wordnet")


def test_ours_is_the_default() -> None:
    assert load_labeler() is load_labeler("catlip") is labeler.load()
    assert load_labeler().name == "catlip"


def test_how_to_load_a_labeler_travels_as_its_name_and_options() -> None:
    load = partial(load_labeler, "catlip", spacy_model="x", wordnet=Path("y"))
    assert len(pickle.dumps(load)) < 300
    assert pickle.loads(pickle.dumps(load))() is labeler.load()  # noqa: S301 - our own bytes


def test_the_reference_labeler_is_found_with_its_options() -> None:
    pytest.importorskip("nltk", reason="needs NLTK: pip install nltk ftfy")
    pytest.importorskip("ftfy", reason="needs ftfy: pip install nltk ftfy")
    if not (DEBIAN_WORDNET / "index.sense").is_file():
        pytest.skip("needs WordNet's files: apt-get install wordnet-base wordnet-sense-index")
    reference = load_labeler("reference", wordnet=DEBIAN_WORDNET, punkt="untrained")
    assert reference.name == "reference"
    assert reference.label(pa.array(["a couch and a dog"])).to_pylist() == [[2084071]]
    assert reference.fingerprint != load_labeler().fingerprint


@pytest.mark.parametrize("name", ["catlip", "reference", "spacy"])
def test_a_fingerprint_is_a_sha256(name: labelers.LabelerName) -> None:
    try:
        fingerprint = load_labeler(name).fingerprint
    except MissingRequirementError as missing:
        pytest.skip(f"not installed: {missing.remedy}")
    assert re.fullmatch("[0-9a-f]{64}", fingerprint)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="found 'nltk'; wanted catlip or spacy or reference"):
        load_labeler("nltk")  # type: ignore[arg-type]


def test_our_own_labeler_needs_no_other_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("spacy", "nltk", "ftfy"):
        monkeypatch.setitem(sys.modules, package, None)
    assert load_labeler("catlip").label(pa.array(["dogs"])).to_pylist() == [[2084071]]
