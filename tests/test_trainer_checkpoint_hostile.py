"""A checkpoint that anyone may have written: refused with a FormatError, whatever its state says."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from trainer.checkpoints import manifest
from trainer.checkpoints.checkpoint import newest, open_checkpoint, restore
from trainer.checkpoints.writer import Checkpoints
from vocab.errors import CatlipError, FormatError

Body = dict[str, Any]


def live() -> dict[str, dict[str, Tensor]]:
    return {"model": {"weight": torch.arange(12.0).view(3, 4)}}


def saved(run: Path) -> Path:
    with Checkpoints(run, 0, 1, nonce="a1", keep=9) as checkpoints:
        checkpoints.save(1, live(), files={"config.json": b"{}"}, state={"data": 1}, fingerprint="f")
    return run / "checkpoints" / "step-00000001"


def sealed(body: Body) -> bytes:
    rest = {name: value for name, value in body.items() if name != "own_sha256"}
    own = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    return json.dumps(rest | {"own_sha256": own}).encode()


def alter(folder: Path, change: Callable[[Body], object]) -> None:
    """Change the state and make its checksum hold again."""
    body = json.loads((folder / "state.json").read_text())
    change(body)
    (folder / "state.json").write_bytes(sealed(body))


def put(*path: Any) -> Callable[[Body], None]:
    """Set the value at a path: put("files", "x", 3) sets body["files"]["x"] = 3."""

    def change(body: Body) -> None:
        for name in path[:-2]:
            body = body[name]
        body[path[-2]] = path[-1]

    return change


WEIGHT = ("tensors", "model", "weight")
ENTRY = {"size": 2, "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}
PIECE = ["model.safetensors", 0, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("files", "../../config.json", ENTRY), r"a file named '\.\./\.\./config\.json'"),
        (put("files", "/etc/passwd", ENTRY), "a file named '/etc/passwd'"),
        (put("files", "..", ENTRY), r"a file named '\.\.'"),
        (put("files", "", ENTRY), "a file named ''"),
        (put("files", "state.json", ENTRY), "a file named 'state.json'"),
        (put("files", "a\0b", ENTRY), "a file named"),
        (put("files", "config.json", {"size": 2}), "no 'sha256'"),
        (put("files", "config.json", {"size": True, "sha256": ""}), "'size' is bool, not int"),
        (put("files", "config.json", {"size": -1, "sha256": ""}), "config.json of -1 bytes"),
        (put("files", "config.json", "abc"), "'config.json' is str, not dict"),
        (put("files", []), "'files' is list, not dict"),
        (put("step", "1"), "'step' is str, not int"),
        (put("step", 1.0), "'step' is float, not int"),
        (put("step", -1), "step -1"),
        (put("step", 2), "the checkpoint of step 2, under another name"),
        (put("state", None), "'state' is NoneType, not dict"),
        (put("vocabulary", 3), "'vocabulary' is int, not str"),
        (put("tensors", {"model": []}), "'model' is list, not dict"),
        (put("tensors", {"model": {"weight": 3}}), "'weight' is int, not dict"),
        (put(*WEIGHT, "dtype", "F4"), r"weight of type 'F4' and shape \[3, 4\]"),
        (put(*WEIGHT, "shape", [3, -4]), r"shape \[3, -4\]"),
        (put(*WEIGHT, "shape", [3, 1 << 60]), "shape"),
        (put(*WEIGHT, "shape", [True, 4]), "shape"),
        (put(*WEIGHT, "pieces", []), "weight with 0 of 3 rows"),
        (
            put(*WEIGHT, "pieces", [["other.safetensors", 0, 3]]),
            "a piece of 3 rows from row 0 on in 'other.safetensors'",
        ),
        (put(*WEIGHT, "pieces", [PIECE, PIECE]), "after 3 rows"),
        (put(*WEIGHT, "pieces", [["model.safetensors", 0, 2]]), "weight with 2 of 3 rows"),
        (put(*WEIGHT, "pieces", [["model.safetensors", 0, -3]]), "a piece of -3 rows from row 0 on"),
        (put(*WEIGHT, "pieces", [["model.safetensors", 0]]), "a piece that is not"),
        (put(*WEIGHT, "pieces", {"a": 1}), "'pieces' is dict, not list"),
        (put("version", True), "no format version"),
        (put("version", "2"), "no format version"),
        (lambda body: body.pop("tensors"), "no 'tensors'"),
        (lambda body: body.pop("version"), "no format version"),
    ],
)
def test_a_state_that_says_what_no_writer_says_is_refused(
    tmp_path: Path, change: Callable[[Body], object], message: str
) -> None:
    folder = saved(tmp_path)
    alter(folder, change)
    with pytest.raises(FormatError, match=message):
        newest(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "JSON that is not an object"),
        (b"3", "JSON that is not an object"),
        (b"", "no readable state"),
        (b"\xff\xfe", "no readable state"),
        (b'{"version": 2, "step": NaN}', "NaN, which is not JSON"),
        (b'{"version": 2, "step": -Infinity}', "-Infinity, which is not JSON"),
        (b'{"a": ' + b"[" * 100_000, "no readable state"),
        (b'{"version": 2, "step": ' + b"9" * 5000 + b"}", "no readable state"),
        (b'{"version": 2}', "a state that was altered"),
    ],
)
def test_a_state_that_is_no_object_of_ours_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (saved(tmp_path) / "state.json").write_bytes(content)
    with pytest.raises(FormatError, match=message):
        newest(tmp_path)


def test_a_huge_state_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path) / "state.json"
    monkeypatch.setattr(manifest, "LARGEST", 10)
    with pytest.raises(FormatError, match="bytes, more than any state has"):
        newest(tmp_path)
    path.unlink()
    os.mkfifo(path)  # who reads it waits for ever
    with pytest.raises(FormatError, match="no such file"):
        newest(tmp_path)


def test_other_format_versions_are_refused_by_their_numbers(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    alter(folder, put("version", 3))
    with pytest.raises(FormatError, match="found format version 3, written by a newer release"):
        newest(tmp_path)
    alter(folder, put("version", 1))
    with pytest.raises(
        FormatError,
        match=r"found format version 1, written by an older release; wanted format version 2\. Finish that run with",
    ):
        newest(tmp_path)


def exchanged(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Another safetensors file, whose checksum holds."""
    path = folder / "model.safetensors"
    save_file(tensors, path)
    content = path.read_bytes()
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    alter(folder, put("files", "model.safetensors", entry))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.zeros(2, 4)}, r"weight as F32 \[2, 4\] where the state says F32 \[3, 4\]"),
        ({"weight": torch.zeros(3, 4, dtype=torch.float16)}, r"weight as F16 \[3, 4\] where the state says F32"),
        ({"weight": torch.tensor(3.0)}, r"weight as F32 \[\] where"),
        ({"bias": torch.zeros(3, 4)}, "no readable tensor weight"),
    ],
)
def test_a_file_that_is_not_what_the_state_says_is_refused(
    tmp_path: Path, tensors: dict[str, Tensor], message: str
) -> None:
    folder = saved(tmp_path)
    exchanged(folder, tensors)
    found, here = open_checkpoint(folder), live()
    with pytest.raises(FormatError, match=message):
        found.load("model")
    with pytest.raises(FormatError, match=message):
        restore(found, here)
    assert torch.equal(here["model"]["weight"], live()["model"]["weight"])


