"""Recipes of one's own: a file with a CONFIG, and what is said of one without."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.__main__ import RECIPES, read
from trainer.config import PretrainConfig
from trainer.recipes.files import read_recipe
from trainer.verb_config import PlanConfig
from vocab.errors import InputError

RECIPE = '''"""A run of mine.

More of it."""
from trainer.config import DataConfig, LossConfig, ModelConfig, OptimConfig, PretrainConfig

CONFIG = PretrainConfig(optim=OptimConfig(steps=7))
'''


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(RECIPE)
    return path


def test_a_file_is_a_recipe_whose_fields_the_command_line_overrides(recipe: Path) -> None:
    assert read_recipe(recipe)[0] == "A run of mine."
    config = read(["pretrain", str(recipe), "--warmup-steps", "3"])
    assert isinstance(config, PretrainConfig)
    assert (config.optim.steps, config.optim.warmup_steps) == (7, 3)
    planned = read(["plan", str(recipe), "--gpus", "2"])
    assert isinstance(planned, PlanConfig)
    assert planned.pretrain.optim.steps == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RECIPE.replace("steps=7", "stepz=7"), "mine.py, line 6: found OptimConfig(stepz=...)"),
        (RECIPE.replace("CONFIG =", "CONFIGURATION ="), "found no CONFIG"),
        ("CONFIG = 5", "found CONFIG of type int"),
        ("CONFIG = (", "mine.py, line 1: found"),
        ("from trainer.confug import PretrainConfig", "mine.py, line 1: found"),
        (RECIPE.replace("OptimConfig(steps=7)", "PretrainConfig.nothing"), "mine.py, line 6: found"),
        (RECIPE.replace("PretrainConfig(optim", "dict(*5, optim"), "mine.py, line 6: found"),
        ("CONFIG = 5\0", "found"),
        ("CONFIG = {}['a']", "mine.py, line 1: found KeyError: 'a'; wanted"),
        ("open('/nowhere/x')", "mine.py, line 1: found FileNotFoundError: [Errno 2] No such file or directory: '/nowh"),
        (None, "mine.py: found a file that cannot be read (No such file or directory)"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(recipe: Path, text: str | None, message: str) -> None:
    recipe.unlink() if text is None else recipe.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read_recipe(recipe)
    assert str(error.value).count("mine.py") == 1


def test_every_recipe_of_ours_could_be_a_file_of_one_s_own(tmp_path: Path) -> None:
    for name, module in RECIPES.items():
        path = tmp_path / "copied.py"
        path.write_text(Path(str(module.__file__)).read_text())
        assert read_recipe(path)[1] == module.CONFIG, name


VALUES = {
    "stepz=7": ".py, line 6: found OptimConfig(stepz=...), a field that OptimConfig does not have; wanted",
    "warmup_step=7": "OptimConfig has warmup_steps; --help lists every field.",
    "batch_size=7": "batch_size is a field of DataConfig.",
    "), modle=ModelConfig(": "PretrainConfig has model; --help lists every field.",
    "zzz=7": "See trainer/recipes/vit_b16_cc3m.py for one; --help lists every field.",
    "steps='7'": ".py, line 6: --steps: found '7'; wanted a value of type int",
    "steps=True": "--steps: found True; wanted a value of type int",
    "steps=7.0": "--steps: found 7.0; wanted a value of type int",
    "steps=-7": ".py, line 6: --steps: found -7; wanted more than 0",
    "schedule='linear'": "--schedule: found 'linear'; wanted a value of type Literal['cosine', 'wsd', 'step']",
    "), loss=LossConfig(asymmetric_focus=(1.0, 2.0, 3.0)": "wanted a value of type tuple[float, float]",
    "), data=DataConfig(images='a.tar'": "--images: found 'a.tar'; wanted a value of type tuple[str, ...]",
    "), data=DataConfig(cache='/tmp/cache'": "--cache: found '/tmp/cache'; wanted a value of type Path | None",
    "), run=5, model=ModelConfig(": "--run: found 5; wanted a value of type RunConfig",
    "peak_lr=1), data=DataConfig(cache=None, eval_labels='labels', source_weights=(1, 0.5)": "",
}
SAY = """
import sys
from pathlib import Path
from trainer.recipes.files import read_recipe
from vocab.errors import InputError
for path in sys.argv[1:]:
    try:
        read_recipe(Path(path))
        print()
    except InputError as error:
        print(error)
"""


def test_a_field_that_there_is_not_and_a_value_that_its_field_cannot_have_are_named(tmp_path: Path) -> None:
    # In a process of its own: here the tests' own type checks would be first.
    paths = [tmp_path / f"{number}.py" for number in range(len(VALUES))]
    for path, values in zip(paths, VALUES, strict=True):
        path.write_text(RECIPE.replace("steps=7", values))
    done = subprocess.run([sys.executable, "-c", SAY, *map(str, paths)], capture_output=True, text=True, check=True)
    for said, message in zip(done.stdout.splitlines(), VALUES.values(), strict=True):
        assert message in said
        assert bool(message) == bool(said), said


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("vit-b16-cc12m", "Did you mean vit-b16-cc3m?"),
        ("recipes/mine", "python -m trainer {verb} --help says what each is; your own is a file NAME.py."),
    ],
)
@pytest.mark.parametrize("verb", ["pretrain", "plan"])
def test_a_recipe_that_there_is_not_is_one_error(name: str, remedy: str, verb: str) -> None:
    with pytest.raises(InputError) as error:
        read([verb, name, "--steps", "5"])
    assert str(error.value) == (
        f"recipe {name}: found none of that name; wanted sample, vit-b16-cc3m, vit-b16-datacomp, vit-l16-datacomp, "
        f"vit-h16-datacomp. {remedy.format(verb=verb)}"
    )


def test_an_option_that_there_is_not_is_status_2(recipe: Path) -> None:
    words = [sys.executable, "-m", "trainer", "pretrain", str(recipe), "--peek-lr", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--peek-lr" in done.stderr
    assert "Traceback" not in done.stderr
