"""Recipes of one's own: a file with a CONFIG, and what is said of one without."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.__main__ import read_config, read_plan
from trainer.recipes.files import read_recipe
from vocab.errors import InputError

RECIPE = '''"""A run of mine.

More of it."""
from trainer.config import OptimConfig, PretrainConfig

CONFIG = PretrainConfig(optim=OptimConfig(steps=7))
'''


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(RECIPE)
    return path


def test_a_file_is_a_recipe_whose_fields_the_command_line_overrides(recipe: Path) -> None:
    assert read_recipe(recipe)[0] == "A run of mine."
    config = read_config([str(recipe), "--warmup-steps", "3"])
    assert (config.optim.steps, config.optim.warmup_steps) == (7, 3)
    assert read_plan([str(recipe), "--gpus", "2"]).pretrain.optim.steps == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RECIPE.replace("steps=7", "stepz=7"), "unexpected keyword argument 'stepz'"),
        (RECIPE.replace("CONFIG =", "CONFIGURATION ="), "found no CONFIG"),
        ("CONFIG = 5", "found CONFIG of type int"),
        ("CONFIG = (", "was never closed"),
        ("from trainer.confug import PretrainConfig", "No module named 'trainer.confug'"),
        (None, "found no such file"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(recipe: Path, text: str | None, message: str) -> None:
    recipe.unlink() if text is None else recipe.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        read_recipe(recipe)


def test_an_option_that_there_is_not_is_status_2(recipe: Path) -> None:
    words = [sys.executable, "-m", "trainer", "pretrain", str(recipe), "--peek-lr", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--peek-lr" in done.stderr
    assert "Traceback" not in done.stderr
