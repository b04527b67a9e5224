"""The model card: strangers' text stays text, addresses stay at home, and the Hub can read the top."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.synsets import CAR, CAT, DOG
from trainer.records.card import Subject, front_matter, model_card, source_name
from trainer.records.record import Record, ResultsFile
from vocab.errors import InputError
from vocab.vocabulary import Vocabulary

VOCABULARY = Vocabulary(np.array([DOG, CAT, CAR], np.int32), np.array([50, 20, 5]), rows=1000, min_count=5)
EVALUATION = {
    "images": 13,
    "classes": 2,
    "macro": 0.5,
    "head": 0.75,
    "torso": 0.25,
    "tail": None,
    "micro": 0.625,
    "baseline_macro": 0.125,
    "baseline_micro": 0.25,
    "top1": 0.375,
}
DETAILS: dict[str, Any] = {
    "parameters": 5000,
    "device": "cuda",
    "processes": 8,
    "training_account": {"samples": 48, "bad": 2, "unmatched": 0, "unlabelled": 9, "surplus_labels": 1},
}
RESULTS = ResultsFile(
    "pretrain",
    [Record("a | b", "pretrain", "random", 100.0, 0, "map_macro", 0.5, 13, 12.3, EVALUATION)],
    DETAILS,
)


def card(*, title: str = "cats", model: str = "vit_tiny_patch16_224", **changes: Any) -> str:
    config = {
        "model": {"model": model},
        "loss": {"loss": "bce"},
        "data": {"images": ["/home/me/cc3m/{0..3}.tar::/l"]},
        "optim": {"steps": 6},
    }
    subject = Subject(title, "moving average", 48, classifier=changes.pop("classifier", True))
    return model_card(subject, config, VOCABULARY, changes.pop("results", RESULTS), loading="Load it.\n")


def test_numbers_stand_beside_those_of_frequencies_alone() -> None:
    text = card()
    assert "| mean average precision, mean of classes | 0.500 |" in text
    assert "| the same from class frequencies alone | 0.125 |" in text
    assert "| images whose most probable class is one of their labels | 37.50% |" in text
    assert "| tail: least frequent third | none |" in text
    assert "| samples trained on | 48 |" in text
    assert "| without a class of the vocabulary | 9 |" in text
    assert "\nLabels were mined from the captions of the pictures; nobody " in text
    assert "3 WordNet 3.0 noun synsets, each in at least 5 of 1,000 captions" in text
    assert "dog.n.01, cat.n.01, car.n.01" in text


def test_weights_that_were_not_evaluated_have_no_numbers() -> None:
    assert "These weights have not been evaluated." in card(results=None)


def test_a_card_of_features_is_not_one_of_a_classifier() -> None:
    text = card(classifier=False)
    assert "pipeline_tag: image-feature-extraction" in text
    assert "They are those of the classifier that was left out here." in text


def test_a_hostile_name_can_neither_end_the_front_matter_nor_mark_anything_up() -> None:
    hostile = (
        "x\n---\n# [go](https://evil.example) <script>alert(1)</script> www.evil.example | `rm` ![a](b) me@evil.example"
    )
    text = card(title=hostile, model=hostile)
    assert text.startswith("---\nlicense: other\nlibrary_name: timm\n")
    assert re.findall(r"^---$", text, flags=re.MULTILINE) == ["---", "---"]
    assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1
    for mark in ("<script", "](", "https://", "www.", "`rm", "![", "me@"):
        assert re.search(r"(?<!\\)" + re.escape(mark), text) is None, mark


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("/home/me/cc3m/{00000..00331}.tar", "cc3m/{00000..00331}.tar"),
        ("s3://bucket/a/b/{0..9}.tar::s3://bucket/labels", "b/{0..9}.tar"),
        ("https://user:token@host/a/b.tar?signature=secret", "a/b.tar"),
        ("pipe:curl -H token https://host/x", "a command"),
        ("https://host", ""),
        ("x.tar", "x.tar"),
    ],
)
def test_of_an_address_the_last_two_parts_are_shown(source: str, wanted: str) -> None:
    assert source_name(source) == wanted


@pytest.mark.parametrize("licence", ["", "a: b", "x\ny", "Apache 2.0", "[link](x)"])
def test_a_licence_that_is_no_name_is_refused(licence: str) -> None:
    with pytest.raises(InputError, match=r"For example apache-2\.0"):
        front_matter(licence=licence, tags=[], labelled=True)
