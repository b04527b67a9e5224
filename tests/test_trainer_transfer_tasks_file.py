"""The tasks file: what it may hold, and how it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from trainer.transfer.tasks_file import SectionFields, SuiteTask, read_tasks
from vocab.errors import InputError

OPTIONS: SectionFields = {
    "probe": {"preset": Literal["grid", "paper"], "learning_rates": tuple[float, ...]},
    "zeroshot": {"alpha": float, "image_size": int | None},
    "finetune": {"epochs": int, "peak_lr": float | None, "flip": bool, "features": Path | None},
}

SMALL = '[[task]]\nname = "pets"\ntrain = "pets/train"\ntest = "pets/test"\n'


def read(folder: Path, text: str | bytes) -> tuple[SuiteTask]:
    """The tasks of a file with this text."""
    path = folder / "tasks.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_tasks(path, OPTIONS)


def test_a_task_needs_a_name_and_images_alone(tmp_path: Path) -> None:
    (task,) = read(tmp_path, SMALL)
    assert task == SuiteTask(name="pets", train="pets/train", test="pets/test")
    assert task.methods == ("zeroshot", "knn", "probe")
    assert task.percents == (1.0, 5.0, 10.0, 25.0, 50.0, 100.0)
    assert (task.seeds, task.inits, task.alpha) == ((0, 1, 2), ("random", "transfer"), 0.5)


def test_every_field_is_read_as_its_type_has_it(tmp_path: Path) -> None:
    text = """
[[task]]
name = "COCO 2017"
train = "train.json::train"
test = "val.json::val"
kind = "coco"
class_names = "names.txt"
csv_columns = ["file", "class"]
max_bad_share = 0
max_pixels = 1000
methods = ["finetune", "probe", "zeroshot"]
percents = [1, 2.5]
seeds = [7]
inits = ["transfer"]
alpha = 1

[task.probe]
preset = "paper"
learning_rates = [1, 0.1]
[task.zeroshot]
alpha = 1
image_size = 64
[task.finetune]
epochs = 3
peak_lr = 1
flip = false
features = "kept"

