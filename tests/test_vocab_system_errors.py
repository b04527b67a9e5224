"""Refusals of the system are said in one sentence: the place, the refusal, and the remedy that fits its number."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from vocab.errors import InputError, is_out_of_memory, remedy_of, sentence_of
from vocab.store.files import named, sha256_of

REPOSITORY = Path(__file__).parents[1]
START = """
import errno, resource, signal, sys
from pathlib import Path
from vocab.errors import run_cli
from vocab.store.files import named, write_whole
place = Path(sys.argv[1])
"""


def said_by(code: str, place: Path) -> str:
    """Message of a program that ends in an error; it is one line, and the status is 2."""
    body = "def main():\n" + "\n".join(f"    {line}" for line in code.splitlines()) + "\nrun_cli(main)\n"
    command = [sys.executable, "-c", START + body, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 kB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


WRITES = {
    "whole": "with write_whole(place) as file: file.write(bytes(100_000))",
    "whole, by Arrow": "import pyarrow as pa, pyarrow.parquet as pq\n"
    "with write_whole(place) as file: pq.write_table(pa.table({'a': range(100_000)}), file)",
    "appended": "with named(place), place.open('a') as file: file.write('x' * 100_000)",
}


@pytest.mark.parametrize("write", WRITES)
def test_a_full_disk_is_named(small_disk: Path, write: str) -> None:
    said = said_by(WRITES[write], small_disk / "v")
    assert said.startswith(f"error: {small_disk}/v: ")
    assert said.endswith("No space left on device. Make room, and start the same command again.\n")


def test_a_disk_that_is_read_only_is_named(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for write in WRITES.values():
        said = said_by(write, small_disk / "v")
        assert said.startswith(f"error: {small_disk}/v: Read-only file system. The place is mounted read-only")


@pytest.mark.parametrize(
    ("name", "limit", "remedy"),
    [
        ("v", "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))", "File too large. Raise `ulimit -f`"),
        ("v", "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))", "Too many open files. Raise `ulimit -n`"),
        ("n" * 250, "", "File name too long. Check the path"),
        ("missing/v", "", "No such file or directory. Check the path"),
    ],
)
def test_other_limits_are_named(tmp_path: Path, name: str, limit: str, remedy: str) -> None:
    said = said_by(f"{limit}\n{WRITES['whole']}", tmp_path / name)
    assert said.startswith(f"error: {tmp_path}/{name}: {remedy}")


def test_an_error_of_reading_inside_a_write_gets_no_name(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError) as caught, named(tmp_path / "v"):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    assert caught.value.filename is None


def test_each_number_gets_a_remedy_of_its_kind() -> None:
    firsts = {
        "Make": (errno.ENOSPC, errno.EDQUOT),
        "Raise": (errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
        "The": (errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN),
        "Check": (
            errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENAMETOOLONG, errno.ECONNREFUSED, errno.ETIMEDOUT,
            errno.EPIPE, socket.EAI_NONAME, socket.EAI_AGAIN,
        ),
        "Another": (errno.EBUSY, errno.EADDRINUSE),
    }  # fmt: skip
    found = {number: remedy_of(OSError(number, "x")).split()[0] for numbers in firsts.values() for number in numbers}
    assert found == {number: first for first, numbers in firsts.items() for number in numbers}


MEMORY = {
    "numpy": "import numpy as np\nnp.empty(1 << 40)",
    "python": "bytearray(1 << 45)",
    "arrow": "import pyarrow as pa\npa.allocate_buffer(1 << 45)",
    "torch": 'raise RuntimeError("[enforce fail] DefaultCPUAllocator: can\'t allocate memory: you tried 9 bytes")',
    "cuda": 'raise RuntimeError("CUDA out of memory. Tried to allocate 20 MiB.\\nSee the documentation.")',
    "threads": 'raise RuntimeError("can\'t start new thread")',
}


@pytest.mark.parametrize("library", MEMORY)
def test_memory_that_ran_out_is_a_sentence(tmp_path: Path, library: str) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
    said = said_by(limit + MEMORY[library], tmp_path)
    assert said.startswith("error: memory ran out")
    assert "Raise the limit of memory" in said


@pytest.mark.parametrize(
    ("error", "ran_out"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (pa.ArrowMemoryError("malloc of size 64 failed"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (InputError("a", found="a kernel out of memory", wanted="more", remedy="None."), False),
    ],
    ids=str,
)
def test_all_rooms_know_memory_that_ran_out_by_one_rule(error: BaseException, *, ran_out: bool) -> None:
    assert is_out_of_memory(error) == ran_out


def test_memory_that_ran_out_names_our_function() -> None:
    class Small:
        def open_input_stream(self, path: str) -> None:
            raise MemoryError("Unable to allocate 9 GiB")

    with pytest.raises(MemoryError) as caught:
        sha256_of(Small(), "a")
    said = str(sentence_of(caught.value))
    assert said.startswith("memory ran out in vocab/store/files.py, sha256_of: Unable to allocate 9 GiB. Raise")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("unable to open file </a/v> in read-only mode: Permission denied (13)"),
            "/a/v: Permission denied. Check the path",
        ),
        (
            RuntimeError("unable to mmap 16 bytes from file </a/v>: Cannot allocate memory (12)"),
            "/a/v: Cannot allocate",
        ),
        (
            OSError("Cannot open for reading: path '/a/v' is a directory"),
            "Cannot open for reading: path '/a/v' is a dir",
        ),
        (OSError(errno.EMFILE, "Too many open files", b"/a/v"), "/a/v: Too many open files. Raise `ulimit -n`"),
    ],
)
def test_files_that_libraries_could_not_open_are_named(error: Exception, said: str) -> None:
    assert str(sentence_of(error)).startswith(said)


@pytest.mark.parametrize("error", [RuntimeError("a fault of ours"), OSError("a library's own"), ValueError("x")])
def test_other_errors_keep_their_traceback(error: Exception) -> None:
    assert sentence_of(error) is None
