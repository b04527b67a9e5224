"""Records in files, and the one table of several tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainer.records.record import (
    Method,
    Record,
    as_json,
    cells_of,
    differences_of,
    of_json,
    read_records,
    score_text,
    write_results,
)
from trainer.transfer.report import results_table
from vocab.errors import FormatError, MismatchError


def record(value: float, **fields: Any) -> Record:
    """A linear probe's, but for what is given."""
    method: Method = "probe"
    given: dict[str, Any] = {"task": "pets", "method": method, "init": "random", "percent": 1.0, "seed": 0}
    rest: dict[str, Any] = {"metric": "top1", "images": 1000, "seconds": 2.5, "extra": {}}
    return Record(value=value, **{**given, **rest, **fields})


def two_tasks() -> list[Record]:
    """Three seeds of both inits at 1 %, one seed at 100 %, zero-shot of two tasks."""
    low = [record(value, seed=seed) for seed, value in enumerate([0.60, 0.62, 0.67])]
    high = [record(value, seed=seed, init="transfer") for seed, value in enumerate([0.70, 0.74, 0.78])]
    whole = record(0.7, percent=100.0, extra={"correct": "1" * 700 + "0" * 300})
    untrained: dict[str, Any] = {"method": "zeroshot", "init": "none", "percent": 0.0}
    coco = record(0.3333, task="coco", metric="map_macro", **untrained)
    return [*low, *high, whole, record(0.7, extra=whole.extra, **untrained), coco]


MARKDOWN = """\
| task | method | init | metric | 0 % | 1 % | 100 % |
|---|---|---|---|---|---|---|
| pets | zeroshot | none | top1 | 70.0 [67.2, 72.8] (1 seed) | | |
| pets | probe | random | top1 | | 63.0 ± 9.0 (3 seeds) | 70.0 [67.2, 72.8] (1 seed) |
| pets | probe | transfer | top1 | | 74.0 ± 9.9 (3 seeds) | |
| coco | zeroshot | none | map_macro | 0.333 (1 seed) | | |

± is half of a 95% interval over seeds (Student's t). [low, high] is a 95% interval over test images (bootstrap).

Transfer Init minus random init, seed by seed; accuracies in points:

| task | method | init | metric | 1 % |
|---|---|---|---|---|
| pets | probe | transfer - random | top1 | +11.0 ± 2.5 (3 seeds) |
"""


def test_the_table_shows_every_task_method_and_init_by_share() -> None:
    assert results_table(two_tasks()) == MARKDOWN


def test_below_the_table_stands_what_its_numbers_do_not_show() -> None:
    empty = "train: 1 of 5 classes has no image: hot_dog"
    noted = [record(0.5, seed=seed, extra={"notes": [empty]}) for seed in (0, 1)]
    counts = {"classes": 5, "scorable_classes": 2, "notes": ["3 classes have no synset by their names: a, b, c."]}
    untrained: dict[str, Any] = {"method": "zeroshot", "init": "none", "percent": 0.0}
    birds, coco = (
        record(0.2, task=task, metric=metric, extra=counts, **untrained)
        for task, metric in (("birds", "top1"), ("coco", "map_macro"))
    )
    whole = record(0.2, task="cars", extra={"classes": 3, "scorable_classes": 3}, **untrained)
    assert results_table([*noted, birds, coco, whole]).split("\n\n")[-1] == (
        "- pets: train: 1 of 5 classes has no image: hot\\_dog\n"
        "- birds: zeroshot: 2 of 5 classes can be scored, and images of the others count as wrong\n"
        "- birds: 3 classes have no synset by their names: a, b, c.\n"
        "- coco: zeroshot: 2 of 5 classes can be scored, and the others count with precision 0\n"
        "- coco: 3 classes have no synset by their names: a, b, c.\n"
    )


def test_a_mean_average_precision_is_never_in_percent() -> None:
    assert [score_text(metric, 0.95562) for metric in ("map_macro", "map_micro", "top1")] == [
        "0.956",
        "0.956",
        "95.56%",
    ]
    coco = [record(value, task="coco", metric="map_macro", seed=seed) for seed, value in enumerate([0.31, 0.33])]
    better = [replace(one, value=one.value + 0.125, init="transfer") for one in coco]
    table = results_table([*coco, *better])
    assert "| coco | probe | random | map_macro | 0.320 ± 0.127 (2 seeds) |" in table
    assert "| coco | probe | transfer - random | map_macro | +0.125 ± 0.000 (2 seeds) |" in table


