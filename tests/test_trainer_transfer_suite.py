"""A suite: what it measures, in which order, what it leaves, and how it goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from tests.forks import Forks
from trainer.distributed import Rank, join_processes
from trainer.records.record import Key, Record, read_records
from trainer.records.run_lock import held
from trainer.transfer import suite
from trainer.transfer.config import TransferConfig
from trainer.transfer.suite import SuiteModel, run_suite
from trainer.transfer.suite_folder import changed, settings_of, to_record
from trainer.transfer.suite_plan import VerbCall, calls_of, keys_of
from trainer.transfer.tasks_file import SuiteTask
from vocab.errors import FormatError, InputError, MismatchError, OutputExistsError
from vocab.vocabulary import Vocabulary

HERE = Rank(0, 1, torch.device("cpu"))
COUNTS = pa.table({"synset": pa.array([2084071], pa.int32()), "captions": pa.array([3], pa.int64())})
VOCABULARY = Vocabulary.from_counts(COUNTS, rows=3, min_count=1)

TWO_TASKS = """
[[task]]
name = "pets"
train = "pets/train"
test = "pets/test"
methods = ["zeroshot", "knn", "probe"]
percents = [1, 100]
seeds = [0, 1]

[[task]]
name = "places"
train = "s3://key:word@places/{00..09}.tar"
test = "places/test"
methods = ["finetune"]
percents = [10]
seeds = [0]
inits = ["transfer"]
[task.finetune]
epochs = 3
"""


@dataclass
class Drawn:
    """Verbs that draw their numbers, and remember what they were asked for."""

    calls: list[str] = field(default_factory=list)
    stop_before: str | None = None
    fail: dict[str, InputError] = field(default_factory=dict)
    fingerprint: str = "f00d"
    images: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def verbs(self) -> Iterator[None]:
        """Put them in the place of the trainer's verbs."""
        known: dict[str, object] = {"epochs": int, "hyponyms": str}
        options = {"probe": known, "zeroshot": known, "finetune": known}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(suite, "options", lambda: options)
            patch.setattr(suite, "open_model", lambda config: SuiteModel(self.fingerprint, VOCABULARY))
            patch.setattr(suite, "check", lambda task, config, rank, vocabulary: self._check(task, rank))
            patch.setattr(suite, "measure", lambda call, config, rank: self._run(call, rank))
            yield

    def run(self, config: TransferConfig, rank: Rank = HERE) -> None:
        """Run a suite of them."""
        with self.verbs():
            run_suite(config, rank)

    def _check(self, task: SuiteTask, rank: Rank) -> str:
        if task.name in self.fail:
            raise self.fail[task.name]
        return self.images.get(task.name, "cafe")

    def _run(self, part: VerbCall, rank: Rank) -> list[Record]:
        call = f"{part.task.name} {part.verb} {part.init} {part.seed} {list(part.percents)}"
        if call == self.stop_before:
            raise KeyboardInterrupt
        self.calls.append(call)
        if not rank.is_main:
            return []
        # A probe finds neighbours beside it, asked for or not.
        more = [Key(part.task.name, "knn", "none", percent, part.seed) for percent in part.percents]
        extra = {"correct": "1100"}
        return [
            Record(*key, metric="top1", value=0.5, images=4, seconds=1.0, extra=extra)
            for key in dict.fromkeys([*part.wanted, *more])
        ]


def config_of(folder: Path, text: str = TWO_TASKS) -> TransferConfig:
    """A suite of these tasks."""
    (folder / "tasks.toml").write_text(text)
    return TransferConfig(model=Path("runs/b16"), tasks=folder / "tasks.toml", out=folder / "results")


def measured(config: TransferConfig, drawn: Drawn | None = None, rank: Rank = HERE) -> list[str]:
    """The calls of a suite that runs to its end."""
    drawn = drawn or Drawn()
    drawn.run(config, rank)
    return drawn.calls


CALLS = [
    "pets zeroshot none 0 []",
    "pets probe random 0 [1.0, 100.0]",
    "pets probe random 1 [1.0, 100.0]",
    "pets probe transfer 0 [1.0, 100.0]",
    "pets probe transfer 1 [1.0, 100.0]",
    "places finetune transfer 0 [10.0]",
]

