"""Kill -9 of a loader, of a rank, of all, under torchrun with two, then three processes: every key once an epoch."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.test_trainer_corpus import Corpus, make_corpus

BATCH, TARS, SAMPLES = 12, 8, 30
EPOCH = TARS * SAMPLES // BATCH


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), tars=TARS, samples=SAMPLES)


def launch(corpus: Corpus, run: Path, processes: int) -> subprocess.Popen[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    arguments = [str(corpus.images.parent), str(run), str(2 * EPOCH), str(BATCH)]
    return subprocess.Popen(
        [*torchrun, str(ROOT / "tests" / "feeding_process.py"), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def seen(run: Path) -> list[dict[str, Any]]:
    path = run / "seen.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not any(line["step"] >= step for line in seen(run)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pids(run: Path, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / f"pids-{rank}.json").read_text())
    return found


def kill_a_loader(run: Path, process: subprocess.Popen[str]) -> None:
    os.kill(pids(run, 1)["loaders"][0], signal.SIGKILL)


def kill_a_rank(run: Path, process: subprocess.Popen[str]) -> None:
    dead = pids(run, 1)
    os.kill(dead["rank"], signal.SIGKILL)
    process.communicate()
    # Its loaders end with it.
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in dead["loaders"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_everything(run: Path, process: subprocess.Popen[str]) -> None:
    everybody = [pid for rank in range(2) for pid in (pids(run, rank)["rank"], *pids(run, rank)["loaders"])]
    for pid in [process.pid, *everybody]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("kill", [kill_a_loader, kill_a_rank])
def test_two_processes_killed_then_three_see_every_key_once_an_epoch(
    corpus: Corpus, tmp_path: Path, kill: Callable[[Path, subprocess.Popen[str]], None]
) -> None:
    with launch(corpus, tmp_path, 2) as process:
        wait_for_step(tmp_path, 8, process)
        kill(tmp_path, process)
        if kill is kill_a_loader:
            # The run goes on; what ends it is the death of all.
            wait_for_step(tmp_path, 14, process)
            kill_everything(tmp_path, process)
    with launch(corpus, tmp_path, 3) as process:
        said = process.communicate(timeout=200)[1]
        assert process.returncode == 0, said
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
