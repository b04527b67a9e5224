"""Weights that are not the model's: their names and shapes in messages, and the prefix that wrappers left before names.

Such prefixes are module. (DDP), _orig_mod. (torch.compile), model. and backbone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from vocab.pages.text import counted

PREFIX = re.compile(r"[\w.]+")
"""prefixes that may stand in a command; others are not looked for"""
SIZE = re.compile(r"size mismatch for (\S+): .*?torch.Size\((\[.*?\])\).*?torch.Size\((\[.*?\])\)")
MISSING = re.compile(r"Missing key\(s\) in state_dict: (.*?)\. ?$", re.MULTILINE)
UNEXPECTED = re.compile(r"Unexpected key\(s\) in state_dict: (.*?)\. ?$", re.MULTILINE)


def prefix_of(names: Collection[str], wanted: Collection[str]) -> str:
    """Find the prefix that all names have, and without which one is wanted; none where a name is wanted as it is.

    >>> prefix_of(["module.norm.weight", "module.head.bias"], ["norm.weight", "norm.bias"])
    'module.'
    >>> prefix_of(["module.norm.weight", "head.bias"], ["norm.weight", "norm.bias"])
    ''
    """
    parts = next(iter(names), "").split(".")
    for count in range(len(parts)):
        prefix = "".join(f"{part}." for part in parts[:count])
        if not all(name.startswith(prefix) for name in names):
            break
        if any(name.removeprefix(prefix) in wanted for name in names):
            return prefix if PREFIX.fullmatch(prefix) else ""
    return ""


def misnamed(error: BaseException) -> tuple[list[str], list[str]]:
    """Read from torch's error for a model's weights which names are missing, and which the model lacks."""
    missing, unexpected = (
        [name for names in pattern.findall(str(error)) for name in re.findall(r'"(.*?)"', names)]
        for pattern in (MISSING, UNEXPECTED)
    )
    return missing, unexpected


def misfit(error: BaseException) -> str:
    """Say what torch found in weights that it refused: another shape, names that are missing or too many.

    Nothing is said of an error of another kind.
    """
    if wrong := SIZE.search(str(error)):
        return f"{wrong[1]} of shape {wrong[2]}, where the model has {wrong[3]}"
    missing, unexpected = misnamed(error)
    parts = [f"no {first_of(missing)}"] * bool(missing)
    parts += [f"{first_of(unexpected)}, which the model lacks"] * bool(unexpected)
    return "; ".join(parts)


def first_of(names: Sequence[str]) -> str:
    """Name the first of some weights, and count the others."""
    return "".join(names[:1]) + (f" and {counted(len(names) - 1, 'other')}" if len(names) > 1 else "")


def without_prefix(prefix: str) -> str:
    """Say how to write weights under names without a prefix."""
    return (
        f"All of their names begin with {prefix}, which timm's names lack. Write them without it: python -c 'import "
        f'sys, safetensors.torch as s; s.save_file({{name.removeprefix("{prefix}"): tensor for name, tensor in '
        f"s.load_file(sys.argv[1]).items()}}, sys.argv[2])' OLD.safetensors NEW.safetensors"
    )