def test_a_file_of_no_tensors_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    content = b"\xff" * 40
    (folder / "model.safetensors").write_bytes(content)
    alter(folder, put("files", "model.safetensors", {"size": 40, "sha256": hashlib.sha256(content).hexdigest()}))
    with pytest.raises(FormatError, match="no readable tensor weight"):
        open_checkpoint(folder).load("model")


def test_a_shape_that_no_file_has_takes_no_memory(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    alter(folder, put(*WEIGHT, "shape", [3, 1 << 47]))
    with pytest.raises(FormatError, match="where the state says"):
        open_checkpoint(folder).load("model")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PLACES = [
    *(("version",), ("step",), ("state",), ("torch",), ("vocabulary",), ("files",), ("tensors",)),
    *(("files", "config.json"), ("files", "config.json", "size"), ("tensors", "model"), WEIGHT),
    *((*WEIGHT, "dtype"), (*WEIGHT, "shape"), (*WEIGHT, "pieces"), (*WEIGHT, "pieces", 0), (*WEIGHT, "pieces", 0, 1)),
]


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_anywhere_is_taken_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, ...], value: Any
) -> None:
    folder = saved(tmp_path_factory.mktemp("run"))
    alter(folder, put(*place, value))
    try:
        restore(open_checkpoint(folder), live())
    except CatlipError:
        return
    assert place in [("state",), ("torch",), ("vocabulary",), ("files",)] or value == 1 or place[0] == "files"
