"""The pipeline's command line: its verbs, its help, and errors without a stack trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.labels import label_table
from tests.processes import called, cli
from vocab.store.label_writing import write_label_shards


def test_help_lists_the_verbs() -> None:
    said = cli("--help").stdout
    assert all(verb in said for verb in ("label", "prune", "sample"))
    assert "columns of captions" in called("label", "--help").stdout


def test_prune_says_what_it_kept(tmp_path: Path) -> None:
    write_label_shards(tmp_path / "labels", label_table(("0", "a", [2084071])), labeler="x", fingerprint="y")
    result = called("prune", "--labels", tmp_path / "labels", "--min-count", 1, "--out", tmp_path / "v.parquet")
    said = f"{tmp_path}/v.parquet: 1 class seen in at least 1 of 1 caption, 1.00 labels per caption\n"
    said += "few classes for a model to tell apart: more captions would give more\n"
    assert result.stdout == said, result.stderr
    preview = called("prune", "--labels", tmp_path / "labels")
    assert preview.stdout.split() == "V_tau classes labels per caption 1 1 1.00".split(), preview.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune", "--labels", "nowhere", "--min-count", "1", "--out", "nowhere/v.parquet"], "found no manifest.json"),
        (["label", "--captions", "x", "--out", "y", "--max-caption-bytes", "0"], "--max-caption-bytes: found 0"),
        (["label", "--captions", "x", "--out", "y", "--columns", "a", "--format", "jsonl"], "--columns: found given"),
        (["sample", "--out", "nowhere", "--size", "1"], "size"),
    ],
)
def test_an_error_is_one_line_and_status_2(arguments: list[str], message: str) -> None:
    result = called(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    write_label_shards(tmp_path / "labels", label_table(("0", "a", [2084071])), labeler="x", fingerprint="y")
    (tmp_path / "file").write_text("")
    result = called(
        "prune", "--labels", tmp_path / "labels", "--min-count", 1, "--out", tmp_path / "file" / "v.parquet"
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {tmp_path}/file: found a file; wanted a folder for ")
    assert result.stderr.count("\n") == 1


def test_without_java_the_job_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tsv").write_text("caption\ndog\n")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    result = called("label", "--captions", tmp_path / "a.tsv", "--out", tmp_path / "labels")
    assert result.returncode == 2
    assert "Java: found none; wanted version 17 or newer" in result.stderr
    assert not (tmp_path / "labels").exists()


def test_vocab_build_without_wordnet_says_where_to_get_it(tmp_path: Path) -> None:
    result = called("build", "--wordnet", tmp_path, "--out", tmp_path / "x.npz", room="vocab")
    assert result.returncode == 2
    assert "apt-get install wordnet-base" in result.stderr
