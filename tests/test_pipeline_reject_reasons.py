"""Reasons of rejected rows: one list in the code, and the same in FORMAT.md."""

from __future__ import annotations

import ast
import re

from pipeline import reject_reasons
from pipeline.reject_reasons import FAILED_DOWNLOAD
from tests.conftest import ROOT

REASONS = {value for name, value in vars(reject_reasons).items() if name.isupper()}


def test_format_md_lists_the_reasons_that_the_code_has() -> None:
    text = (ROOT / "vocab/FORMAT.md").read_text()
    section = text.split("## rejects.parquet\n")[1].split("\n## ")[0].split("Reasons:")[1]
    listed = set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", section))
    assert listed == REASONS - {FAILED_DOWNLOAD}
    assert f"`{FAILED_DOWNLOAD}…`" in section


def test_no_module_spells_a_reason_of_its_own() -> None:
    for file in (ROOT / "pipeline").rglob("*.py"):
        if file.name != "reject_reasons.py":
            texts = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
            assert not texts & REASONS, file