TABLE = """\
# Results of runs/b16

| task | method | init | metric | 0 % | 1 % | 10 % | 100 % |
|---|---|---|---|---|---|---|---|
| pets | zeroshot | none | top1 | 50.0 [0.0, 100.0] (1 seed) | | | |
| pets | knn | none | top1 | | 50.0 ± 0.0 (2 seeds) | | 50.0 [0.0, 100.0] (1 seed) |
| pets | probe | random | top1 | | 50.0 ± 0.0 (2 seeds) | | 50.0 ± 0.0 (2 seeds) |
| pets | probe | transfer | top1 | | 50.0 ± 0.0 (2 seeds) | | 50.0 ± 0.0 (2 seeds) |
| places | finetune | transfer | top1 | | | 50.0 [0.0, 100.0] (1 seed) | |
"""


def test_it_measures_every_task_and_leaves_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(tmp_path)
    assert measured(config) == CALLS
    assert {path.name for path in config.out.iterdir()} == {
        "config.json",
        "records.jsonl",
        "results.json",
        "results.md",
    }
    assert (config.out / "results.md").read_text().startswith(TABLE)
    assert len(read_records(config.out)) == 1 + 3 + 8 + 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "pets: zeroshot, none init, 0 %, seed 0: top1 50.00%"
    assert said[-1] == f"{config.out / 'results.md'} is the table"


def test_what_it_writes_holds_no_secrets(tmp_path: Path) -> None:
    config = replace(config_of(tmp_path), model="s3://me:word@bucket/b16")
    measured(config)
    stored = json.loads((config.out / "config.json").read_text())
    assert stored["tasks"]["places"]["train"] == "s3://places/{00..09}.tar"
    assert "word" not in "".join(path.read_text() for path in config.out.iterdir())
    assert (config.out / "results.md").read_text().startswith("# Results of s3://bucket/b16\n")


def test_neighbours_are_looked_up_once(tmp_path: Path) -> None:
    task = SuiteTask(name="a", test="a", train="b", percents=(1.0, 100.0), seeds=(5, 6))
    keys = [key for key in keys_of(task) if key.method == "knn"]
    assert keys == [Key("a", "knn", "none", 1.0, 5), Key("a", "knn", "none", 100.0, 5), Key("a", "knn", "none", 1.0, 6)]
    alone = calls_of(replace(task, methods=("knn",)), frozenset())
    assert [(part.init, part.seed, part.percents, part.knn) for part in alone] == [
        ("random", 5, (1.0, 100.0), True),
        ("random", 6, (1.0,), True),
    ]
    probes = calls_of(replace(task, methods=("probe",)), frozenset())
    assert [part.knn for part in probes] == [False] * 4


def test_a_finished_suite_measures_nothing_anew(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    measured(config)
    before = {path.name: path.read_bytes() for path in config.out.iterdir()}
    assert measured(config) == []
    assert {path.name: path.read_bytes() for path in config.out.iterdir()} == before


@pytest.mark.parametrize("call", range(len(CALLS)))
def test_a_stopped_suite_goes_on_with_what_is_not_done(tmp_path: Path, call: int) -> None:
    whole = config_of(tmp_path)
    measured(whole)
    stopped = replace(whole, out=tmp_path / "stopped")
    drawn = Drawn(stop_before=CALLS[call])
    with pytest.raises(KeyboardInterrupt):
        drawn.run(stopped)
    assert drawn.calls == CALLS[:call]
    # The table of a task appears once the task is done.
    assert (stopped.out / "results.json").exists() == (call == 5)
    assert measured(stopped) == CALLS[call:]
    for name in ("results.json", "results.md", "records.jsonl"):
        assert (stopped.out / name).read_bytes() == (whole.out / name).read_bytes()


def test_a_line_that_a_kill_left_unfinished_is_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path)
    measured(config)
    lines = (config.out / "records.jsonl").read_bytes()
    # Zero-shot and the first probe, and a part of a line of the second.
    whole = b"".join(lines.splitlines(keepends=True)[:5])
    (config.out / "records.jsonl").write_bytes(whole + b'{"version": 2, "task": "pe')
    assert measured(config) == ["pets probe random 1 [1.0, 100.0]", *CALLS[3:]]
    assert re.search(r"records\.jsonl lost \d results that results\.json has; measuring again", capsys.readouterr().err)
    assert sorted((config.out / "records.jsonl").read_bytes().splitlines()) == sorted(lines.splitlines())


