"""What docs/training.md shows to be copied: its Slurm script, with programs in place of Slurm's."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

SRUN = """#!/bin/bash
echo "$@" >> srun.said
trap 'exit 1' TERM  # as torchrun ends at it
echo $$ > srun.pid
[ -n "$SLEEPS" ] && while true; do sleep 0.05; done
exit "$STATUS"
"""
PROGRAMS = {
    "srun": SRUN,
    "scancel": '#!/bin/bash\necho "$@" >> scancel.said\nkill -TERM "$(cat srun.pid)"\n',
    "scontrol": '#!/bin/bash\necho "$@" >> scontrol.said\n',
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The script, and programs of Slurm's names that write down what they were told."""
    text = (ROOT / "docs" / "training.md").read_text()
    begin = text.index("#!/bin/bash")
    (tmp_path / "job.sh").write_text(text[begin : text.index("```", begin)])
    for name, program in PROGRAMS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(program)
        path.chmod(0o755)
    return tmp_path


def start(job: Path, **variables: str) -> subprocess.Popen[bytes]:
    ours = {"PATH": f"{job / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "17", "SLURM_NNODES": "8"}
    return subprocess.Popen(["bash", "job.sh"], cwd=job, env=os.environ | ours | {"SLEEPS": ""} | variables)


def requeued(job: Path) -> bool:
    return "requeue 17" in (job / "scontrol.said").read_text()


@pytest.mark.parametrize("status", [0, 1])
def test_a_slurm_job_whose_run_ends_of_itself_is_not_queued_again(job: Path, status: int) -> None:
    assert start(job, STATUS=f"{status}").wait(60) == status
    assert not requeued(job)
    assert "-m trainer pretrain vit-b16-datacomp" in (job / "srun.said").read_text()


def test_a_slurm_job_that_is_told_to_stop_is_queued_again_when_its_run_has_stopped(job: Path) -> None:
    process = start(job, SLEEPS="yes")
    while not (job / "srun.pid").exists() or not (job / "srun.pid").read_text():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 1
    assert (job / "scancel.said").read_text() == "--signal=TERM 17\n"
    assert requeued(job)
