"""The whole road in one test: captions -> label shards -> vocabulary -> two training steps, by the command lines."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.processes import cli
from vocab.store.label_shards import LabelShards
from vocab.vocabulary import Vocabulary


def run(room: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the project. The test fails with the command's output if the command fails."""
    result = cli(*arguments, room=room, **environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.mark.slow
def test_captions_become_labels_become_two_training_steps(tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="the pipeline extra is not installed")
    pytest.importorskip("torch", reason="the trainer extra is not installed")
    sample, labels, vocabulary, run_directory = (tmp_path / name for name in ("in", "labels", "v.parquet", "run"))

    run(
        "pipeline",
        "sample",
        "--out",
        sample,
        "--samples",
        120,
        "--samples-per-shard",
        40,
        "--size",
        48,
        "--processes",
        1,
    )
    (tmp_path / "tmp").mkdir()
    arguments = ("label", "--captions", sample, "--out", labels, "--master", "local[2]")
    said = run("pipeline", *arguments, TMPDIR=str(tmp_path / "tmp"))
    assert "120 rows" in said.stdout
    # Spark's own lines are in its log, which goes with a job that succeeds.
    assert all(line.startswith("labels  ") for line in re.split(r"[\r\n]+", said.stderr.strip())), said.stderr
    assert list((tmp_path / "tmp").iterdir()) == []
    run("pipeline", "prune", "--labels", labels, "--min-count", 2, "--out", vocabulary)
    run(
        *("trainer", "pretrain", "sample", "--images", sample, "--labels", labels, "--vocabulary", vocabulary),
        *("--out", run_directory, "--steps", 2, "--warmup-steps", 1, "--batch-size", 16, "--workers", 0),
        *("--eval-workers", 0, "--image-size", 32, "--log-every", 1),
    )

    from trainer.records.record import read_results  # torch is installed

    manifest = LabelShards.open(labels).manifest
    assert manifest.rows == 120 == manifest.labelled + manifest.empty + manifest.rejected
    results = read_results(run_directory)
    details = results.details
    assert details["steps"] == 2
    assert details["classes"] == len(Vocabulary.load(vocabulary)) > 10
    assert results.records[0].images + details["evaluation_account"].get("unmatched", 0) <= 40
    assert details["training_account"].get("bad", 0) == 0
    page = (run_directory / "page.html").read_text()
    assert "mean average precision" in page
    assert "<script src" not in page
