"""Options of the trainer's verbs: each is declared and described once, and refused when it cannot be."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trainer.config
import trainer.options
import trainer.transfer.config
import trainer.transfer.tasks_file
import trainer.verb_config
from trainer.__main__ import VERBS, read
from trainer.config import DataConfig, OptimConfig, PretrainConfig, RunConfig
from trainer.options import Bounds, Cache, Options, declared, values_of
from trainer.transfer.config import FinetuneConfig, ProbeConfig, TaskConfig, TransferConfig, ZeroShotConfig
from trainer.transfer.tasks_file import SuiteTask
from trainer.verb_config import ExportConfig, FeedConfig, ImportConfig, PlanConfig
from vocab.errors import InputError
from vocab.store.field_types import name_of

MODULES = (trainer.options, trainer.config, trainer.verb_config, trainer.transfer.config, trainer.transfer.tasks_file)
TASK = TaskConfig("train", "test")
CONFIGS: dict[str, Options] = {
    "pretrain": PretrainConfig(),
    "feed": FeedConfig(),
    "plan": PlanConfig(),
    "export": ExportConfig("run", "out"),
    "import": ImportConfig("weights", "vocabulary", "out"),
    "probe": ProbeConfig("model", TASK, "out"),
    "zeroshot": ZeroShotConfig("model", "out"),
    "finetune": FinetuneConfig("model", TASK, Path("out")),
    "transfer": TransferConfig("model", "tasks", Path("out")),
}
DECLARED_TWICE = {
    "data": "a measurement of the data path holds nothing out",
    "out": "a verb says what it writes: a folder that must not exist, a run to continue, weights",
    "train": "a suite's task may have none",
    "test": "stands beside `train`",
    "task": "zero-shot can do without the images to train on",
    "drop_path": "a model's size and a fine-tuning's regulariser: no other option of either is shared",
    "label_smoothing": "the loss of pre-training and the probe's: no other option of either is shared",
    "eval_every": "steps in pre-training, epochs in fine-tuning",
    "prefetch": "batches of loader processes, and of threads",
    "workers": "loader processes in pre-training, threads elsewhere",
    "batch": "images at a time per process, and images of an optimisation step over all processes",
    "image_size": "size to train at, and size to write position embeddings for",
    "alpha": "similarity for the rows that a classifier begins with, and for the rows that score",
}


def declarations() -> Iterator[tuple[str, str, str, str | None]]:
    """Class, field, type as written, and docstring of every field that a class declares."""
    for module in MODULES:
        for part in ast.parse(Path(str(module.__file__)).read_text()).body:
            if isinstance(part, ast.ClassDef) and issubclass(getattr(module, part.name), Options):
                for line, below in zip(part.body, [*part.body[1:], None], strict=True):
                    if isinstance(line, ast.AnnAssign) and not re.match(
                        "KW_ONLY|ClassVar", ast.unparse(line.annotation)
                    ):
                        is_doc = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                        text = below.value.value if is_doc else None  # type: ignore[union-attr]
                        kind = re.sub(r"Annotated\[(.*), \'[A-Z]+\'\]", r"\1", ast.unparse(line.annotation))
                        yield part.name, ast.unparse(line.target), kind, text


def test_an_option_is_described_where_it_is_declared_and_another_default_is_of_an_inherited_one() -> None:
    for part, name, _, text in declarations():
        kind = next(getattr(module, part) for module in MODULES if hasattr(module, part))
        inherited = any(name in getattr(base, "__annotations__", {}) for base in kind.__mro__[1:])
        assert (text is None) == inherited, f"{part}.{name}"


def test_no_option_is_declared_in_two_classes_but_for_those_that_differ() -> None:
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for part, name, kind, text in declarations():
        if text is not None:
            found[name, kind].append(part)
    twice = {name for (name, _), parts in found.items() if len(parts) > 1}
    assert twice == DECLARED_TWICE.keys()


def test_a_pre_training_s_parts_have_no_name_in_common() -> None:
    names = [each.name for part in vars(PretrainConfig()).values() for each in dataclasses.fields(part)]
    assert len(names) == len(set(names))


def bounded(config: Options) -> Iterator[tuple[Options, str, Bounds]]:
    """Every option with bounds, with the part that has it."""
    for name, (_, bounds) in declared(type(config)).items():  # type: ignore[arg-type]
        value = getattr(config, name)
        if isinstance(value, Options):
            yield from bounded(value)
        elif bounds is not None:
            yield config, name, bounds


def wrong_values(config: Options, name: str, bounds: Bounds) -> Iterator[Any]:
    """Values of an option's type just out of its bounds, on either side, and NaN."""
    hint = name_of(declared(type(config))[name][0])  # type: ignore[arg-type]
    is_float = "float" in hint
    numbers = [bounds.low if bounds.above_low else bounds.low - 1]
    if bounds.high < math.inf or (bounds.below_high and is_float):
        numbers.append(bounds.high if bounds.below_high else bounds.high + 1)
    for number in [*map(float, numbers), math.nan] if is_float else map(int, numbers):
        yield number if "tuple" not in hint else (number,) if "..." in hint else (number, number)


BOUNDED = [(verb, *each) for verb, config in CONFIGS.items() for each in bounded(config)]


