"""Sealed JSON: what is read is what was written, or is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocab.errors import FormatError
from vocab.store.sealing import SEAL, from_sealed_json, sealed, to_sealed_json, whole_lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=9,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4), st.booleans(), st.sampled_from([None, 1]))
def test_an_object_comes_back_without_its_seal(body: dict[str, Any], ascii: bool, indent: int | None) -> None:
    body.pop(SEAL, None)
    text = to_sealed_json(body, indent=indent, ensure_ascii=ascii and indent is None)
    assert from_sealed_json("x", text) == body
    # However it is laid out, and in whatever order.
    assert from_sealed_json("x", json.dumps(json.loads(text), sort_keys=True, indent=3)) == body


def test_a_file_without_a_seal_is_read_as_it_is() -> None:
    for text in ('{"a": 1}', "{}", "[1]", "3", '{"fingerprint": "' + "0" * 64 + '", "b": 1}'):
        assert from_sealed_json("x", text) == json.loads(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.5", "2.5"),
        ('"dog"', '"dug"'),
        ("[1, 2]", "[1, 3]"),
        ("null", "1234"),
        ("own_sha", "owm_sha"),
        ("value", "valve"),
    ],
)
def test_what_was_changed_is_refused_with_its_place(old: str, new: str) -> None:
    text = to_sealed_json({"value": 1.5, "name": "dog", "list": [1, 2], "none": None})
    assert old in text
    with pytest.raises(FormatError, match=r"^f\.json: found content that does not match its checksum"):
        from_sealed_json("f.json", text.replace(old, new))


def test_every_changed_byte_of_a_line_is_noticed() -> None:
    line = to_sealed_json({"step": 1, "loss": 0.25, "name": "a"}).encode()
    wanted = from_sealed_json("x", line)
    for place in range(len(line)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128):
            changed = line[:place] + bytes([line[place] ^ mask]) + line[place + 1 :]
            try:
                found = [from_sealed_json("x", part) for part in whole_lines("x", changed)]
            except (ValueError, FormatError):
                continue
            assert found == [wanted], (place, mask)


def test_a_line_that_a_kill_cut_short_is_left_out_and_one_with_a_damaged_end_is_not() -> None:
    line = to_sealed_json({"step": 1}).encode()
    for cut in range(len(line)):
        assert whole_lines("x", line + line[:cut]) == [line[:-1]]
    with pytest.raises(FormatError, match="x, line 2"):
        whole_lines("x", line + line[:-1] + b"\r")


def test_a_seal_replaces_an_earlier_one() -> None:
    once = sealed({"a": (1, 2)})
    assert sealed({**once, "a": [1, 2]}) == once
