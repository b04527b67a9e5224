"""The demo's results.json has its two scores by names of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.corpus import make_corpus
from tests.processes import make
from trainer.pretrain import pretrain
from trainer.records.demo import name_scores
from trainer.records.record import Record, read_results, write_results
from vocab.errors import FormatError


def test_the_scores_stand_in_results_json_beside_what_was_there(tmp_path: Path) -> None:
    assert pretrain(make_corpus(tmp_path / "corpus").config(tmp_path / "run")) == 0
    before = json.loads((tmp_path / "run" / "results.json").read_text())
    scores = before["records"][0]["extra"]
    assert name_scores(tmp_path / "run") == f"demo_macro_map {scores['macro']:.3f}, demo_top1 {scores['top1']:.3f}"
    details = read_results(tmp_path / "run").details
    assert details == {**before["details"], "demo_macro_map": scores["macro"], "demo_top1": scores["top1"]}
    after = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {name: value for name, value in after.items() if name not in ("details", "own_sha256")} == {
        name: value for name, value in before.items() if name not in ("details", "own_sha256")
    }


def test_results_of_another_verb_and_a_folder_without_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"results\.json: found no readable file"):
        name_scores(tmp_path)
    record = Record("squares", "knn", "none", 100.0, 0, "top1", 0.5, 9, 1.0, {})
    write_results(tmp_path, [record], verb="probe", model="runs/b16")
    with pytest.raises(FormatError, match=r"found results of probe; wanted those of a pre-training run"):
        name_scores(tmp_path)


def test_make_demo_ends_with_them() -> None:
    planned = make("--dry-run", "demo", "OUT=out/runs/mine").stdout.splitlines()
    trained, scores, done = (
        next(number for number, line in enumerate(planned) if part in line)
        for part in ("trainer pretrain", ".venv/bin/python -m trainer.records.demo out/runs/mine", "Done. Open ")
    )
    assert trained < scores < done