@pytest.mark.parametrize(
    ("part", "name", "bounds"),
    [each[1:] for each in BOUNDED],
    ids=[f"{verb} {part.option(name)}" for verb, part, name, _ in BOUNDED],
)
def test_a_number_out_of_bounds_is_refused_when_a_configuration_is_built(
    part: Options, name: str, bounds: Bounds
) -> None:
    for wrong in wrong_values(part, name, bounds):
        with pytest.raises(InputError, match=f"found {wrong[0] if isinstance(wrong, tuple) else wrong}") as error:
            replace(part, **{name: wrong})  # type: ignore[type-var]
        assert error.value.thing == part.option(name)
        assert error.value.wanted == str(bounds)
        assert part.option(name) in error.value.remedy


def test_every_number_of_every_verb_has_bounds_but_for_those_that_may_be_anything() -> None:
    free = set()
    for verb, config in CONFIGS.items():
        for part in (config, *(value for value in vars(config).values() if isinstance(value, Options))):
            for name, (hint, bounds) in declared(type(part)).items():  # type: ignore[arg-type]
                if bounds is None and re.search(r"\b(int|float)\b", name_of(hint)):
                    free.add(f"{verb} {name}")
    assert free == {
        "feed gpu_rate",
        "export checkpoint",
        *(f"{verb} {name}" for verb in ("pretrain", "feed") for name in ("source_weights", "resolution_sizes")),
    }


def test_nan_is_in_no_bounds() -> None:
    with pytest.raises(InputError, match=r"--max-bad-share: found nan; wanted 0 or more, and at most 1"):
        DataConfig(max_bad_share=math.nan)


def test_bounds_say_which_numbers_they_hold() -> None:
    assert [str(each) for each in (Bounds(), Bounds(0, 1, above_low=True), Bounds(0, 1, below_high=True))] == [
        "0 or more",
        "more than 0, and at most 1",
        "0 or more, and less than 1",
    ]
    assert str(Bounds(above_low=True, below_high=True)) == "more than 0, and finite"


def test_an_option_s_error_names_it_as_it_is_typed() -> None:
    with pytest.raises(InputError, match=r"^--task\.max-bad-share: found 2\.0; .* smaller --task\.max-bad-share"):
        TaskConfig("train", "test", max_bad_share=2.0)
    with pytest.raises(InputError, match=r"^max-bad-share: found 2\.0"):
        SuiteTask("name", "test", "train", max_bad_share=2.0)


def test_a_part_s_options_pass_from_one_configuration_to_another() -> None:
    suite = TransferConfig("model", "tasks", Path("out"), cache=Path("kept"), allow_pipe=True)
    assert values_of(suite, Cache) == {"cache": Path("kept"), "cache_gb": 200.0, "allow_pipe": True}
    assert TaskConfig("train", "test", **values_of(suite, Cache)).cache == Path("kept")


def test_a_verb_s_own_options_come_before_those_that_it_shares() -> None:
    names = [each.name for each in dataclasses.fields(DataConfig)]
    assert names[:3] == ["images", "labels", "vocabulary"]
    assert names[-1] == "allow_pipe"
    assert list(dataclasses.asdict(TASK))[:2] == ["train", "test"]


def test_muon_skips_no_step_and_shares_out_no_matrix() -> None:
    with pytest.raises(InputError, match="--optimiser: found muon with --on-spike skip"):
        replace(CONFIGS["finetune"], optimiser="muon", on_spike="skip")  # type: ignore[type-var]
    with pytest.raises(InputError, match="--optimiser: found muon with --on-spike skip"):
        OptimConfig(optimiser="muon", on_spike="skip")
    with pytest.raises(InputError, match="--optimiser: found muon with --parallel fsdp"):
        PretrainConfig(optim=OptimConfig(optimiser="muon"), run=RunConfig(parallel="fsdp"))


def test_an_unknown_verb_is_one_error_with_the_verb_that_may_be_meant() -> None:
    with pytest.raises(InputError) as error:
        read(["pretrian", "sample"])
    assert error.value.thing == "verb pretrian"
    assert error.value.wanted == ", ".join(VERBS)
    assert error.value.remedy == "Did you mean pretrain?"


def test_help_begins_with_the_verbs_and_does_not_wait_for_torch() -> None:
    code = "import sys, trainer.__main__ as m\nsys.argv = ['trainer', *sys.argv[1:]]\ntry:\n    m.main()\nfinally:\n"
    code += "    assert 'torch' not in sys.modules"
    for words in (["--help"], ["pretrain", "--help"], ["pretrain", "sample", "--help"], ["finetune", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        if words == ["--help"]:
            said = done.stdout.partition("verbs:\n")[2]
            assert [line.split()[0] for line in said.splitlines() if line.startswith("  ") and line[2] != " "] == [
                *VERBS
            ]


def test_a_plan_takes_the_options_of_its_run_and_needs_none_of_them() -> None:
    plan = read(["plan", "sample", "--accumulate", "2", "--gpus", "1"])
    assert isinstance(plan, PlanConfig)
    assert (plan.pretrain.optim.accumulate, plan.gpus, plan.pretrain.data.images) == (2, 1, ())
