"""Kill -9 of a loader, of a rank, of all, with two processes, then three without loaders: every key once an epoch."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import feeding_process
from tests.conftest import ROOT
from tests.corpus import Corpus, make_corpus
from tests.forks import Forks, torchrun

BATCH, TARS, SAMPLES = 12, 8, 30
EPOCH = TARS * SAMPLES // BATCH


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), tars=TARS, samples=SAMPLES)


def arguments(corpus: Corpus, run: Path, *, loaders: int = 2) -> tuple[Path, Path, int, int, int]:
    return corpus.images.parent, run, 2 * EPOCH, BATCH, loaders


def seen(run: Path) -> list[dict[str, Any]]:
    path = run / "seen.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def has_taken(run: Path, step: int) -> bool:
    return any(line["step"] >= step for line in seen(run))


def pids(run: Path, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / f"pids-{rank}.json").read_text())
    return found


def kill_a_loader(forks: Forks, corpus: Corpus, run: Path) -> None:
    """The run goes on; what ends it is the death of all."""
    group = forks.start(2, run / "log", feeding_process.main, *arguments(corpus, run))
    group.wait_for(lambda: has_taken(run, 8))
    os.kill(pids(run, 1)["loaders"][0], signal.SIGKILL)
    group.wait_for(lambda: has_taken(run, 14))
    group.kill()


def kill_a_rank(forks: Forks, corpus: Corpus, run: Path) -> None:
    """torchrun ends the other; the loaders of the dead one end with it."""
    script = [str(ROOT / "tests" / "feeding_process.py"), *map(str, arguments(corpus, run))]
    group = forks.start(1, run / "log", torchrun, ["--standalone", "--nproc-per-node", "2", *script])
    group.wait_for(lambda: has_taken(run, 8))
    dead = pids(run, 1)
    os.kill(dead["rank"], signal.SIGKILL)
    assert group.wait() != [0]
    group.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in dead["loaders"]))


@pytest.mark.slow
@pytest.mark.parametrize("kill", [kill_a_loader, kill_a_rank])
def test_two_processes_killed_then_three_see_every_key_once_an_epoch(
    forks: Forks, corpus: Corpus, tmp_path: Path, kill: Callable[[Forks, Corpus, Path], None]
) -> None:
    kill(forks, corpus, tmp_path)
    # Other ranks, and no loaders: each rank's would import torch anew.
    forks.run(3, tmp_path / "log", feeding_process.main, *arguments(corpus, tmp_path, loaders=0))
    steps: dict[int, dict[int, list[tuple[int, int]]]] = {}
    for line in seen(tmp_path):
        at = steps.setdefault(line["step"], {})
        if line["world"] == 3 and not any(world == 3 for world in at):
            before = {key for keys in at.values() for key in keys}
            at.clear()
            at[3] = []
            # A step that both runs took had the same samples.
            at[-1] = sorted(before)
        at.setdefault(line["world"], []).extend(tuple(sample) for sample in line["samples"])
    for at in steps.values():
        if at.get(-1) and len(at[-1]) == BATCH:
            assert sorted(at[3]) == at[-1]
    assert sorted(steps) == list(range(1, 2 * EPOCH + 1))
    everything = [(tar, index) for tar in range(TARS) for index in range(SAMPLES)]
    for epoch in range(2):
        of_epoch = range(epoch * EPOCH + 1, (epoch + 1) * EPOCH + 1)
        keys = [key for step in of_epoch for world, keys in steps[step].items() if world > 0 for key in keys]
        assert sorted(keys) == everything
