"""Zero-shot classification: literal scores to accuracies, and a model and folders of images to a folder of results."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.corpus import COLOURS, make_corpus
from tests.labelled_images import images_of
from tests.pictures import picture
from tests.synsets import DOG, FISH, vocabulary_of
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank
from trainer.pretrain import pretrain
from trainer.probe.measures import ranks_of
from trainer.records.record import Record
from trainer.transfer.class_tables import one_choice_note, scored_classes, scored_table, unscored_notes
from trainer.transfer.config import TaskConfig, ZeroShotConfig
from trainer.transfer.report import zero_shot_page
from trainer.transfer.synset_scores import ClassRows, evaluate
from trainer.transfer.transfer_init import match_classes
from trainer.transfer.zero_shot import zero_shot, zero_shot_records
from trainer.weights.pretrained import open_pretrained
from vocab.errors import InputError, MismatchError, OutputExistsError

HERE = Rank(0, 1, torch.device("cpu"))


def classes_of(scorable: list[bool]) -> list[ClassRows]:
    return [ClassRows(((number,),) if each else ()) for number, each in enumerate(scorable)]


def test_images_of_classes_that_cannot_be_scored_are_wrong_over_all_and_left_out_otherwise() -> None:
    # Columns are classes 0, 2 and 3. Right, of class 1, wrong, right, and equal to an earlier class: wrong.
    scores = torch.tensor([[3.0, 2, 1], [9, 9, 9], [5, 4, 0], [0, 0, 1], [1, 0, 1]])
    result = evaluate(scores, classes_of([True, False, True, True]), images_of([0, 1, 2, 3, 3], 4), bad_images=2)
    report = result.report
    assert (report.images, report.bad_images, report.classes) == (5, 2, 4)
    assert (report.scorable_classes, report.scorable_images) == (3, 4)
    assert (report.top1, report.top1_all) == (0.5, 0.4)
    assert report.top5 is report.top5_all is report.map_macro is None
    assert report.metric == ("top1", 0.4)
    assert result.by_class == (1.0, None, 0.0, 0.5)
    assert result.correct is not None
    assert result.correct.tolist() == [True, False, False, True, False]


def test_the_first_five_of_more_than_five_count_for_top5() -> None:
    scores = torch.arange(6.0).repeat(3, 1)  # class 5 first, class 0 last
    report = evaluate(scores, classes_of([True] * 6 + [False]), images_of([5, 1, 0], 7), bad_images=0).report
    assert (report.top1, report.top5) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_a_class_without_images_is_no_error() -> None:
    result = evaluate(torch.ones(1, 2), classes_of([True, True]), images_of([1], 2), bad_images=0)
    assert result.by_class == (None, 0.0)


@pytest.mark.parametrize(
    "shown", [images_of([1, 1], 2), images_of([[1], []], 2, multi_label=True), images_of([[], []], 2, multi_label=True)]
)
def test_images_that_show_no_class_that_can_be_scored_are_an_error(shown: LabelledImages) -> None:
    with pytest.raises(InputError, match=r"found 2 that show none of 1 class that can be scored"):
        evaluate(torch.ones(2, 1), classes_of([True, False]), shown, bad_images=0)


def test_accuracy_among_one_class_is_no_number() -> None:
    report = evaluate(torch.ones(2, 1), classes_of([True, False]), images_of([1, 0], 2), bad_images=0).report
    assert (report.top1, report.top1_all) == (None, 0.5)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([((0,),), (), ()], "1 of 3 classes can be scored, and comes first in every image"),
        ([((0,),), ((0,),), ()], "2 of 3 classes can be scored, all by the same rows, and the first comes first in"),
        ([((0,),), ((1,),), ()], ""),
    ],
)
def test_classes_that_leave_no_choice_are_said(groups: list[tuple[tuple[int, ...], ...]], said: str) -> None:
    assert "".join(one_choice_note(list(map(ClassRows, groups)))).startswith(said)
    assert bool(one_choice_note(list(map(ClassRows, groups)))) == bool(said)


def test_equal_scores_go_by_the_order_of_the_classes() -> None:
    assert ranks_of(torch.zeros(3, 3), torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]


def test_several_classes_an_image_have_precisions_over_scorable_classes_and_over_all() -> None:
    # Class 0: the second of three images is right: 1/2. Class 2: the first: 1. Pairs: the first and the third: 5/6.
    scores = torch.tensor([[2.0, 1], [3, 4], [1, 0]])
    result = evaluate(
        scores, classes_of([True, False, True]), images_of([[0, 1], [2], []], 3, multi_label=True), bad_images=0
    )
    report = result.report
    assert (report.map_macro, report.map_macro_all) == (0.75, 0.5)
    # One of three pairs is of class 1, and never found.
    assert (report.map_micro, report.map_micro_all) == (pytest.approx(5 / 6), pytest.approx(5 / 9))
    assert (report.scorable_images, report.images, report.top1, result.correct) == (2, 3, None, None)
    assert result.by_class == (0.5, None, 1.0)
    assert report.metric == ("map_macro", 0.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_counted(bad: float) -> None:
    scores = torch.tensor([[0.0, bad], [0, 0]])
    with pytest.raises(InputError, match="1 of 2 images"):
        evaluate(scores, classes_of([True, True]), images_of([0, 1], 2), bad_images=0)


def test_remarks_name_what_cannot_be_scored_and_what_is_scored_alike() -> None:
    matches = match_classes(["dog", "church", "zzyzx", "domestic dog"], vocabulary_of(DOG, FISH), alpha=1.0)
    classes = [ClassRows(((0,),)), ClassRows(()), ClassRows(()), ClassRows(((0,),))]
    assert unscored_notes(matches, classes) == [
        "1 class has no synset by its name: zzyzx.",
        "1 class has a synset that the vocabulary lacks: church.",
        "2 classes are scored by the same rows as another, so that the first of them always comes before it: "
        "dog, domestic dog.",
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose vocabulary is dog, cat and car. Not to be written to."""
    root = tmp_path_factory.mktemp("zero-shot")
    assert pretrain(make_corpus(root / "corpus").config(root / "run")) == 0
    return root / "run"


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """Class folders of squares: two of each animal and of cars, one that is called nothing, and a broken one."""
    images = tmp_path / "squares"
    for name, colour in zip(["dog", "n02121620", "car, auto"], COLOURS.values(), strict=True):
        for number in range(4):
            path = images / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(colour))
    (images / "zzyzx").mkdir()
    (images / "zzyzx" / "0.png").write_bytes(picture())
    (images / "dog" / "broken.png").write_bytes(b"nothing")
    return images


