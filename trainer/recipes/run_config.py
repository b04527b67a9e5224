"""The config.json of a run as the options that it was started with.

`python -m trainer pretrain runs/old/config.json` repeats a run.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from trainer.config import PretrainConfig
from trainer.options import Options
from vocab.errors import FormatError
from vocab.store.sealing import SEAL, from_sealed_json

Config = TypeVar("Config", bound=Options)
REPEAT = "-repeat"
"""end of the name of the directory in which a run is repeated unless --out names another one"""


def read_run_config(path: Path) -> tuple[str, PretrainConfig]:
    """Read a run's config.json; return a sentence about it, and the configuration with a run directory of its own.

    Raises as `stored_options`.
    """
    config = stored_options(path, PretrainConfig, verb="pretrain")
    # "." was the folder of the run, which may be another one now.
    out = config.run.out if config.run.out.name not in ("", "..") else path.absolute().parent
    repeated = replace(config, run=replace(config.run, out=out.parent / f"{out.name}{REPEAT}"))
    return f"Repeat the run of {path}.", repeated


def stored_options(path: Path, kind: type[Config], *, verb: str) -> Config:
    """Read the options of a run of a verb.

    Raises FormatError for a file that no run of this version wrote, InputError for a value that its option cannot have.
    """
    try:
        stored = from_sealed_json(path, path.read_bytes())
        if not isinstance(stored, dict):
            raise _NoConfigError(f"a {type(stored).__name__}")
        made: Config = _built(kind, {name: value for name, value in stored.items() if name != SEAL})
    except OSError as error:
        raise _no_config(path, f"a file that cannot be read ({error.strerror})", verb) from error
    except _NoConfigError as error:
        raise _no_config(path, f"{error}", verb) from error
    except ValueError as error:
        raise _no_config(path, f"no JSON ({error})", verb) from error
    return made


class _NoConfigError(Exception):
    """Content that is no configuration of the verb."""


def _built(kind: Any, values: dict[str, Any]) -> Any:
    """Build a dataclass of options from what JSON holds of it. Raises _NoConfigError for other fields."""
    hints = get_type_hints(kind)
    names = [each.name for each in fields(kind)]
    if unknown := sorted(values.keys() - names):
        raise _NoConfigError(f"the field {unknown[0]}, which {kind.__name__} does not have")
    if missing := [name for name in names if name not in values]:
        raise _NoConfigError(f"no field {missing[0]}, which {kind.__name__} has")
    return kind(**{name: _value(hints[name], values[name]) for name in names})


def _value(hint: Any, value: Any) -> Any:
    """Return a value of JSON in the type of its field: a dataclass, a path, a tuple, or the value itself."""
    if is_dataclass(hint) and isinstance(value, dict):
        return _built(hint, value)
    if isinstance(value, str) and Path in (hint, *get_args(hint)):
        return Path(value)
    is_tuple = any(get_origin(kind) is tuple for kind in (hint, *get_args(hint)))
    return tuple(value) if isinstance(value, list) and is_tuple else value


def _no_config(path: Path, found: str, verb: str) -> FormatError:
    begin = ", or begin with a recipe: python -m trainer pretrain --help lists them" if verb == "pretrain" else ""
    return FormatError(
        path,
        found=found,
        wanted=f"the config.json of a run of python -m trainer {verb}, by this version",
        remedy=f"Name the config.json in the directory of the run{begin}.",
    )
