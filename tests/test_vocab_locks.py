"""Claims: one writer at a time, and nothing of a dead one in the way."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from vocab.store.locks import claimed, remove_unclaimed


def test_a_claimed_file_is_refused_to_others_and_gone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "0.part"
    with claimed(path, wait=True) as first:
        assert first is not None
        with claimed(path, wait=False) as second:
            assert second is None
        assert path.exists()
        assert not remove_unclaimed(path)
    assert not path.exists()


def test_a_renamed_file_stays_and_its_name_is_free_again(tmp_path: Path) -> None:
    path = tmp_path / "0.part"
    first, second = ExitStack(), ExitStack()
    with second, first:
        file = first.enter_context(claimed(path, wait=True))
        assert file is not None
        file.write(b"whole")
        path.rename(tmp_path / "0")
        assert second.enter_context(claimed(path, wait=False)) is not None
        first.close()
        assert path.exists()
    assert (tmp_path / "0").read_bytes() == b"whole"


def test_what_a_dead_process_left_is_taken_over_or_removed(tmp_path: Path) -> None:
    for name in ("0.part", "1.part"):
        (tmp_path / name).write_bytes(b"half")
    with claimed(tmp_path / "0.part", wait=False) as file:
        assert file is not None
        assert file.read() == b"half"
    assert remove_unclaimed(tmp_path / "1.part")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"kept")
    (tmp_path / "0.part").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic link"), claimed(tmp_path / "0.part", wait=True):
        pass
    assert (tmp_path / "precious").read_bytes() == b"kept"
