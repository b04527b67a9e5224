"""The verb probe: from a run and folders of images to a table, and what stops it."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.corpus import make_corpus
from tests.forks import Forks
from tests.pictures import write_folders
from trainer.__main__ import main
from trainer.distributed import Rank, join_processes
from trainer.pretrain import pretrain
from trainer.transfer.config import ProbeConfig, TaskConfig
from trainer.transfer.probing import probe, probe_records
from trainer.transfer.tasks.opening import open_task, subset
from vocab.errors import CatlipError, FormatError, InputError, OutputExistsError

pytestmark = pytest.mark.usefixtures("one_thread")

HERE = Rank(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on coloured squares called dog, cat and car. Not to be written to."""
    root = tmp_path_factory.mktemp("probing")
    assert pretrain(make_corpus(root / "corpus").config(root / "run")) == 0
    return root / "run"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train and test. Not to be written to."""
    root = tmp_path_factory.mktemp("folders")
    write_folders(root / "train", {"car": 20, "cat": 20, "dog": 20})
    write_folders(root / "test", {"car": 6, "cat": 6, "dog": 6}, seed=1)
    return root


def config_of(run: Path, folders: Path, out: Path, **changes: Any) -> ProbeConfig:
    task = TaskConfig(str(folders / "train"), str(folders / "test"), cache=out.parent / "cache")
    usual: dict[str, Any] = {"epochs": 5, "train_batch": 16, "workers": 0, "device": "cpu"}
    return ProbeConfig(run, changes.pop("task", task), out, **(usual | changes))


def results(out: Path) -> Any:
    return json.loads((out / "results.json").read_text())


def test_the_verb_leaves_a_folder_of_results(run: Path, folders: Path, tmp_path: Path) -> None:
    words = ["probe", str(run), "--task.train", str(folders / "train"), "--task.test", str(folders / "test")]
    words += ["--task.cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out"), "--percent", "10", "100"]
    words += ["--seeds", "0", "1", "--train-batch", "16", "--epochs", "20", "--device", "cpu", "--workers", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["trainer", *words])
        main()
    found = results(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classes.csv", "config.json", "results.json", "results.md",
    ]  # fmt: skip

    header, *classes = (tmp_path / "out" / "classes.csv").read_text().splitlines()
    assert header == "method,percent,seed,class,images,accuracy"
    assert len(classes) == 2 * 4 * 3
    accuracies = [float(line.rpartition(",")[2]) for line in classes if line.startswith("probe,100,1,")]
    (whole,) = (one for one in found["records"] if (one["method"], one["percent"], one["seed"]) == ("probe", 100, 1))
    assert sum(accuracies) / 3 == pytest.approx(whole["value"], abs=1e-6)

    assert (found["version"], found["verb"], found["model"]) == (2, "probe", str(run))
    assert (found["data"]["classes"], found["data"]["test_images"]) == (3, 18)
    records, nearest = ([one for one in found["records"] if one["method"] == name] for name in ("probe", "knn"))
    assert [(one["percent"], one["seed"], one["extra"]["train_images"]) for one in records] == [
        (10, 0, 6),
        (10, 1, 6),
        (100, 0, 60),
        (100, 1, 60),
    ]
    for one in records:
        extra = one["extra"]
        assert (one["init"], one["metric"], one["value"], one["images"]) == ("random", "top1", extra["top1"], 18)
        assert extra["top1"] > 0.9
        assert extra["correct"].count("1") == round(18 * extra["top1"])
        assert extra["classes_without_images"] == []
    assert [(one["percent"], one["seed"], one["init"]) for one in nearest] == [
        (10, 0, "none"),
        (10, 1, "none"),
        (100, 0, "none"),
        (100, 1, "none"),
    ]
    assert all(one["value"] > 0.9 for one in nearest)
    assert (records[0]["extra"]["learning_rate"], records[0]["extra"]["weight_decay"]) == (1e-3, 0.0)
    assert records[2]["extra"]["choice"] == "the best of 20 on 60 images that were held out, in 10 folds"
    assert (
        found["notes"].count(
            "10 % of the images: the setting is the middle one of 20, for 6 images are too few to hold out some"
        )
        == 1
    )
    page = (tmp_path / "out" / "results.md").read_text().splitlines()
    assert page[:6] == [
        "# Linear probe from a random beginning",
        "",
        "3 classes, 18 test images; 20 epochs, batches of 16; 20 nearest neighbours",
        "",
        "| share | seed | images | top-1 | neighbours' top-1 | learning rate | weight decay |",
        "|---|---|---|---|---|---|---|",
    ]
    assert page[6].startswith("| 10 % | 0 | 6 | ")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["percent"] == [10.0, 100.0]
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 2


def test_transfer_init_knows_the_classes_before_it_learns(run: Path, folders: Path, tmp_path: Path) -> None:
    # A rate so low that nothing is learnt: what is measured is the beginning.
    still: dict[str, Any] = {"learning_rates": (1e-9,), "weight_decays": (0.0,), "percent": (10.0,)}
    config = config_of(run, folders, tmp_path / "out", init="transfer", **still)
    probe(config)
    one, _ = results(tmp_path / "out")["records"]
    assert one["init"] == "transfer"
    assert one["extra"]["choice"] == "the only one"
    assert one["value"] > 0.9
    table = json.loads((tmp_path / "out" / "transfer_init.json").read_text())
    assert [(match["name"], match["matches"]) for match in table["classes"]] == [
        ("car", [["n02958343", 1.0]]),
        ("cat", [["n02121620", 1.0]]),
        ("dog", [["n02084071", 1.0]]),
    ]
    assert "Transfer Init at path similarity >= 0.5" in (tmp_path / "out" / "results.md").read_text()


def test_records_are_of_the_probe_and_of_the_neighbours(run: Path, folders: Path, tmp_path: Path) -> None:
    config = config_of(run, folders, tmp_path / "out", preset="paper", seeds=(0, 1))
    found = probe_records(config, HERE, task="squares")
    shown = [(one.task, one.method, one.init, one.percent, one.seed, one.metric, one.images) for one in found]
    assert shown == [
        ("squares", "probe", "random", 100.0, 0, "top1", 18),
        ("squares", "knn", "none", 100.0, 0, "top1", 18),
        ("squares", "probe", "random", 100.0, 1, "top1", 18),
        ("squares", "knn", "none", 100.0, 1, "top1", 18),
    ]
    assert found[0].extra["learning_rate"] == 3e-5
    assert len(found[0].extra["correct"]) == 18
    assert found[1].value == found[3].value
    assert not (tmp_path / "out").exists()
    alone = probe_records(config_of(run, folders, tmp_path / "out", preset="paper", neighbours=0), HERE, task="squares")
    assert [one.method for one in alone] == ["probe"]
    assert alone[0].value == found[0].value


def test_several_classes_an_image_have_mean_average_precision(run: Path, folders: Path, tmp_path: Path) -> None:
    names = ("car", "cat", "dog")
    for side in ("train", "test"):
        paths = sorted((folders / side).rglob("*.png"))
        document = {
            "images": [
                {"id": number, "file_name": str(path.relative_to(folders / side)), "width": 24, "height": 20}
                for number, path in enumerate(paths)
            ],
            "categories": [{"id": 10 + label, "name": name} for label, name in enumerate(names)],
            "annotations": [
                {"id": number, "image_id": number, "category_id": 10 + names.index(path.parent.name)}
                for number, path in enumerate(paths)
            ],
        }
        (tmp_path / f"{side}.json").write_text(json.dumps(document))
    task = TaskConfig(
        f"{tmp_path / 'train.json'}::{folders / 'train'}",
        f"{tmp_path / 'test.json'}::{folders / 'test'}",
        cache=tmp_path / "cache",
    )
    for init in ("random", "transfer"):
        probe(config_of(run, folders, tmp_path / init, task=task, epochs=20, init=init))
        one, nearest = results(tmp_path / init)["records"]
        assert one["metric"] == nearest["metric"] == "map_macro"
        assert one["value"] == one["extra"]["map_macro"] > 0.9
        assert one["extra"]["map_micro"] > 0.9
        assert nearest["value"] > 0.9
        assert "correct" not in one["extra"]


def test_what_is_missing_is_said(run: Path, tmp_path: Path) -> None:
    write_folders(tmp_path / "train", {"car": 12, "cat": 12, "dog": 12, "zzyzx": 0})
    write_folders(tmp_path / "test", {"car": 3, "cat": 3, "dog": 3}, seed=1)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"no picture")
    (tmp_path / "test" / "dog" / "1.png").write_bytes(b"no picture")
    (tmp_path / "train" / "dog" / "empty.png").touch()
    (tmp_path / "train" / "dog" / "notes.txt").touch()
    task = TaskConfig(str(tmp_path / "train"), str(tmp_path / "test"), cache=tmp_path / "cache", max_bad_share=0.2)
    probe(config_of(run, tmp_path, tmp_path / "out", task=task, init="transfer"))
    found = results(tmp_path / "out")
    assert found["bad_images"] == [
        {"side": "train", "image": "cat/0.png", "reason": "not_an_image"},
        {"side": "test", "image": "dog/1.png", "reason": "not_an_image"},
    ]
    assert found["left_out"] == [{"side": "train", "image": "dog/empty.png", "reason": "empty_image"}]
    assert found["data"]["test_images"] == 8
    one, _ = found["records"]
    assert (one["images"], one["extra"]["train_images"]) == (8, 35)
    assert one["extra"]["classes_without_images"] == ["zzyzx"]
    notes = "\n".join(found["notes"])
    left_out = "train: 2 files or samples left out: 1 other_file, 1 empty_image (dog/empty.png)"
    assert left_out in notes
    assert f"- {left_out.replace('_', chr(92) + '_')}\n" in (tmp_path / "out" / "results.md").read_text()
    assert "train: 1 image could not be decoded: cat/0.png (not_an_image)" in notes
    assert "100 % of the images: 1 class has no training image: zzyzx" in notes
    assert "| zzyzx | | random | | no synset |" in (tmp_path / "out" / "transfer_init.md").read_text()


def test_too_many_bad_images_are_an_error_and_leave_nothing(run: Path, folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "train", tmp_path / "train")
    for number in range(7):
        (tmp_path / "train" / "cat" / f"{number}.png").write_bytes(b"no picture")
    task = TaskConfig(str(tmp_path / "train"), str(folders / "test"), cache=tmp_path / "cache")
    with pytest.raises(InputError, match=r"--task.train: found 53 of 60 images that can be used \(7 not_an_image"):
        probe(config_of(run, folders, tmp_path / "out", task=task))
    assert not (tmp_path / "out").exists()


def test_a_share_of_which_no_image_decodes_is_an_error_before_any_is_measured(
    run: Path, folders: Path, tmp_path: Path
) -> None:
    train = write_folders(tmp_path / "train", {"car": 20, "cat": 20, "dog": 20})
    task = TaskConfig(str(train), str(folders / "test"), cache=tmp_path / "cache")
    for name in subset(open_task(task).train, percent=1.0, seed=0).names:
        (train / name).write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 % of --task\.train: found none of 3 images that can be decoded: car/"):
        probe(config_of(run, folders, tmp_path / "out", task=task, percent=(100.0, 1.0)))
    assert not (tmp_path / "out").exists()


def test_a_model_whose_features_are_no_numbers_is_an_error(
    run: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "trainer.weights.pretrained.features", lambda model, images: torch.full((len(images), 32), torch.nan)
    )
    with pytest.raises(InputError, match=r"the features of the train images: found 60 of 60 images"):
        probe(config_of(run, folders, tmp_path / "out"))


def test_a_run_without_its_vocabulary_is_an_error(run: Path, folders: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "vocabulary.parquet").unlink()
    with pytest.raises(FormatError, match=r"vocabulary\.parquet"):
        probe(config_of(copy, folders, tmp_path / "out"))


def test_results_are_not_written_over(run: Path, folders: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputExistsError):
        probe(config_of(run, folders, tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"percent": ()}, "--percent: found none"),
        ({"percent": (0.0,)}, "--percent: found 0.0; wanted more than 0, and at most 100"),
        ({"percent": (1.0, 1.0)}, "--percent: found 1.0 1.0; wanted each value once"),
        ({"seeds": (-1,)}, "--seeds: found -1"),
        ({"learning_rates": (0.1, 0.0)}, "--learning-rates: found 0.1 0.0"),
        ({"weight_decays": (-0.1,)}, "--weight-decays"),
        ({"alpha": 0.0}, "--alpha"),
        ({"epochs": 0}, "--epochs: found 0"),
        ({"train_batch": 0}, "--train-batch"),
        ({"label_smoothing": 1.0}, "--label-smoothing"),
        ({"temperature": 0.0}, "--temperature"),
        ({"crop": 0.0}, "--crop"),
    ],
)
def test_options_that_cannot_work_are_named(changes: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(CatlipError, match=match):
        probe(config_of(tmp_path, tmp_path, tmp_path / "out", **changes))


def rank_of_two(config: ProbeConfig, out: Path) -> None:
    torch.set_num_threads(1)
    with join_processes("cpu") as rank:
        found = probe_records(config, rank, task="squares")
        (out / str(rank.index)).write_bytes(pickle.dumps([(one.method, one.value) for one in found]))


def test_two_ranks_reach_what_one_does(forks: Forks, run: Path, folders: Path, tmp_path: Path) -> None:
    config = config_of(run, folders, tmp_path / "out", init="transfer", features=tmp_path / "two")
    forks.run(2, tmp_path / "log", rank_of_two, config, tmp_path)
    main, other = (pickle.loads((tmp_path / rank).read_bytes()) for rank in "01")  # noqa: S301 - our own
    alone = probe_records(config_of(run, folders, tmp_path / "out", init="transfer"), HERE, task="squares")
    assert other == []
    assert main == [(one.method, one.value) for one in alone]
