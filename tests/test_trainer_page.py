"""The page: whole in one file, strangers' text escaped, a curve one can read."""

from __future__ import annotations

import re

import numpy as np
import torch

from tests.test_trainer_corpus import CAT, DOG
from trainer.evaluation import Evaluation
from trainer.metrics import report
from trainer.records.gallery import Guess, Picture
from trainer.records.page import loss_curve, page
from vocab.vocabulary import Vocabulary

VOCABULARY = Vocabulary(np.array([DOG, CAT], np.int32), np.array([1200, 34]), rows=5000, min_count=30)
RESULTS = {
    "parameters": 2_700_000,
    "classes": 2,
    "steps": 500,
    "images_seen": 64_000,
    "seconds": 200.0,
    "device": "cpu",
    "processes": 1,
    "training_account": {"samples": 64_100, "bad": 100},
    "evaluation_account": {"samples": 3},
}


def evaluation() -> Evaluation:
    logits = torch.tensor([[2.0, -1.0], [-2.0, 0.5], [0.0, 0.0]])
    offsets, positives = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1])
    numbers, precision = report(logits, offsets, positives, torch.tensor([1200.0, 34.0]))
    return Evaluation(numbers, precision, [(0, 0), (0, 1), (0, 2)], logits, offsets, positives, {}, [])


def html(caption: str = "a dog", key: str = "00000/000000001") -> str:
    shown = [
        Picture(key, "AAAA", caption, ["dog.n.01"], [Guess("dog.n.01", 0.88, True), Guess("cat.n.01", 0.27, False)])
    ]
    lines = [{"step": step, "loss": 9.0 / step} for step in range(1, 9)]
    return page(
        title="sample",
        lines=lines,
        vocabulary=VOCABULARY,
        result=evaluation(),
        results=RESULTS,
        shown=shown,
        model="vit_tiny_patch16_224",
    )


def test_captions_and_keys_cannot_carry_markup() -> None:
    text = html(caption='<script>alert(1)</script> & "quotes"', key="<img src=x onerror=alert(1)>")
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot;" in text


def test_nothing_is_fetched_from_elsewhere() -> None:
    links = re.findall(r'(?:src|href)="?([^" >]+)', html())
    assert links == ["data:image/jpeg;base64,AAAA"]
    assert "http" not in html()


def test_the_page_shows_the_numbers_the_guesses_and_the_vocabulary() -> None:
    text = html()
    assert "3 held-out images, in which 2 of the classes occur" in text
    assert "<b class=number>1.000</b><span>mean average precision</span>" in text
    assert "<b class=number>0.333</b><span>from class frequencies alone</span>" in text
    assert "<li class=right>dog.n.01 <span class=number>88%</span></li>" in text
    assert "<li>cat.n.01 <span class=number>27%</span></li>" in text
    assert "n02084071" in text
    assert "2 synsets seen in at least 30 of 5,000 captions" in text


def test_the_curve_falls_as_the_loss_does_and_its_axes_are_named() -> None:
    svg = loss_curve([(1, 10.0), (50, 5.0), (100, 2.5)])
    points = re.search(r'points="([^"]+)"', svg)
    assert points is not None
    places = [tuple(map(float, pair.split(","))) for pair in points[1].split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted(y for _, y in places)  # SVG counts downwards
    assert "loss, nats per image" in svg
    assert ">step<" in svg


def test_a_run_too_short_for_a_curve_says_so() -> None:
    assert "no curve" in loss_curve([(1, 3.0)])
