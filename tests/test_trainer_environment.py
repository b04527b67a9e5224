"""What a run was started on: every start is kept, nothing secret is, and a checkout that is not ours is not named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainer.distributed import Rank
from trainer.records.environment import driver, environment, git, processor, read_starts, record_start, variables
from vocab.errors import FormatError

HERE = Rank(0, 1, torch.device("cpu"))


def test_every_start_is_kept_in_order(tmp_path: Path) -> None:
    for step in (0, 40):
        record_start(tmp_path, environment(HERE, step=step))
    first, second = json.loads((tmp_path / "environment.json").read_text())
    assert (first["step"], second["step"]) == (0, 40)
    assert first["versions"]["torch"] == second["versions"]["torch"]
    assert first["processes"] == 1
    assert first["device"] == "cpu"
    assert first["machine"]["cores"] >= 1
    assert first["machine"]["memory_bytes"] > 1 << 28
    assert first["started"].endswith("+00:00")
    assert [path.name for path in tmp_path.iterdir()] == ["environment.json"]


SEALED = f'[{{"step": 0, "own_sha256": "{"0" * 64}"}}]'.encode()


@pytest.mark.parametrize("content", [b'[{"step": 0', b'{"step": 0}', b"[1]", b"\xff", b"[" * 100_000, SEALED])
def test_a_damaged_file_stops_no_run_and_is_put_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "environment.json").write_bytes(content)
    with pytest.raises(FormatError, match=r"environment\.json: found (something other|content that does not match)"):
        read_starts(tmp_path)
    record_start(tmp_path, {"step": 1})
    assert "environment.json: found" in capsys.readouterr().err
    assert read_starts(tmp_path) == [{"step": 1}]
    assert (tmp_path / "environment.damaged.json").read_bytes() == content


def test_the_command_line_is_written_down_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--images", "https://me:word@host/0.tar?X-Amz-Signature=abc", "pipe:curl -H 'Token: abc' https://h/0.tar"]
    monkeypatch.setattr(sys, "argv", ["trainer", "pretrain", "sample", *words])
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abc-secret")
    found = environment(HERE, step=0)
    assert found["command"] == ["pretrain", "sample", "--images", "https://host/0.tar?...", "pipe:..."]
    assert found["variables"]["NCCL_DEBUG"] == "INFO"
    assert "abc-secret" not in json.dumps(found)
    assert os.uname().nodename not in json.dumps(found["machine"])


def test_variables_that_change_results_are_kept_and_no_tokens() -> None:
    given = {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "OMP_NUM_THREADS": "4",
        "TORCH_LOGS": "https://me:word@h/x",
        "TORCHINDUCTOR_CACHE_DIR": "/tmp/a",
        "TORCH_SECRET": "x",
        "TORCH_API_TOKEN": "x",
        "HOME": "/home/me",
        "XCUDA_VISIBLE_DEVICES": "1",
    }
    assert variables(given) == {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "OMP_NUM_THREADS": "4",
        "TORCH_LOGS": "https://h/x",
        "TORCHINDUCTOR_CACHE_DIR": "/tmp/a",
    }


def test_the_commit_and_whether_files_were_changed(tmp_path: Path) -> None:
    package = tmp_path / "trainer"
    package.mkdir()
    (package / "a.py").write_text("1")
    run = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*run, *words], check=True)
    clean = git(package)
    assert len(clean["commit"]) == 40
    assert clean["changed"] is False
    (package / "a.py").write_text("2")
    assert git(package) == {"commit": clean["commit"], "changed": True}
    # A package installed inside somebody's checkout is no part of it.
    other = tmp_path / "venv" / "trainer"
    other.mkdir(parents=True)
    found = git(other)
    assert found["commit"] is None
    assert "did not match" in found["reason"]


def test_without_git_or_a_checkout_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not a git repository" in git(tmp_path)["reason"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git(tmp_path)["commit"] is None
    assert "git" in git(tmp_path)["reason"]


def test_what_the_system_does_not_tell_is_null(tmp_path: Path) -> None:
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:04:11 UTC 2025\nGCC version: 12\n"
    )
    (tmp_path / "open").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n"
    )
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC 7763\nmodel name\t: other\n")
    assert driver(tmp_path / "version") == "580.65.06"
    assert driver(tmp_path / "open") == "570.86.15"
    assert driver(tmp_path / "none") is None
    assert processor(tmp_path / "cpuinfo") == "AMD EPYC 7763"
    assert processor(tmp_path / "version") is None
    assert read_starts(tmp_path) == []
