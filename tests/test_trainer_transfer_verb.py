"""The verb transfer: a small run on two real tasks by every method, and what a tasks file may ask of each."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from tests.corpus import make_corpus
from tests.notebooks import run_notebook
from tests.pictures import write_folders
from trainer.__main__ import main
from trainer.distributed import Rank
from trainer.pretrain import pretrain
from trainer.records.record import cells_of, read_records
from trainer.transfer.config import FinetuneConfig, ProbeConfig, TaskConfig, TransferConfig, ZeroShotConfig
from trainer.transfer.finetune import finetune
from trainer.transfer.probing import probe
from trainer.transfer.suite import check, open_model, options, transfer
from trainer.transfer.tasks_file import SuiteTask, read_tasks
from trainer.transfer.zero_shot import zero_shot
from vocab.errors import FormatError, InputError, MismatchError

pytestmark = pytest.mark.usefixtures("one_thread")

HERE = Rank(0, 1, torch.device("cpu"))

TASKS = """
[[task]]
name = "squares"
train = "{root}/train"
test = "{root}/test"
methods = ["zeroshot", "knn", "probe", "finetune"]
percents = [100]
seeds = [0, 1]
[task.probe]
epochs = 2
train_batch = 16
neighbours = 3
[task.finetune]
epochs = 1
batch = 8

