"""Files that appear whole or not at all, and errors that survive a process border."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from vocab.errors import CatlipError, InputError, MismatchError
from vocab.store.files import filesystem_of, local_path, sha256_of, write_whole


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    with write_whole(tmp_path / "a") as file:
        file.write(b"half")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"half"


def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def fail() -> None:
        with write_whole(tmp_path / "a") as file:
            file.write(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


def test_paths_and_uris_open_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(b"x")
    for place in (tmp_path / "a b", str(tmp_path / "a b"), f"file://{tmp_path}/a%20b"):
        filesystem, path = filesystem_of(place)
        assert isinstance(filesystem, pafs.LocalFileSystem)
        assert sha256_of(filesystem, path)[:8] == "2d711642"


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(InputError, match="ftp://host/x"):
        filesystem_of("ftp://host/x")


def test_an_error_says_four_things() -> None:
    error = InputError("a.tsv", found="no file", wanted="a file", remedy="Check the path.")
    assert str(error) == "a.tsv: found no file; wanted a file. Check the path."


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(MismatchError("a", found="b", wanted="c", remedy="D.")))  # noqa: S301
    assert (type(error), str(error)) == (MismatchError, "a: found b; wanted c. D.")
    assert isinstance(error, CatlipError)


def test_a_command_line_ends_with_the_message_alone() -> None:
    code = "from vocab.errors import *\n"
    code += "def main(): raise InputError('x', found='y', wanted='z', remedy='W.')\nrun_cli(main)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (2, "error: x: found y; wanted z. W.\n")


def test_a_full_disk_says_to_make_room() -> None:
    code = "import errno\nfrom vocab.errors import run_cli\n"
    code += "def main(): raise OSError(errno.ENOSPC, 'No space left on device', 'metrics.jsonl')\nrun_cli(main)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: metrics.jsonl: No space left on device. Make room, and start the same command again.\n"
    )


@pytest.mark.parametrize("place", ["s3://b/x", "gs://b/x", "hdfs://h/x", "abfs://c@a/x", "https://h/x", "s3a://b/x"])
def test_a_uri_is_no_local_path(place: str) -> None:
    for given in (place, Path(place)):  # pathlib drops a slash
        with pytest.raises(InputError, match=r"^--log [a-z0-9]+://.+: found a URI; wanted a path of this machine"):
            local_path(given, option="--log")


@pytest.mark.parametrize("place", ["x", "./s3", "a:b", "/x/s3:/y", "x/~/y", "~x"])
def test_a_path_is_a_local_path(place: str) -> None:
    assert local_path(place) == Path(place)


def test_a_uri_of_a_file_is_its_path() -> None:
    assert local_path("file:///x/a%20b") == Path("/x/a b")
