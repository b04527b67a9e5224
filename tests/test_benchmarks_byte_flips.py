"""The byte-flip script: all kinds of files that the programs write notice a changed byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.byte_flipping.files import Flipped, make_files
from benchmarks.byte_flips import WRONG, flip_files
from vocab.errors import FormatError

FLIPS_PER_FILE = 6


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Flipped]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield make_files(tmp_path_factory.mktemp("flips"))
    torch.set_num_threads(before)


def test_no_changed_byte_of_any_kind_of_file_is_used_in_silence(files: list[Flipped]) -> None:
    flips = flip_files(files, flips=FLIPS_PER_FILE * len(files), seed=2)
    assert [flip for flip in flips if flip.outcome in WRONG] == []
    assert {flipped.kind for flipped in files} >= {
        *("manifest", "vocabulary", "counts", "rejects", "label part", "job: plan.json", "job: task-00000.json"),
        *("run: model", "run: results.json", "run: metrics.jsonl", "run: environment.json", "checkpoint: state.json"),
        *("export: model.safetensors", "export: config.json", "suite: records.jsonl", "features", "tar table"),
    }
    refused = Counter(flip.kind for flip in flips if flip.outcome == "refused")
    # A lease's time and process may change without a word: its run writes it anew within seconds. A task of a
    # damaged marker is done again.
    kinds = [flipped.kind for flipped in files if not flipped.kind.startswith(("job: owner", "job: task"))]
    assert [kind for kind in kinds if refused[kind] < FLIPS_PER_FILE // 2] == []


def test_a_reader_that_takes_a_changed_byte_is_found_out(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(bytes(64))

    def refuse() -> bytes:
        if any(file.read_bytes()):
            raise FormatError(file, found="a", wanted="b", remedy="c")
        return b""

    readers = {
        "silent": file.read_bytes,
        "harmless": lambda: 1,
        "traceback": lambda: 1 // (not any(file.read_bytes())),
        "refused": refuse,
    }
    for outcome, read in readers.items():
        assert {flip.outcome for flip in flip_files([Flipped("a", file, read)], flips=9, seed=0)} == {outcome}
    assert file.read_bytes() == bytes(64)


def test_the_last_byte_of_a_log_may_not_change_either(files: list[Flipped]) -> None:
    for flipped in files:
        if flipped.file.suffix == ".jsonl":
            whole = flipped.file.read_bytes()
            flipped.file.write_bytes(whole[:-1] + b"x")
            with pytest.raises(FormatError, match=flipped.file.name):
                flipped.read()
            flipped.file.write_bytes(whole)
