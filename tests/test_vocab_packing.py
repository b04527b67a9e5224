"""Tables as one file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from vocab import packing
from vocab.errors import FormatError
from vocab.packing import Kind

KIND = Kind("t.npz", 3, "test tables", "python -m test")


def test_tables_come_back_as_they_were_and_the_same_bytes_every_time() -> None:
    tables = {"numbers": np.arange(6, dtype=np.int16).reshape(2, 3), "words": pa.array(["a", "", "bc"])}
    content = packing.pack(KIND, tables, {"from": "here"})
    found, about = packing.unpack(KIND, content)
    assert found["numbers"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["words"].to_pylist() == ["a", "", "bc"]
    assert about == {"from": "here"}
    assert packing.pack(KIND, tables, {"from": "here"}) == content


def test_other_bytes_and_other_versions_are_refused() -> None:
    content = packing.pack(KIND, {"numbers": np.arange(6)}, {})
    with pytest.raises(FormatError, match="unreadable"):
        packing.unpack(KIND, content[:-30])
    with pytest.raises(FormatError, match="found version 3; wanted version 4"):
        packing.unpack(Kind("t.npz", 4, "test tables", "python -m test"), content)


def test_a_file_that_is_not_there_says_how_to_make_it() -> None:
    with pytest.raises(FormatError, match="python -m test"):
        packing.read(KIND)


def test_an_ascii_list_is_the_python_list() -> None:
    words = pa.array(["a", "", "bc", "def"])
    assert packing.ascii_list(words) == words.to_pylist()
    assert packing.ascii_list(words.slice(1, 2)) == ["", "bc"]
    assert packing.ascii_list(words.slice(0, 0)) == []