Ask = Callable[..., ZeroShotConfig]


@pytest.fixture
def ask(run: Path, squares: Path, tmp_path: Path) -> Ask:
    def asked(**changes: object) -> ZeroShotConfig:
        task = TaskConfig(train="", test=str(squares), cache=tmp_path / "cache")
        plain = ZeroShotConfig(run, tmp_path / "out", task, batch=5, workers=2, device="cpu")
        return replace(plain, **changes)  # type: ignore[arg-type]

    return asked


def test_the_folder_has_numbers_a_page_every_class_and_the_configuration(
    ask: Ask, squares: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ask()
    (squares / "dog" / "empty.png").touch()
    zero_shot(config)
    assert sorted(path.name for path in config.out.iterdir()) == [
        "classes.csv", "config.json", "results.json", "results.md",
    ]  # fmt: skip
    results = json.loads((config.out / "results.json").read_text())
    (record,) = results["records"]
    numbers = record["extra"]
    assert (results["version"], numbers["classes"], numbers["scorable_classes"]) == (2, 4, 3)
    assert (numbers["images"], numbers["scorable_images"], numbers["bad_images"]) == (13, 12, 1)
    assert (record["method"], record["metric"], record["value"]) == ("zeroshot", "top1", numbers["top1_all"])
    assert results["left_out"] == [{"side": "test", "image": "dog/empty.png", "reason": "empty_image"}]
    assert results["bad_images"] == [{"side": "test", "image": "dog/broken.png", "reason": "not_an_image"}]
    assert results["notes"] == [
        "test: 1 file or sample left out: 1 empty_image (dog/empty.png)",
        "test: 1 image could not be decoded: dog/broken.png (not_an_image)",
        "1 class has no synset by its name: zzyzx.",
        "Name classes that cannot be scored by --task.class-names FILE; where only the vocabulary lacks them, take "
        "near synsets by a lower --alpha, or by --hyponyms.",
    ]
    said = capsys.readouterr().err.splitlines()[-8:-1]
    assert said[0] == "3 of 4 classes can be scored"
    assert said[1:3] == [
        f"top1 {numbers['top1']:.2%} over these, of 12 images",
        f"top1 {numbers['top1_all']:.2%} over all 4 classes, of 13 images",
    ]
    assert said[3:] == results["notes"]
    named = {entry["name"]: entry for entry in results["details"]["by_class"]}
    assert named["car, auto"]["rows"] == [["n02958343"]]
    assert (named["zzyzx"]["rows"], named["zzyzx"]["value"]) == ([], None)
    page = (config.out / "results.md").read_text()
    assert page.startswith("# Zero-shot by synset: path similarity >= 1, without hyponyms, frequencies removed\n")
    assert "| classes | 3 | 4 |\n| images | 12 | 13 |\n" in page
    assert "- test: 1 image could not be decoded: dog/broken.png (not\\_an\\_image)\n" in page
    assert "- 1 class has no synset by its name: zzyzx.\n" in page
    assert "| class | synsets | scored by | similarity | top-1 |\n" in page
    assert "| dog | dog (n02084071) | dog (n02084071) | 1.00 | " in page
    assert "| zzyzx | | | | |\n" in page
    rows = list(csv.DictReader((config.out / "classes.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == ["car, auto", "dog", "n02121620", "zzyzx"]
    by = [(row["rows"], row["matches"], row["similarities"], row["hyponyms"]) for row in rows]
    assert by[1] == ("1", "n02084071", "1.0000", "")
    assert by[3] == ("0", "", "", "")
    assert [(row["images"], row["accuracy"] == "") for row in rows[1:]] == [("4", False), ("4", False), ("1", True)]
    stored = json.loads((config.out / "config.json").read_text())
    assert (stored["prior"], stored["hyponyms"], stored["task"]["test"]) == ("remove", "none", config.task.test)


def test_the_page_and_the_table_name_the_rows_of_a_class_and_how_similar_they_are(tmp_path: Path) -> None:
    vocabulary = vocabulary_of(DOG, FISH)
    matches = match_classes(["wolf", "vertebrate", "zzyzx"], vocabulary, alpha=0.3)
    classes = [ClassRows(((0,),)), ClassRows(((0, 1),)), ClassRows(())]
    result = evaluate(torch.tensor([[1.0, 0]]), classes, images_of([[0]], 3, multi_label=True), bad_images=0)
    name, value = result.report.metric
    record = Record("pets", "zeroshot", "none", 0.0, 0, name, value, images=1, seconds=0.0, extra=vars(result.report))
    every = scored_table(result, matches, classes, vocabulary)
    page = zero_shot_page(record, title="Zero-shot", notes=(), classes=every)
    assert "| images | 1 | 1 |\n" in page
    assert "| mean average precision, micro | 1.000 | 1.000 |\n\n| class |" in page
    assert "| wolf | wolf (n02114100) | dog (n02084071) | 0.33 | 1.000 |\n" in page
    assert "| vertebrate | vertebrate (n01471682) | fish (n02512053), 1 hyponym: dog (n02084071) | 0.33 | |\n" in page
    scored_classes(result, matches, classes, vocabulary).write(tmp_path)
    table = list(csv.DictReader((tmp_path / "classes.csv").read_text().splitlines()))
    assert [(row["images"], row["average_precision"]) for row in table] == [("1", "1.000000"), ("0", ""), ("0", "")]
    assert [(row["rows"], row["matches"], row["similarities"], row["hyponyms"]) for row in table] == [
        ("1", "n02084071", "0.3333", ""),
        ("2", "n02512053", "0.3333", "n02084071"),
        ("0", "", "", ""),
    ]


@pytest.mark.parametrize("prior", ["keep", "remove"])
def test_accuracy_is_that_of_the_classifier_on_its_own_rows(ask: Ask, run: Path, squares: Path, prior: str) -> None:
    (record,) = zero_shot_records(ask(prior=prior), HERE, task="squares")
    pretrained = open_pretrained(run)
    labels = [pretrained.vocabulary.wnids.index(wnid) for wnid in ("n02958343", "n02084071", "n02121620")]
    right = []
    for rank, name in enumerate(["car, auto", "dog", "n02121620"]):
        with Image.open(squares / name / "0.png") as image:
            pixels = np.array(image.crop((2, 0, 22, 20)).resize((16, 16), Image.Resampling.BILINEAR))
        with torch.no_grad():
            logits = pretrained.classifier(pretrained.embed(torch.from_numpy(pixels)[None]))[0, labels]
        if prior == "remove":
            logits = logits - torch.from_numpy(pretrained.vocabulary.log_odds)[labels]
        right += [int(logits.argmax()) == rank] * 4
    assert record.extra["correct"] == "".join("1" if each else "0" for each in [*right, False])
    assert (record.metric, record.value) == ("top1", pytest.approx(sum(right) / 13))
    assert record.extra["top1"] == pytest.approx(sum(right) / 12)
    assert (record.task, record.method, record.init, record.percent, record.images) == (
        "squares", "zeroshot", "none", 0.0, 13,
    )  # fmt: skip
    json.dumps(dict(record.extra))


def test_training_images_that_are_given_change_nothing_but_the_classes(ask: Ask, squares: Path, tmp_path: Path) -> None:
    other = tmp_path / "train"
    for name in ["dog", "n02121620", "car, auto", "zzyzx", "airplane"]:
        (other / name).mkdir(parents=True)
        (other / name / "own.png").write_bytes(picture((0, 0, len(name))))
    config = ask(task=replace(ask().task, train=str(other)))
    (with_train,), (without,) = (zero_shot_records(each, HERE, task="") for each in (config, ask()))
    assert with_train.extra["correct"] == without.extra["correct"]
    assert (with_train.extra["classes"], without.extra["classes"]) == (5, 4)


def test_hyponyms_score_a_class_that_has_no_row(ask: Ask, squares: Path) -> None:
    (squares / "zzyzx").rename(squares / "animal")
    for way, wanted in (("none", 3), ("max", 3), ("any", 3)):
        # cat and dog are classes of their own, and nothing else lies below animal.
        (record,) = zero_shot_records(ask(hyponyms=way), HERE, task="")
        assert record.extra["scorable_classes"] == wanted
    (squares / "n02121620").rename(squares / "feline")
    (squares / "car, auto").rename(squares / "vehicle")
    for way, wanted in (("none", 1), ("max", 3), ("any", 3)):
        (record,) = zero_shot_records(ask(hyponyms=way), HERE, task="")
        assert record.extra["scorable_classes"] == wanted


@pytest.mark.parametrize(
    ("name", "why"),
    [("zzyzx", "no synset by their names"), ("", "no synset by their names: cls0"), ("ferry", "vocabulary lacks")],
)
def test_a_task_of_which_no_class_can_be_scored_is_an_error(ask: Ask, squares: Path, name: str, why: str) -> None:
    for number, folder in enumerate(sorted(squares.iterdir())):
        folder.rename(
            squares / {"zzyzx": f"zzyzx{'abcd'[number]}x", "": f"{number}", "ferry": f"ferry, {number}"}[name]
        )
    with pytest.raises(MismatchError, match=rf"found 4 classes, of which none .*{why}.*--task\.class-names"):
        zero_shot(config := ask())
    assert not config.out.exists()
    with pytest.raises(MismatchError, match="none can be scored"):
        zero_shot_records(config, HERE, task="")


def test_a_folder_that_exists_is_refused_before_anything_is_computed(ask: Ask) -> None:
    config = ask(model=Path("nowhere"))
    config.out.mkdir()
    with pytest.raises(OutputExistsError, match="--out"):
        zero_shot(config)


def test_too_many_broken_images_are_named_and_nothing_is_left(ask: Ask, squares: Path) -> None:
    config = ask(task=replace(ask().task, max_bad_share=0.05))
    with pytest.raises(
        InputError, match=r"13 of 14 images that can be used \(1 not_an_image; for example .*broken\.png\)"
    ):
        zero_shot(config)
    assert not config.out.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("alpha", 0.0),
        ("alpha", math.nan),
        ("batch", 0),
        ("workers", -1),
        ("crop", 0.0),
        ("crop", 1.5),
        ("image_size", 0),
    ],
)
def test_options_that_cannot_work_are_named_before_the_model_is_read(ask: Ask, option: str, value: float) -> None:
    with pytest.raises(InputError, match=f"--{option.replace('_', '-')}"):
        zero_shot(ask(model=Path("nowhere"), **{option: value}))


def test_an_empty_place_is_refused(ask: Ask) -> None:
    with pytest.raises(InputError, match="--task"):
        zero_shot(ask(task=replace(ask().task, test="")))