[[task]]
name = "squares, untrained"
test = "{root}/test"
methods = ["zeroshot"]
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on coloured squares, a task of them, and its tasks file. Not to be written to."""
    root = tmp_path_factory.mktemp("suite")
    assert pretrain(make_corpus(root / "corpus").config(root / "run")) == 0
    write_folders(root / "train", {"car": 8, "cat": 8, "dog": 8})
    write_folders(root / "test", {"car": 4, "cat": 4, "dog": 4}, seed=1)
    (root / "tasks.toml").write_text(TASKS.format(root=root))
    return root


def config_of(root: Path, out: Path) -> TransferConfig:
    return TransferConfig(root / "run", root / "tasks.toml", out, cache=out.parent / "cache", workers=0, device="cpu")


def checked(task: SuiteTask, config: TransferConfig) -> str:
    """The fingerprint of a task that is opened."""
    return check(task, config, HERE, open_model(config).classes)


def test_a_run_is_measured_by_every_method(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "results"
    words = ["--tasks", f"{root}/tasks.toml", "--out", f"{out}", "--cache", f"{tmp_path}/cache", "--workers", "0"]
    monkeypatch.setattr(sys, "argv", ["trainer", "transfer", f"{root}/run", *words, "--device", "cpu"])
    main()
    records = read_records(out)
    counts = {
        (task, method): sum((record.task, record.method) == (task, method) for record in records)
        for task, method in dict.fromkeys((record.task, record.method) for record in records)
    }
    assert counts == {
        ("squares", "zeroshot"): 1,
        ("squares", "probe"): 4,
        ("squares", "knn"): 1,
        ("squares", "finetune"): 4,
        ("squares, untrained", "zeroshot"): 1,
    }
    # Colours of their own, seen in the pre-training: nothing of it is hard.
    assert min(record.value for record in records if record.method == "knn") > 0.9
    for record in records:
        assert record.metric == "top1"
        assert record.images == 12
        assert record.extra["correct"].count("1") / 12 == pytest.approx(record.value)
    tuned = sorted((out / "finetune").iterdir())
    assert len(tuned) == 4
    assert all((folder / "model" / "model.safetensors").exists() for folder in tuned)
    assert not any((folder / "checkpoints").exists() for folder in tuned)
    # Beside every result the scores of its classes: 4 images each, so that their mean is the accuracy.
    for record in records:
        name = f"{record.task}-{record.init}-{record.percent:g}-{record.seed}"
        rows = list(csv.DictReader((out / record.method / name / "classes.csv").read_text().splitlines()))
        assert [(row["class"], row["images"]) for row in rows] == [("car", "4"), ("cat", "4"), ("dog", "4")]
        assert sum(float(row["accuracy"]) for row in rows) / 3 == pytest.approx(record.value, abs=1e-6)
    assert sorted(path.name for path in (out / "zeroshot").iterdir()) == [
        "squares, untrained-none-0-0",
        "squares-none-0-0",
    ]
    assert [path.name for path in (out / "knn").iterdir()] == ["squares-none-100-0"]
    # What is done is not done again: not even the features are looked at.
    (tmp_path / "cache" / "features").rename(tmp_path / "elsewhere")
    main()
    assert not (tmp_path / "cache" / "features").exists()
    assert read_records(out) == records


def test_results_of_every_verb_are_read_by_one_function_and_drawn_by_the_notebook(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TaskConfig(str(root / "train"), str(root / "test"), cache=tmp_path / "cache")
    usual: dict[str, Any] = {"workers": 0, "device": "cpu"}
    probe(ProbeConfig(root / "run", task, tmp_path / "probe", epochs=2, train_batch=16, **usual))
    zero_shot(ZeroShotConfig(root / "run", tmp_path / "zeroshot", task, **usual))
    assert finetune(FinetuneConfig(root / "run", task, tmp_path / "finetune", epochs=1, batch=8, **usual)) == 0
    transfer(replace(config_of(root, tmp_path / "transfer"), cache=tmp_path / "cache"))
    methods = {
        "probe": ["probe", "knn"],
        "zeroshot": ["zeroshot"],
        "finetune": ["finetune"],
        "transfer": ["zeroshot", "probe", "knn", "finetune"],
    }
    for verb, wanted in methods.items():
        content = json.loads((tmp_path / verb / "results.json").read_text())
        assert (content["format"], content["version"], content["verb"]) == ("catlip-results", 2, verb)
        assert content["model"] == str(root / "run")
        records = read_records(tmp_path / verb)
        assert list(dict.fromkeys(record.method for record in records)) == wanted
        assert all(record.metric == "top1" and record.images == 12 for record in records)
        assert [cell["value"] for cell in content["table"]] == [cell.interval.value for cell in cells_of(records)]
    (pretrained,) = read_records(root / "run")
    assert (pretrained.method, pretrained.metric, pretrained.value) == (
        "pretrain",
        "map_macro",
        pretrained.extra["macro"],
    )
    places = os.pathsep.join(str(folder) for folder in (root / "run", *(tmp_path / verb for verb in methods)))
    (outputs,) = run_notebook(ROOT / "notebooks" / "transfer.ipynb", {"RESULTS": places, "CURVES": None})
    assert not [output for output in outputs if output["output_type"] == "error"]
    text = "".join(output.get("text", "") for output in outputs)
    assert text.count("pretrain, random, 100 %: map_macro") == 1
    assert text.count("zeroshot, none, 0 %: top1") == 3
    assert text.count("finetune, random, 100 %: top1") == 2


def test_nearest_neighbours_alone_train_no_probe(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TASKS.format(root=root).replace('["zeroshot", "knn", "probe", "finetune"]', '["knn", "probe"]')
    (tmp_path / "tasks.toml").write_text(text)
    config = replace(config_of(root, tmp_path / "both"), tasks=tmp_path / "tasks.toml")
    transfer(config)
    (tmp_path / "alone.toml").write_text(text.replace('["knn", "probe"]', '["zeroshot", "knn"]'))
    monkeypatch.setattr("trainer.probe.choice.train_grid", None)
    capsys.readouterr()
    transfer(replace(config, tasks=tmp_path / "alone.toml", out=tmp_path / "alone"))
    both, alone = (
        [record for record in read_records(tmp_path / out) if record.method == "knn"] for out in ("both", "alone")
    )
    assert [replace(record, seconds=0.0) for record in alone] == [replace(record, seconds=0.0) for record in both]
    assert "learning rate" not in capsys.readouterr().err


def test_options_that_the_suite_sets_itself_are_no_options() -> None:
    known = options()
    assert "preset" in known["probe"]
    assert "hyponyms" in known["zeroshot"]
    assert "layer_decay" in known["finetune"]
    for section in known.values():
        assert not section.keys() & {"model", "task", "out", "init", "percent", "seed", "seeds", "device", "workers"}
    # Zero-shot has a similarity of its own; probe and fine-tuning the task's.
    assert [section for section, fields in known.items() if "alpha" in fields] == ["zeroshot"]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no images": ({"train": "nowhere"}, "no such file"),
    "an option of the probe": ({"probe": {"epochs": 0}}, "--epochs: found 0"),
    "an option of fine-tuning": ({"finetune": {"batch": -1}}, "--batch: found -1"),
    "an option of zero-shot": ({"zeroshot": {"alpha": 7.0}}, r"--alpha: found 7\.0"),
    "no neighbours": ({"probe": {"neighbours": 0}}, r"probe\.neighbours: found 0; wanted 1 or more for knn"),
    "nothing to score": ({"train": "", "methods": ("zeroshot",), "test": "nowhere"}, "no such file"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD.keys())
def test_a_task_that_cannot_be_measured_is_found_before_it_is(
    root: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    task: SuiteTask = read_tasks(root / "tasks.toml", options())[0]
    with pytest.raises(InputError, match=message):
        checked(replace(task, **change), config_of(root, tmp_path / "results"))


def test_a_task_that_zero_shot_cannot_score_stops_a_suite_before_it_begins(root: Path, tmp_path: Path) -> None:
    write_folders(tmp_path / "test", {"zzyzxa": 2, "zzyzxb": 2})
    more = f'[[task]]\nname = "nameless"\ntest = "{tmp_path}/test"\nmethods = ["zeroshot"]\n'
    (tmp_path / "tasks.toml").write_text((root / "tasks.toml").read_text() + more)
    config = replace(config_of(root, tmp_path / "results"), tasks=tmp_path / "tasks.toml")
    with pytest.raises(MismatchError, match=r"task 'nameless': .*none can be scored.*the task's class_names"):
        transfer(config)
    assert not list(tmp_path.glob("results/*.json*"))


def test_transfer_init_that_finds_no_row_is_said_in_every_result(root: Path, tmp_path: Path) -> None:
    names = {"zzyzxa": 8, "zzyzxb": 8}
    write_folders(tmp_path / "train", names)
    write_folders(tmp_path / "test", names, seed=1)
    (tmp_path / "tasks.toml").write_text(
        f'[[task]]\nname = "nameless"\ntrain = "{tmp_path}/train"\ntest = "{tmp_path}/test"\n'
        'methods = ["probe", "finetune"]\ninits = ["random", "transfer"]\npercents = [100]\nseeds = [0]\n'
        "[task.probe]\nepochs = 1\n[task.finetune]\nepochs = 1\nbatch = 8\n"
    )
    transfer(replace(config_of(root, tmp_path / "results"), tasks=tmp_path / "tasks.toml"))
    for record in read_records(tmp_path / "results"):
        said = any("Transfer Init found no pre-trained row, and 2 classes start at" in n for n in record.extra["notes"])
        assert said == (record.init == "transfer")
    assert "Transfer Init found no pre-trained row" in (tmp_path / "results" / "results.md").read_text()


def test_images_and_names_of_classes_have_a_fingerprint(root: Path, tmp_path: Path) -> None:
    task: SuiteTask = read_tasks(root / "tasks.toml", options())[0]
    write_folders(tmp_path / "test", {"car": 4, "cat": 4, "dog": 4}, seed=1)
    (tmp_path / "names.txt").write_text("car\ncat\ndog\n")
    task = replace(task, test=f"{tmp_path}/test", class_names=tmp_path / "names.txt")
    config = config_of(root, tmp_path / "results")
    before = checked(task, config)
    assert checked(task, config) == before
    # A copy, made at another time, is the same by its content.
    shutil.copytree(tmp_path / "test", tmp_path / "copy", copy_function=shutil.copyfile)
    moved = replace(task, test=f"{tmp_path}/copy")
    again = checked(moved, config).split()
    assert (again[0] == before.split()[0], again[1] == before.split()[1]) == (True, False)
    changed = tmp_path / "copy" / "cat" / "1.png"
    changed.write_bytes(changed.read_bytes()[:-20] + bytes(20))
    assert not set(before.split()) & set(checked(moved, config).split())
    (tmp_path / "names.txt").write_text("car\ncat\nwolf\n")
    renamed = checked(task, config)
    write_folders(tmp_path / "test", {"cat": 5})
    assert len({before, renamed, checked(task, config)}) == 3
    # Zero-shot alone, whose training images are none.
    alone = replace(task, train="", methods=("zeroshot",), test=f"{tmp_path}/test")
    first = checked(alone, config)
    (tmp_path / "test" / "cat" / "4.png").unlink()
    assert checked(alone, config) != first


def test_a_model_without_its_vocabulary_is_named_first(root: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text('{"architecture": "vit", "pretraining_loss": "bce"}')
    with pytest.raises(FormatError, match=r"vocabulary\.parquet: found no such file"):
        transfer(replace(config_of(root, tmp_path / "results"), model=tmp_path / "folder"))
    assert not (tmp_path / "results").exists()
