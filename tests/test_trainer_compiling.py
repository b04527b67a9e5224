"""Training with --compile: the same losses, and nothing is compiled once training has begun."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.backbones import backbone
from tests.corpus import Corpus, command, losses, make_corpus
from tests.forks import Forks, trainer
from trainer.pretrain import pretrain

pytestmark = pytest.mark.slow

# Everything random that the model has; 8, 16 or 24 pixels.
RANDOM: dict[str, Any] = {"drop_path": 0.3, "patch_keep": 0.5, "range_augment": "narrow"}
RUNS: dict[str, dict[str, Any]] = {
    "fixed": RANDOM,
    "variable": {**RANDOM, "resolution": "variable", "resolution_sizes": (8, 24, 8)},
    # What is compiled before the first step leaves the running statistics as they were.
    "batch norms": backbone("test_resnet", drop_path=0.3),
    "stages": backbone("test_convnext", drop_path=0.3),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def train_compiled(runs: list[list[str]]) -> None:
    """Runs of the trainer that say how many graphs there are before and after each step.

    They are traced and differentiated, but no machine code is made of them: that would take minutes.
    """
    from torch._dynamo.testing import CompileCounterWithBackend

    from trainer.step.step import Step

    whole, compile_it = Step.take, torch.compile
    for words in runs:
        graphs = CompileCounterWithBackend("aot_eager")
        torch.compile = partial(compile_it, backend=graphs)

        def take(self: Step, *given: Any, counted: CompileCounterWithBackend = graphs, **options: Any) -> Any:
            before = counted.frame_count
            numbers = whole(self, *given, **options)
            sys.stderr.write(f"graphs {before} {counted.frame_count}\n")
            return numbers

        Step.take = take  # type: ignore[method-assign]
        trainer(words)


@pytest.fixture(scope="module")
def compiled(forks: Forks, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both runs, and what was said of them in `log`."""
    place = tmp_path_factory.mktemp("compiled")
    runs = [command(corpus.config(place / name, compile=True, **options)) for name, options in RUNS.items()]
    forks.run(1, place / "log", train_compiled, runs)
    return place


@pytest.mark.parametrize("name", RUNS)
def test_a_compiled_run_has_the_losses_of_a_plain_one(
    compiled: Path, corpus: Corpus, tmp_path: Path, name: str
) -> None:
    assert pretrain(corpus.config(tmp_path / "plain", **RUNS[name])) == 0
    assert losses(compiled / name) == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)
    found, wanted = (load_file(run / "model.safetensors") for run in (compiled / name, tmp_path / "plain"))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_all_is_compiled_before_the_first_step(compiled: Path) -> None:
    counted = [line for line in (compiled / "log").read_text().splitlines() if line.startswith("graphs ")]
    # Pixels of every size, and a block that sees half of the patches or all; of 8 pixels, one patch, it sees all.
    assert counted[:12] == ["graphs 3 3"] * 6 + ["graphs 8 8"] * 6
    assert len(set(counted[12:18])) == len(set(counted[18:])) == 1
