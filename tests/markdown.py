"""Blocks of code in Markdown."""

from __future__ import annotations

import re

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""a block: its language, and its text"""


def blocks(text: str, language: str) -> list[str]:
    """Texts of the blocks in a language."""
    return [block for kind, block in FENCE.findall(text) if kind == language]