def test_more_seeds_and_shares_are_measured_beside_those_that_there_are(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    measured(config)
    more = TWO_TASKS.replace("percents = [10]", "percents = [5, 10]").replace("seeds = [0, 1]", "seeds = [0, 1, 2]")
    assert measured(config_of(tmp_path, more)) == [
        "pets probe random 2 [1.0, 100.0]",
        "pets probe transfer 2 [1.0, 100.0]",
        "places finetune transfer 0 [5.0]",
    ]
    # What is no longer asked for is not shown, and is not forgotten.
    fewer = TWO_TASKS[: TWO_TASKS.index('[[task]]\nname = "places"')]
    assert measured(config_of(tmp_path, fewer)) == []
    assert "places" not in (config.out / "results.md").read_text()
    assert measured(config_of(tmp_path, more)) == []
    assert "places" in (config.out / "results.md").read_text()


CHANGES: dict[str, tuple[Callable[[str], str], str]] = {
    "kind": (lambda text: text.replace('"pets/test"', '"pets/test"\nkind = "csv"'), "'pets' with kind='auto'; wanted"),
    "alpha": (lambda text: f"{text}\n".replace("seeds = [0, 1]", "seeds = [0, 1]\nalpha = 1"), "'pets' with alpha=0.5"),
    "option": (lambda text: text.replace("epochs = 3", "epochs = 4"), "finetune.epochs=3; wanted finetune.epochs=4"),
    "option left out": (lambda text: text.replace("epochs = 3", ""), "epochs=3; wanted finetune.epochs unset. Give"),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_other_settings_are_no_suite_to_go_on_with(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    measured(config_of(tmp_path))
    with pytest.raises(MismatchError) as caught:
        measured(config_of(tmp_path, change(TWO_TASKS)))
    assert message in str(caught.value)


def test_settings_of_what_was_not_measured_may_change(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Drawn(stop_before=CALLS[5]).run(config)
    assert measured(config_of(tmp_path, TWO_TASKS.replace("epochs = 3", "epochs = 4"))) == CALLS[5:]


BOTH = """
[[task]]
name = "pets"
train = "pets/train"
test = "pets/test"
methods = ["knn", "finetune"]
percents = [100]
seeds = [0]
inits = ["random"]
[task.finetune]
epochs = 3
"""
TABLES = {
    "table kept": "[task.finetune]\nepochs = 3\n",
    "table changed": "[task.finetune]\nepochs = 4\n",
    "table left out": "",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_a_method_is_taken_out_and_comes_back_with_its_own_options(
    tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, BOTH)
    measured(config)
    alone = BOTH.replace(', "finetune"]', "]")
    alone = alone[: alone.index("[task.finetune]")] + table
    capsys.readouterr()
    assert measured(config_of(tmp_path, alone)) == []
    said = "task 'pets': [task.finetune] not used: the methods are knn\n"
    assert (said in capsys.readouterr().err) == bool(table)
    assert "finetune" not in (config.out / "results.md").read_text()
    with pytest.raises(MismatchError, match=r"with finetune.epochs=3; wanted finetune.epochs=4"):
        measured(config_of(tmp_path, BOTH.replace("epochs = 3", "epochs = 4")))
    assert measured(config_of(tmp_path, BOTH)) == []
    assert "finetune" in (config.out / "results.md").read_text()


def test_a_method_that_was_never_measured_takes_the_options_that_it_gets(tmp_path: Path) -> None:
    alone = BOTH.replace(', "finetune"]', "]")
    measured(config_of(tmp_path, alone))
    changed = BOTH.replace("epochs = 3", "epochs = 4")
    assert measured(config_of(tmp_path, changed)) == ["pets finetune random 0 [100.0]"]
    with pytest.raises(MismatchError, match=r"with finetune.epochs=4; wanted finetune.epochs=3"):
        measured(config_of(tmp_path, BOTH))


def test_without_transfer_init_alpha_is_not_compared_until_it_comes_back(tmp_path: Path) -> None:
    transfer = BOTH.replace('["random"]', '["random", "transfer"]\nalpha = 0.25')
    measured(config_of(tmp_path, transfer))
    assert measured(config_of(tmp_path, BOTH)) == []
    with pytest.raises(MismatchError, match=r"with alpha=0.25; wanted alpha=1.0"):
        measured(config_of(tmp_path, transfer.replace("0.25", "1")))
    assert measured(config_of(tmp_path, transfer)) == []


def test_a_setting_bears_on_what_it_is_an_option_of(tmp_path: Path) -> None:
    keys = [Key("a", "knn", "none", 1.0, 0), Key("a", "probe", "random", 1.0, 0)]
    task = SuiteTask(name="a", test="a", train="b", methods=("knn",), probe={"epochs": 3, "neighbours": 5})
    stored = settings_of(task)
    # The classifier's epochs are none of the neighbours'; how many vote is.
    assert changed(replace(task, probe={"epochs": 4, "neighbours": 5}), stored, keys) is None
    fewer = changed(replace(task, probe={"epochs": 3}), stored, keys)
    assert fewer == ("probe.neighbours=5", "probe.neighbours unset")
    both = replace(task, methods=("knn", "probe"), probe={"epochs": 4, "neighbours": 5})
    assert changed(both, stored, keys) == ("probe.epochs=3", "probe.epochs=4")
    assert changed(both, stored, keys[:1]) is None
    recorded = to_record(replace(task, probe={"epochs": 4, "crop": 0.5}), stored, keys)
    assert recorded["probe"] == {"epochs": 3, "crop": 0.5}
    assert to_record(task, stored, keys) == stored


def test_what_changes_nothing_that_was_learnt_may_change_after_a_fine_tuning_was_stopped() -> None:
    task = SuiteTask("pets", "pets/test", "pets/train", methods=("finetune",), finetune={"epochs": 3})
    stored, keys = settings_of(task), [Key("pets", "finetune", "random", 1.0, 0)]
    past = {"epochs": 3, "on_spike": "rollback", "checkpoint_every": 100}
    assert changed(replace(task, finetune=past), stored, keys) is None
    assert changed(replace(task, finetune={**past, "epochs": 4}), stored, keys) == (
        "finetune.epochs=3",
        "finetune.epochs=4",
    )


def test_another_model_is_no_suite_to_go_on_with(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    measured(config)
    with pytest.raises(MismatchError, match="found results of fingerprint f00d, measured of runs/b16; wanted fing"):
        measured(config, Drawn(fingerprint="beef"))
    with pytest.raises(MismatchError, match="found results of precision auto; wanted precision bfloat16"):
        measured(replace(config, precision="bfloat16"))


def test_results_of_other_images_are_not_gone_on_with(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Drawn(stop_before=CALLS[2]).run(config)
    with pytest.raises(MismatchError, match="found results of 'pets' on other images, or on classes of other names"):
        measured(config, Drawn(images={"pets": "beef"}))
    # Nothing was measured on those of the other task.
    assert measured(config, Drawn(images={"places": "beef"})) == CALLS[2:]
    with pytest.raises(MismatchError, match="found results of 'places' on other images"):
        measured(config)


def test_two_suites_cannot_write_to_one_folder(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with held(config.out, HERE):
        with pytest.raises(InputError, match="found a run that is going on there: process"):
            measured(config)
        assert [path.name for path in config.out.iterdir()] == ["run.lock"]
    assert measured(config) == CALLS


def test_every_task_is_looked_at_before_the_first_is_measured(tmp_path: Path) -> None:
    bad = InputError("--task.train", found="no such file", wanted="images", remedy="Check the place.")
    drawn = Drawn(fail={"places": bad})
    config = config_of(tmp_path)
    with pytest.raises(InputError, match=r"task 'places': the task's train: found no such file; wanted images"):
        drawn.run(config)
    assert drawn.calls == []
    assert not config.out.exists()


@pytest.mark.parametrize(
    ("told", "remedy"),
    [
        ("Raise --task.max-bad-share.", "Raise the task's max_bad_share."),
        ("Give --task.kind folders or --task.kind tars.", "Give the task's kind folders or the task's kind tars."),
        ("Let the cache hold more: --task.cache-gb.", "Let the cache hold more: --cache-gb."),
        ("Pass --task.allow-pipe if you trust it.", "Pass --allow-pipe if you trust it."),
        ("Lower --peak-lr.", "Lower --peak-lr."),
    ],
)
def test_errors_name_options_as_a_suite_has_them(tmp_path: Path, told: str, remedy: str) -> None:
    drawn = Drawn(fail={"places": InputError("s3://b", found="nothing", wanted="images", remedy=told)})
    with pytest.raises(InputError) as caught:
        drawn.run(config_of(tmp_path))
    assert caught.value.remedy == remedy


def test_notes_name_options_as_a_suite_has_them(tmp_path: Path) -> None:
    class Noted(Drawn):
        def _run(self, part: VerbCall, rank: Rank) -> list[Record]:
            note = "the classes are numbers. --task.class-names gives names"
            return [replace(found, extra={**found.extra, "notes": [note]}) for found in super()._run(part, rank)]

    config = config_of(tmp_path)
    measured(config, Noted())
    page = (config.out / "results.md").read_text()
    assert page.count("- pets: the classes are numbers. the task's class\\_names gives names\n") == 1
    assert page.count("class\\_names") == 2


def test_checkpoints_go_once_the_result_is_on_the_disk(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    folders = [config.out / "finetune" / name for name in ("places-transfer-10-0", "places-transfer-5-0")]

    class Tuned(Drawn):
        def _run(self, part: VerbCall, rank: Rank) -> list[Record]:
            for folder in folders:
                (folder / "model").mkdir(parents=True, exist_ok=True)
                (folder / "checkpoints" / "step-00000003").mkdir(parents=True, exist_ok=True)
            return super()._run(part, rank)

    measured(config, Tuned())
    # The second has no result: it may be a run that was stopped.
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == [
        ["model"],
        ["checkpoints", "model"],
    ]
    # An earlier start may have been killed between the result and this.
    (folders[0] / "checkpoints" / "step-00000003").mkdir(parents=True)
    assert measured(config) == []
    assert not (folders[0] / "checkpoints").exists()


def rank_of_two(config: TransferConfig, out: Path) -> None:
    """A suite as torchrun starts it; what this rank was called for, and that an error ends it too."""
    with join_processes("cpu") as rank:
        calls = measured(config, rank=rank)
        (out / f"calls-{rank.index}").write_text("\n".join(calls))
        with pytest.raises((InputError, SystemExit)):
            measured(replace(config, tasks=out / "absent.toml"), rank=rank)


def test_two_ranks_measure_together_and_one_writes(forks: Forks, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    forks.run(2, tmp_path / "log", rank_of_two, config, tmp_path)
    assert [(tmp_path / f"calls-{rank}").read_text().splitlines() for rank in (0, 1)] == [CALLS, CALLS]
    lines = (config.out / "records.jsonl").read_bytes()
    measured(replace(config, out=tmp_path / "alone"))
    assert lines == (tmp_path / "alone" / "records.jsonl").read_bytes()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    config.out.mkdir()
    (config.out / "photo.jpg").write_bytes(b"")
    with pytest.raises(OutputExistsError, match=r"found 1 entry and no readable config\.json"):
        measured(config)
    (config.out / "config.json").write_text("{}")
    with pytest.raises(OutputExistsError, match=r"found 2 entries and a config\.json of something else"):
        measured(config)
    with pytest.raises(OutputExistsError, match="found a file"):
        measured(replace(config, out=config.tasks))


@pytest.mark.parametrize(
    ("line", "found"),
    [("{", "no JSON"), ('{"version": 1}', "version 1; wanted version 2"), ('{"version": 2}', "a record with")],
)
def test_a_broken_line_of_records_is_named(tmp_path: Path, line: str, found: str) -> None:
    config = config_of(tmp_path)
    measured(config)
    lines = (config.out / "records.jsonl").read_text().splitlines()
    (config.out / "records.jsonl").write_text("\n".join([*lines[:2], line, *lines[2:], ""]))
    with pytest.raises(FormatError, match=rf"records\.jsonl, line 3: found {found}"):
        measured(config)
