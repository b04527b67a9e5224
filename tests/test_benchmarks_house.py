"""Counts of drift, on a house of three files."""

from __future__ import annotations

from pathlib import Path

from benchmarks.house import count

FILES = {
    "vocab/a.py": '"""What it is."""\n\n\nclass Word:\n    """A word."""\n\n    text: str\n    """as it stands"""\n',
    "trainer/transfer/b.py": '"""A step."""\n\n\nclass Word: ...\n\n\ndef f(c: PretrainConfig):\n    """Of it."""\n',
    "tests/test_a.py": "from tests.test_b import x\nimport numpy as np\n",
    "tests/test_b.py": "x = 1\n",
}


def test_each_kind_of_drift_is_counted(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert count(tmp_path) == {
        "files": 2,
        "lines": 16,
        "transfer_files": 1,
        "docstrings_beginning_badly": 2,
        "field_docs_beginning_badly": 1,
        "config_parameters": 1,
        "class_names_in_two_files": 1,
        "test_imports_of_tests": 1,
    }
