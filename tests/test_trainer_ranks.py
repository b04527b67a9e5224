"""Several processes under torchrun: the same curve whatever their number, and stops that all of them agree on."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.corpus import Corpus, command, losses, make_corpus
from tests.forks import Forks, torchrun, trainer
from trainer.pretrain import pretrain
from trainer.records.record import read_results

# Everything random that the model has.
RANDOM: dict[str, Any] = {"drop_path": 0.3, "patch_keep": 0.5, "range_augment": "narrow"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def alone(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process's run."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    assert pretrain(corpus.config(out, **RANDOM)) == 0
    return out


@pytest.mark.parametrize(
    ("processes", "options"),
    # Evaluations between steps: what they gathered of the averaged weights is in no step after them.
    [(2, {}), (4, {}), (2, {"parallel": "fsdp", "eval_every": 2}), (2, {"accumulate": 2})],
)
def test_the_same_global_batch_gives_the_same_curve(
    forks: Forks, corpus: Corpus, alone: Path, tmp_path: Path, processes: int, options: dict[str, Any]
) -> None:
    config = corpus.config(tmp_path / "run", **RANDOM, **options)
    forks.run(processes, tmp_path / "log", trainer, command(config))
    assert losses(tmp_path / "run") == pytest.approx(losses(alone), rel=1e-4)
    one, other = (read_results(run) for run in (alone, tmp_path / "run"))
    assert other.details["processes"] == processes
    assert other.details["training_account"] == one.details["training_account"]
    assert other.records[0].value == pytest.approx(one.records[0].value, rel=1e-3)


def stopped(words: list[str], after: int) -> None:
    """The trainer, each process of which gets SIGTERM in a step."""
    from trainer.step.step import Step

    whole = Step.take

    def take(self: Step, batch: Any, **given: Any) -> Any:
        if given["number"] == after:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, batch, **given)

    Step.take = take  # type: ignore[method-assign]
    trainer(words)


def test_a_sharded_run_is_continued_by_one_process(forks: Forks, corpus: Corpus, tmp_path: Path) -> None:
    options: dict[str, Any] = {**RANDOM, "steps": 16, "batch_size": 12, "checkpoint_every": 4, "log_every": 4}
    config = corpus.config(tmp_path / "run", parallel="fsdp", **options)
    group = forks.start(2, tmp_path / "log", stopped, command(config), 9)
    assert group.wait() == [143, 143], group.said()
    (newest, *_) = sorted((tmp_path / "run" / "checkpoints").iterdir(), reverse=True)
    assert len(list(newest.glob("model-*-of-00002.safetensors"))) == 2
    assert 8 <= int(newest.name[5:]) < 16
    assert pretrain(config) == 0
    assert pretrain(corpus.config(tmp_path / "whole", **options)) == 0
    # Sums in another order, over some steps.
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=1e-3)


def dying(words: list[str], rank: int, end: str) -> None:
    """The trainer, of which one rank comes to an end in its third step."""
    from trainer.step.step import Step

    whole = Step.take

    def take(self: Step, batch: Any, **given: Any) -> Any:
        if given["number"] == 3 and self.rank.index == rank:
            match end:
                case "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "memory":
                    torch.empty(1 << 50)
                case "interrupted":
                    raise KeyboardInterrupt
        return whole(self, batch, **given)

    Step.take = take  # type: ignore[method-assign]
    trainer(words)


@pytest.mark.parametrize(
    ("rank", "end", "status", "words"),
    [
        (0, "killed", -signal.SIGKILL, "a process that has ended or was killed"),
        (1, "memory", 2, "memory of rank 1: found "),
        (1, "interrupted", 130, "KeyboardInterrupt"),
    ],
)
def test_what_ends_a_rank_is_said_by_the_others(
    forks: Forks, corpus: Corpus, tmp_path: Path, rank: int, end: str, status: int, words: str
) -> None:
    group = forks.start(2, tmp_path / "log", dying, command(corpus.config(tmp_path / "run", steps=40)), rank, end)
    statuses = group.wait()
    assert (statuses[rank], statuses[1 - rank]) == (status, 2), group.said()
    assert re.search(rf"^error: rank {rank}: found {words}", group.said(), re.MULTILINE), group.said()
    assert "Traceback" not in group.said()


def test_a_place_that_cannot_be_written_ends_all_ranks_with_one_sentence(
    forks: Forks, corpus: Corpus, tmp_path: Path
) -> None:
    out = tmp_path / "file" / "run"
    out.parent.write_text("no folder")
    group = forks.start(2, tmp_path / "log", trainer, command(corpus.config(out)))
    assert group.wait() == [2, 2], group.said()
    assert re.fullmatch(r"error: \S+/file: found a file; wanted a folder for .*\n", group.said()), group.said()


def steps_of(run: Path) -> int:
    return len(losses(run)) if (run / "metrics.jsonl").exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize(("whom", "workers"), [("one rank", 0), ("everybody", 1)])
def test_sigterm_stops_all_ranks_at_the_same_step(
    forks: Forks, corpus: Corpus, tmp_path: Path, whom: str, workers: int
) -> None:
    config = corpus.config(tmp_path / "run", steps=4000, checkpoint_every=4000, workers=workers)
    words = ["--standalone", "--nproc-per-node", "2", "-m", "trainer", *command(config)]
    group = forks.start(1, tmp_path / "log", torchrun, words)
    group.wait_for(lambda: steps_of(tmp_path / "run") >= 3)
    if whom == "everybody":
        os.killpg(group.pids[0], signal.SIGTERM)
    else:
        os.kill(rank_of(group.pids[0]), signal.SIGTERM)
    # torchrun's own, for any end of its ranks but a good one.
    assert group.wait() == [1]
    assert group.said().count("the same command continues from here") == 1
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    state = json.loads((checkpoint / "state.json").read_text())
    assert state["state"]["data"]["step"] == state["step"]


def rank_of(parent: int) -> int:
    """A process of torchrun's that trains."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                its_parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if its_parent == parent and b"trainer" in words:
                return int(entry.name)
    raise AssertionError("no rank is running")


def test_a_spike_on_several_ranks_names_the_samples_of_all(forks: Forks, corpus: Corpus, tmp_path: Path) -> None:
    # A rate at which nothing stays a number.
    config = corpus.config(tmp_path / "run", steps=40, peak_lr=1e18, clip_norm=1e18, spike_factor=1e9)
    group = forks.start(2, tmp_path / "log", trainer, command(config))
    assert group.wait() == [2, 2], group.said()
    lines = [json.loads(line) for line in (tmp_path / "run" / "spikes.jsonl").read_text().splitlines()]
    assert len(lines) == 1
    assert len(set(lines[0]["samples"])) == 8
