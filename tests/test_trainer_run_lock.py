"""One run at a time in a run directory, and a lock that no death leaves behind."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
from pathlib import Path

import pytest
import torch

from tests.corpus import Corpus, command, losses, make_corpus
from tests.forks import Forks, trainer
from trainer.distributed import Rank
from trainer.pretrain import pretrain
from trainer.records.run_lock import held
from vocab.errors import InputError

ALONE = Rank(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def test_a_second_run_is_refused_while_the_first_lives_and_not_once_it_was_killed(
    forks: Forks, corpus: Corpus, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    config = corpus.config(out, steps=4000, workers=2)
    first = forks.start(1, tmp_path / "log", trainer, command(config))
    first.wait_for(lambda: (out / "metrics.jsonl").exists() and len(losses(out)) >= 3)
    message = (
        f"{out}: found a run that is going on there: process {first.pids[0]} on {socket.gethostname()}; wanted a run "
        "directory that no other process writes to. Wait for that run or stop it; or choose another --out."
    )
    with pytest.raises(InputError) as refused:
        pretrain(config)
    assert str(refused.value) == message
    # It alone: its loaders are there a moment longer.
    os.kill(first.pids[0], signal.SIGKILL)
    assert first.wait() == [-signal.SIGKILL]
    assert (out / "run.lock").exists()
    assert pretrain(corpus.config(out, steps=max(10, len(losses(out)) + 2), workers=2)) == 0
    assert not (out / "run.lock").exists()


def test_all_ranks_are_refused_and_one_says_it(forks: Forks, corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with held(out, ALONE):
        pair = forks.start(2, tmp_path / "log", trainer, command(corpus.config(out)))
        assert pair.wait() == [2, 2]
    assert pair.said().count("error: ") == 1
    assert f"a run that is going on there: process {os.getpid()} on " in pair.said()


def test_a_directory_that_nothing_came_into_is_gone_again(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with held(tmp_path / "runs" / "new" / "run", ALONE):
        assert (tmp_path / "runs" / "new" / "run" / "run.lock").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_start_that_was_killed_before_it_wrote_anything_is_in_nobody_s_way(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "run.lock").write_text('{"host": "gone", "process": 1}')
    assert pretrain(corpus.config(tmp_path, steps=3)) == 0


def test_a_lock_that_was_removed_under_its_holder_s_hand_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fcntl.flock

    def ended(descriptor: int, operation: int) -> None:
        whole(descriptor, operation)
        # The run before removes the file between another's opening and locking it.
        monkeypatch.setattr(fcntl, "flock", whole)
        (tmp_path / "run.lock").unlink()

    monkeypatch.setattr(fcntl, "flock", ended)
    with held(tmp_path, ALONE), pytest.raises(InputError, match="a run that is going on there"), held(tmp_path, ALONE):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_told_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", none)
    with held(tmp_path, ALONE):
        pass
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {tmp_path / 'run.lock'}: this file system has no locks (")
    assert "nothing keeps a second run from writing" in said


def test_any_other_refusal_of_the_lock_ends_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match=r"\[Errno 5\]"), held(tmp_path, ALONE):
        pass