def test_a_table_without_records_has_no_rows() -> None:
    assert results_table([]) == "| task | method | init | metric |\n|---|---|---|---|\n"


def test_a_bar_in_a_name_does_not_make_a_column() -> None:
    assert "| a\\|b | probe | random | top1 | 50.0 (1 seed) |" in results_table([record(0.5, task="a|b")])


def test_results_as_json_hold_records_and_cells(tmp_path: Path) -> None:
    write_results(tmp_path, two_tasks(), verb="transfer", model="runs/b16")
    content = json.loads((tmp_path / "results.json").read_text())
    assert (content["format"], content["version"], content["model"]) == ("catlip-results", 2, "runs/b16")
    assert content["table"][0] == {
        "task": "pets", "method": "zeroshot", "init": "none", "metric": "top1", "percent": 0.0, "value": 0.7,
        "spread": None, "low": 0.672, "high": 0.728, "over": "images", "seeds": [0], "images": 1000,
    }  # fmt: skip
    assert [(cell["init"], cell["percent"], cell["seeds"]) for cell in content["differences"]] == [
        ("transfer - random", 1.0, [0, 1, 2])
    ]
    assert read_records(tmp_path) == two_tasks()


def test_cells_are_in_one_order_whatever_the_order_of_seeds_and_shares() -> None:
    records = two_tasks()
    assert cells_of([*records[6::-1], *records[7:]]) == cells_of(records)
    assert [cell.percent for cell in cells_of(records)] == [0.0, 1.0, 100.0, 1.0, 0.0]


def test_a_difference_needs_both_inits() -> None:
    assert differences_of([record(0.5), record(0.6, init="transfer", seed=1)]) == []
    assert differences_of([record(0.5, init="none"), record(0.6, init="transfer")]) == []


def test_two_records_of_one_key_are_refused() -> None:
    with pytest.raises(MismatchError, match="probe on 'pets', random init, 1 %, seed 0: found two records"):
        cells_of([record(0.5), record(0.6)])


def test_two_metrics_of_one_method_are_refused() -> None:
    with pytest.raises(MismatchError, match="found the metric map_macro beside top1; wanted one record, by one metric"):
        cells_of([record(0.5), record(0.6, seed=1, metric="map_macro")])


def test_marks_of_other_images_than_the_value_is_of_are_refused() -> None:
    with pytest.raises(MismatchError, match=r"found top1 0\.5, while 0\.75 of the images are marked right"):
        cells_of([record(0.5, extra={"correct": "1101"})])


def test_a_record_comes_back_from_json_as_it_was() -> None:
    kept = record(1 / 3, extra={"top5": 0.5, "setting": {"learning_rate": 1e-3}, "note": None})
    assert of_json(json.loads(json.dumps(as_json(kept))), source="a file") == kept


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"seed": True}, "seed=True, which is no int"),
        ({"value": "0.5"}, "value='0.5', which is no float"),
        ({"value": float("nan")}, "value=nan"),
        (
            {"method": "magic"},
            r"method='magic', which is no Literal\['pretrain', 'zeroshot', 'knn', 'probe', 'finetune', 'segment', 'det",
        ),
        ({"extra": []}, r"extra=\[\]"),
        ({"more": 1}, "a record with task, method, init, percent, seed, metric, value, images, seconds, extra, more"),
    ],
)
def test_a_record_that_is_none_is_named(change: dict[str, Any], found: str) -> None:
    with pytest.raises(FormatError, match=f"a file: found .*{found}"):
        of_json({**as_json(record(0.5)), **change}, source="a file")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "no readable file"),
        ("[]", "no records of the format catlip-results"),
        ('{"format": "catlip-results", "version": 3, "records": []}', "version 3; wanted version 2"),
        ('{"format": "catlip-results", "version": 2, "records": [5]}', "found 5"),
    ],
)
def test_a_file_that_holds_no_results_is_named(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(FormatError, match=f"results.json: .*{found}"):
        read_records(tmp_path)
