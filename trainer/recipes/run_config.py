"""The config.json of a run as the recipe that repeats the run: `python -m trainer pretrain runs/old/config.json`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from trainer.config import PretrainConfig
from vocab.errors import FormatError
from vocab.store.sealing import SEAL, from_sealed_json

REPEAT = "-repeat"
"""end of the name of the directory in which a run is repeated unless --out names another one"""


def read_run_config(path: Path) -> tuple[str, PretrainConfig]:
    """Read a run's config.json; return a sentence about it, and the configuration with a run directory of its own.

    Raises FormatError for a file that no run of this version wrote, InputError for a value that its option cannot have.
    """
    try:
        stored = from_sealed_json(path, path.read_bytes())
    except OSError as error:
        raise _no_config(path, f"a file that cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise _no_config(path, f"no JSON ({error})") from error
    if not isinstance(stored, dict):
        raise _no_config(path, f"a {type(stored).__name__}")
    config = _built(PretrainConfig, {name: value for name, value in stored.items() if name != SEAL}, path)
    # "." was the folder of the run, which may be another one now.
    out = config.run.out if config.run.out.name not in ("", "..") else path.absolute().parent
    repeated = replace(config, run=replace(config.run, out=out.parent / f"{out.name}{REPEAT}"))
    return f"Repeat the run of {path}.", repeated


def _built(kind: Any, values: dict[str, Any], path: Path) -> Any:
    """Build a dataclass of options from what JSON holds of it."""
    hints = get_type_hints(kind)
    names = [each.name for each in fields(kind)]
    if unknown := sorted(values.keys() - names):
        raise _no_config(path, f"the field {unknown[0]}, which {kind.__name__} does not have")
    if missing := [name for name in names if name not in values]:
        raise _no_config(path, f"no field {missing[0]}, which {kind.__name__} has")
    return kind(**{name: _value(hints[name], values[name], path) for name in names})


def _value(hint: Any, value: Any, path: Path) -> Any:
    """Return a value of JSON in the type of its field: a dataclass, a path, a tuple, or the value itself."""
    if is_dataclass(hint) and isinstance(value, dict):
        return _built(hint, value, path)
    if isinstance(value, str) and Path in (hint, *get_args(hint)):
        return Path(value)
    return tuple(value) if isinstance(value, list) and get_origin(hint) is tuple else value


def _no_config(path: Path, found: str) -> FormatError:
    return FormatError(
        path,
        found=found,
        wanted="the config.json of a run of python -m trainer pretrain, by this version",
        remedy="Name the config.json in the directory of the run, or begin with a recipe: python -m trainer pretrain "
        "--help lists them.",
    )
