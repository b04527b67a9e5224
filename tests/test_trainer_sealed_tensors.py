"""Sealed safetensors files: read by anybody, and refused by their readers once a byte was changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from trainer.checkpoints.safetensors_files import is_altered, sealed_file
from trainer.weights.run_model import read_result
from vocab.errors import FormatError

TENSORS = {"head.weight": torch.arange(12.0).view(3, 4), "steps": torch.tensor(7), "none": torch.empty(0, 4)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"".join(sealed_file(TENSORS)))
    return tmp_path / "model.safetensors"


def test_other_programs_read_a_sealed_file(file: Path) -> None:
    assert {name: tensor.tolist() for name, tensor in load_file(file).items()} == {
        name: tensor.tolist() for name, tensor in TENSORS.items()
    }
    assert not is_altered(file)


def test_a_file_of_another_program_has_no_seal_and_is_read(tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file(TENSORS, tmp_path / "other.safetensors", metadata)
        assert not is_altered(tmp_path / "other.safetensors")
        assert len(read_result(tmp_path / "other.safetensors")) == 3


def test_every_changed_byte_is_noticed(file: Path) -> None:
    whole = file.read_bytes()
    wanted = {name: (tensor.shape, tensor.tolist()) for name, tensor in read_result(file).items()}
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = {name: (tensor.shape, tensor.tolist()) for name, tensor in read_result(file).items()}
        except FormatError:
            continue
        # A space behind the header, or a letter of the seal's own name.
        assert found == wanted, place


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 9, b"\2\0\0\0\0\0\0\0[]", b"\2\0\0\0\0\0\0\0{]"])
def test_a_file_without_a_header_is_left_to_its_reader(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    assert not is_altered(tmp_path / "a.safetensors")
    with pytest.raises(SafetensorError):
        load_file(tmp_path / "a.safetensors")
    assert not is_altered(tmp_path / "absent.safetensors")
