"""What errors say, and what they leave out."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from vocab.errors import InputError

REPOSITORY = Path(__file__).parents[1]
SECRET = "https://jane:p@ss:s3cr3t@host/{00..99}.tar"
SHOWN = "https://host/{00..99}.tar"


def test_an_error_says_four_things() -> None:
    error = InputError("--images", found="a.txt", wanted="a tar", remedy="Name one.")
    assert str(error) == "--images: found a.txt; wanted a tar. Name one."


@pytest.mark.parametrize("part", ["thing", "found", "wanted", "remedy"])
def test_no_part_of_an_error_has_the_password_of_an_address(part: str) -> None:
    parts = {"thing": "a", "found": "b", "wanted": "c", "remedy": "d"} | {part: f"--images {SECRET} is"}
    error = InputError(parts["thing"], found=parts["found"], wanted=parts["wanted"], remedy=parts["remedy"])
    assert getattr(error, part) == f"--images {SHOWN} is"
    for shown in (str(error), str(pickle.loads(pickle.dumps(error)))):  # noqa: S301 - as it comes from other processes
        assert SHOWN in shown
        assert "s3cr3t" not in shown


@pytest.mark.parametrize("text", ["a@b", "https://host/a@b.tar", "who@host: //x", "memory://"])
def test_other_signs_stay(text: str) -> None:
    assert InputError("x", found=text, wanted="y", remedy="z").found == text


def read_by_nobody(code: str) -> tuple[int, str]:
    """Status and complaints of a program whose output has no reader."""
    start = f"from vocab.errors import *\nimport os, sys\n{code}\nrun_cli(main)"
    # Output that is not buffered fails while it is printed; the harder case is what is left for the end.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-c", start],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env=buffered,
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, said = process.communicate("go\n")
    return process.returncode, said


@pytest.mark.parametrize(
    "code",
    [
        "def main(): sys.stdin.readline(); print('x' * 1_000_000)",
        "def main(): sys.stdin.readline(); print('few words')",
        "def main(): sys.stdin.readline(); print('help'); sys.exit(0)",
    ],
    ids=["much", "little", "help"],
)
def test_a_reader_that_is_gone_ends_a_command_line_without_a_word(code: str) -> None:
    assert read_by_nobody(code) == (141, "")


def test_another_pipe_that_breaks_is_an_error_all_the_same() -> None:
    code = "def main(): reader, writer = os.pipe(); os.close(reader); os.write(writer, b'x')"
    start = f"from vocab.errors import *\nimport os\n{code}\nrun_cli(main)"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:36]) == (2, "error: [Errno 32] Broken pipe. Check")


def test_an_error_is_told_though_nobody_reads_the_output() -> None:
    code = "def main(): sys.stdin.readline(); print('x'); raise InputError('a', found='b', wanted='c', remedy='D.')"
    status, said = read_by_nobody(code)
    assert said.startswith("error: a: found b; wanted c. D.\n")
    assert status != 0


@pytest.mark.parametrize("room", ["pipeline", "trainer", "vocab"])
def test_help_may_be_cut_short(room: str) -> None:
    command = f"{sys.executable} -m {room} --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    # `true` may have been slower than the help was written.
    assert done.stdout in ("141\n", "0\n")


def test_a_program_without_standard_output_ends_well() -> None:
    command = f"{sys.executable} -m vocab --help >&-"
    done = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.partition("\n")[0]) == (0, "usage: python -m vocab VERB [options]")


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        ("raise KeyboardInterrupt", 130),
        ("os.kill(os.getpid(), signal.SIGINT)", 130),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143),
        ("os.kill(os.getpid(), signal.SIGHUP)", 129),
    ],
)
def test_a_program_that_is_told_to_end_says_so_and_removes_what_it_had_begun(
    raised: str, status: int, tmp_path: Path
) -> None:
    code = "import os, signal, sys\nfrom vocab.errors import run_cli\nfrom vocab.store.files import write_whole\n"
    code += f"def main():\n    with write_whole(sys.argv[1]): {raised}\nrun_cli(main)"
    command = [sys.executable, "-c", code, str(tmp_path / "v")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (status, "stopped\n")
    assert not list(tmp_path.iterdir())