[[task]]
name = "pets"
test = "pets"
methods = ["zeroshot"]
"""
    coco, pets = read(tmp_path, text)
    assert coco == SuiteTask(
        name="COCO 2017",
        train="train.json::train",
        test="val.json::val",
        kind="coco",
        class_names=Path("names.txt"),
        csv_columns=("file", "class"),
        max_bad_share=0.0,
        max_pixels=1000,
        methods=("finetune", "probe", "zeroshot"),
        percents=(1.0, 2.5),
        seeds=(7,),
        inits=("transfer",),
        alpha=1.0,
        probe={"preset": "paper", "learning_rates": (1.0, 0.1)},
        zeroshot={"alpha": 1.0, "image_size": 64},
        finetune={"epochs": 3, "peak_lr": 1.0, "flip": False, "features": Path("kept")},
    )
    assert [type(percent) for percent in coco.percents] == [float, float]
    assert pets == SuiteTask(name="pets", test="pets", methods=("zeroshot",))


HOSTILE: dict[str, tuple[str, str]] = {
    "unknown field": (
        "percent = [1]",
        "task 'pets': percent: found an unknown field; wanted one of max_bad_share, max_pixels,",
    ),
    "table that is nearly one": (
        "[task.finetun]\nepochs = 5",
        "task 'pets': finetun: found an unknown field; wanted one of max_bad_share,",
    ),
    "option that is nearly one": (
        "[task.finetune]\nepoch = 5",
        "finetune.epoch: found an unknown field; wanted one of epochs, peak_lr, flip, features. docs/transfer.md says",
    ),
    "number in quotes": (
        '[task.finetune]\nepochs = "16"',
        "task 'pets': finetune.epochs: found '16'; wanted a value of type int. docs",
    ),
    "number in quotes in a list": ('seeds = [0, "1"]', "seeds: found [0, '1']; wanted a value of type list[int]"),
    "word without a list": (
        'methods = "knn"',
        "methods: found 'knn'; wanted a value of type list[Literal['probe', 'knn', 'finetune', 'zeroshot'",
    ),
    "text for a number": ('alpha = "0.5"', "task 'pets': alpha: found '0.5'; wanted a value of type float"),
    "yes for a number": ("alpha = true", "task 'pets': alpha: found True; wanted a value of type float"),
    "number for a text": ("class_names = 5", "task 'pets': class_names: found 5; wanted a value of type str. docs"),
    "one for a list": ("percents = 1", "task 'pets': percents: found 1; wanted a value of type list[float]"),
    "yes for a seed": ("seeds = [true]", "task 'pets': seeds: found [True]; wanted a value of type list[int]"),
    "half a seed": ("seeds = [0.5]", "task 'pets': seeds: found [0.5]; wanted a value of type list[int]"),
    "list in a list": ("seeds = [[0]]", "task 'pets': seeds: found [[0]]; wanted a value of type list[int]"),
    "unknown method": (
        'methods = ["knn", "prob"]',
        "task 'pets': methods: found ['knn', 'prob']; wanted a value of type list[Literal['probe', 'knn', 'finetune', ",
    ),
    "unknown init": (
        'inits = ["zeros"]',
        "task 'pets': inits: found ['zeros']; wanted a value of type list[Literal['random', 'transfer']]. docs",
    ),
    "one column": (
        'csv_columns = ["path"]',
        "task 'pets': csv_columns: found ['path']; wanted a value of type list[str, str]",
    ),
    "a method that makes the model": (
        'methods = ["pretrain"]',
        "task 'pets': methods: found ['pretrain']; wanted a value of type list[Literal['probe', 'knn', 'finetune', ",
    ),
    "no methods": ("methods = []", "task 'pets': methods: found none; wanted one or more values"),
    "no seeds": ("seeds = []", "task 'pets': seeds: found none"),
    "a seed twice": ("seeds = [1, 0, 1]", "task 'pets': seeds: found 1 0 1; wanted each value once"),
    "a share twice": ("percents = [1, 1.0]", "task 'pets': percents: found 1.0 1.0; wanted each value once"),
    "0 %": ("percents = [0, 1]", "task 'pets': percents: found 0.0 1.0; wanted more than 0, and at most 100"),
    "101 %": ("percents = [101]", "task 'pets': percents: found 101.0; wanted more than 0"),
    "no percentage": ("percents = [nan]", "task 'pets': percents: found nan; wanted more than 0"),
    "a huge percentage": (
        "percents = [1" + "0" * 400 + "]",
        "task 'pets': percents: found inf; wanted more than 0",
    ),
    "a seed below 0": ("seeds = [-1]", "task 'pets': seeds: found -1; wanted 0 or more, and less than 2,147,483,648"),
    "similarity 0": ("alpha = 0", "task 'pets': alpha: found 0.0; wanted more than 0, and at most 1"),
    "share above 1": ("max_bad_share = 1.5", "task 'pets': max_bad_share: found 1.5; wanted 0 or more, and at most 1"),
    "no pixels": ("max_pixels = 0", "task 'pets': max_pixels: found 0; wanted more than 0"),
    "pipes": ("allow_pipe = true", "task 'pets': allow_pipe: found an unknown field"),
    "options that are none": ("probe = 5", "task 'pets': probe: found 5; wanted a table [task.probe]"),
    "unknown option": (
        "[task.probe]\nepoch = 5",
        "task 'pets': probe.epoch: found an unknown field; wanted one of preset, learning_rates",
    ),
    "wrong option": (
        '[task.probe]\npreset = "big"',
        "task 'pets': probe.preset: found 'big'; wanted a value of type Literal['grid', 'paper']. docs",
    ),
    "a name twice": (SMALL, "task 'pets': name: found two tasks of this name; wanted another name for each task"),
    "a second without a name": ('[[task]]\ntest = "b"', "task 'number 2': name: found nothing; wanted a name"),
    "nothing to test on": ('[[task]]\nname = "b"\ntrain = "b"', "task 'b': test: found nothing; wanted the images to"),
    "nothing to train on": (
        '[[task]]\nname = "b"\ntest = "b"',
        "task 'b': train: found nothing; wanted the images to train on; zeroshot alone needs none",
    ),
    "a path as a name": ('[[task]]\nname = "../b"\ntest = "b"', "task 'number 2': name: found '../b'; wanted 1 to 100"),
    "a hidden name": ('[[task]]\nname = ".b"\ntest = "b"', "task 'number 2': name: found '.b'; wanted 1 to 100"),
    "two lines as a name": (
        '[[task]]\nname = "a\\nb"\ntest = "b"',
        "task 'number 2': name: found 'a\\nb'; wanted 1 to 100 characters that can be shown",
    ),
    "a number as a name": ('[[task]]\nname = 7\ntest = "b"', "task 'number 2': name: found 7; wanted 1 to 100"),
    "no TOML": ("=", "tasks.toml: found no readable TOML (Invalid statement (at line 5, column 1))"),
    "a key of very many parts": (".".join("a" * 100_000) + " = 1", "(line 5 has keys of more than 100 parts)"),
    "the same in an inline table": (
        'x = {s = "#\\"", ' + '."b"' * 50_000 + "'.",
        "(line 5 has keys of more than 100 parts)",
    ),
    "a table of very many parts": ("[" + ".".join("a" * 101) + ".a]", "(line 5 has keys of more than 100 parts)"),
    "a number of very many digits": ("seeds = [" + "9" * 100_000 + "]", "tasks.toml: found no readable TOML ("),
    "tables in tables": ("x = " + "{a = " * 100_000, "tasks.toml: found no readable TOML ("),
    "brackets without end": ("seeds = " + "[" * 100_000, "tasks.toml: found no readable TOML ("),
}


@pytest.mark.parametrize(("added", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_a_task_cannot_have_is_named(tmp_path: Path, added: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, f"{SMALL}{added}\n")
    assert message in str(caught.value)


FILES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "found no [[task]]; wanted [[task]] tables with name, test, and train"),
    "one table": ('[task]\nname = "pets"', "found no [[task]]"),
    "an empty list": ("task = []", "found no [[task]]"),
    "a list of words": ('task = ["pets"]', "found no [[task]]"),
    "a table of another name": (SMALL.replace("[[task]]", "[[tasks]]"), "found 'tasks' outside of a task"),
    "something beside": (f"seeds = [0]\n{SMALL}", "found 'seeds' outside of a task"),
    "no text": (b"\xff\xfe", "found no readable TOML"),
    "too long": ("#" * (1 << 20) + "\n", "found more than 1 MiB"),
}


@pytest.mark.parametrize(("text", "message"), FILES.values(), ids=FILES.keys())
def test_a_file_that_is_none_of_tasks_is_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=r"tasks\.toml: found") as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="found no readable TOML"):
        read_tasks(tmp_path / name, OPTIONS)


def test_options_may_be_those_of_neighbours_alone(tmp_path: Path) -> None:
    (task,) = read(tmp_path, SMALL + 'methods = ["knn"]\n[task.probe]\npreset = "paper"\n')
    options: dict[str, Any] = dict(task.probe)
    assert options == {"preset": "paper"}
    assert task.waiting == ()


def test_options_of_a_method_that_is_not_asked_for_wait_for_it(tmp_path: Path) -> None:
    (task,) = read(tmp_path, SMALL + "[task.finetune]\nepochs = 5\n")
    assert (task.finetune, task.waiting) == ({"epochs": 5}, ("finetune",))
