"""Several processes under torchrun: the same curve whatever their number, and stops that all of them agree on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.test_trainer_corpus import Corpus, command, losses, make_corpus
from trainer.config import PretrainConfig
from trainer.pretrain import pretrain

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
# Everything random that the model has.
RANDOM: dict[str, Any] = {"drop_path": 0.3, "patch_keep": 0.5, "range_augment": "narrow"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def torchrun(config: PretrainConfig, processes: int, *options: str) -> list[str]:
    return [*TORCHRUN, *options, "--nproc-per-node", str(processes), "-m", "trainer", *command(config)]


def run(config: PretrainConfig, processes: int) -> None:
    done = subprocess.run(torchrun(config, processes), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def wait_for(path: Path, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def alone(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process's run."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    assert pretrain(corpus.config(out, **RANDOM)) == 0
    return out


@pytest.mark.parametrize(
    ("processes", "options"), [(2, {}), (4, {}), (2, {"parallel": "fsdp"}), (2, {"accumulate": 2})]
)
def test_the_same_global_batch_gives_the_same_curve(
    corpus: Corpus, alone: Path, tmp_path: Path, processes: int, options: dict[str, Any]
) -> None:
    run(corpus.config(tmp_path / "run", **RANDOM, **options), processes)
    assert losses(tmp_path / "run") == pytest.approx(losses(alone), rel=1e-4)
    one, other = (json.loads((place / "results.json").read_text()) for place in (alone, tmp_path / "run"))
    assert other["processes"] == processes
    assert other["training_account"] == one["training_account"]
    assert other["evaluation"]["macro"] == pytest.approx(one["evaluation"]["macro"], rel=1e-3)


def test_a_sharded_run_is_continued_by_one_process(corpus: Corpus, tmp_path: Path) -> None:
    options: dict[str, Any] = {**RANDOM, "steps": 300, "batch_size": 12, "checkpoint_every": 4, "log_every": 10}
    config = corpus.config(tmp_path / "run", parallel="fsdp", **options)
    with subprocess.Popen(torchrun(config, 2), stderr=subprocess.DEVNULL, start_new_session=True) as process:
        wait_for(tmp_path / "run" / "checkpoints" / "step-00000008", process)
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)
    (newest, *_) = sorted((tmp_path / "run" / "checkpoints").iterdir(), reverse=True)
    assert len(list(newest.glob("model-*-of-00002.safetensors"))) == 2
    assert 8 <= int(newest.name[5:]) < 300
    assert pretrain(config) == 0
    assert pretrain(corpus.config(tmp_path / "whole", **options)) == 0
    # Sums in another order, over some hundred steps.
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=1e-2)


@pytest.mark.parametrize("whom", ["one rank", "everybody"])
def test_sigterm_stops_all_ranks_at_the_same_step(corpus: Corpus, tmp_path: Path, whom: str) -> None:
    config = corpus.config(tmp_path / "run", steps=4000, checkpoint_every=4000, log_every=1000, workers=1)
    with subprocess.Popen(torchrun(config, 2), stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_for(tmp_path / "run" / "environment.json", process)
        time.sleep(3)
        if whom == "everybody":
            os.killpg(process.pid, signal.SIGTERM)
        else:
            os.kill(rank_of(process.pid), signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert said.count("the same command continues from here") == 1
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    state = json.loads((checkpoint / "state.json").read_text())
    assert state["state"]["data"]["step"] == state["step"]


def rank_of(torchrun: int) -> int:
    """A process of torchrun's that trains."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == torchrun and b"trainer" in words:
                return int(entry.name)
    raise AssertionError("no rank is running")


def test_a_spike_on_several_ranks_names_the_samples_of_all(corpus: Corpus, tmp_path: Path) -> None:
    # A rate at which nothing stays a number.
    config = corpus.config(tmp_path / "run", steps=40, peak_lr=1e18, clip_norm=1e18, spike_factor=1e9)
    done = subprocess.run(torchrun(config, 2), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "spikes.jsonl").read_text().splitlines()]
    assert len(lines) == 1
    assert len(set(lines[0]["samples"])) == 8
