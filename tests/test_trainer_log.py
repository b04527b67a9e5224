"""The log: whole lines survive a kill, a resumed run takes back what it will redo, and a broken file is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.pictures import picture
from trainer.data.batch import Skipped
from trainer.data.images import BadImage
from trainer.records.ledger import Ledger
from trainer.records.log import Log, ProgressLine, read_log
from trainer.records.weights_and_biases import check_wandb
from vocab.errors import FormatError, InputError, MissingRequirementError


def test_a_resumed_log_drops_the_lines_after_its_checkpoint(tmp_path: Path) -> None:
    with Log(tmp_path, start=0, steps=9) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": float(step)})
    with Log(tmp_path, start=2, steps=9) as log:
        log.write(3, {"loss": 0.5})
    assert [(line["step"], line["loss"]) for line in read_log(tmp_path / "metrics.jsonl")] == [
        (1, 1.0),
        (2, 2.0),
        (3, 0.5),
    ]


def test_scores_of_a_step_take_the_place_of_those_that_the_log_has(tmp_path: Path) -> None:
    with Log(tmp_path, start=0, steps=9) as log:
        log.write(3, {"loss": 2.0})
        assert not log.has_scores(3)
        log.write_scores(3, {"eval_macro": 0.1})
        log.write_scores(6, {"eval_macro": 0.2})
        log.back_to(5)
        assert (log.has_scores(3), log.has_scores(6)) == (True, False)
    with Log(tmp_path, start=5, steps=9) as log:
        assert log.has_scores(3)
        log.write_scores(3, {"eval_macro": 0.3})
        assert log.has_scores(3)
    assert read_log(tmp_path / "metrics.jsonl") == [{"step": 3, "loss": 2.0}, {"step": 3, "eval_macro": 0.3}]


def test_a_log_that_lost_lines_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Log(tmp_path, start=0, steps=9) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": 1.0})
        assert log.lines == 3
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    capsys.readouterr()
    with Log(tmp_path, start=3, steps=9, lines=3):
        assert "lines" not in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_bytes(whole[: whole.rindex(b"{")])
    with Log(tmp_path, start=3, steps=9, lines=3):
        assert "metrics.jsonl has 2 of 3 lines up to step 3" in capsys.readouterr().err


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_log(tmp_path / "metrics.jsonl") == [{"step": 1}]


def test_a_broken_line_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step"\n{"step": 2}\n')
    with pytest.raises(FormatError, match=r"metrics.jsonl: found a line 1 that is not JSON"):
        read_log(tmp_path / "metrics.jsonl")


def test_a_resumed_ledger_keeps_the_lines_of_its_checkpoint(tmp_path: Path) -> None:
    bad = [Skipped("00000", key, "no_image") for key in "abc"]
    Ledger(tmp_path).add(bad)
    resumed = Ledger(tmp_path, lines=2)
    resumed.add(bad[2:])
    assert resumed.lines == 3
    assert (tmp_path / "bad_samples.jsonl").read_text().count("\n") == 3


def test_a_line_without_a_step_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n["step"]\n')
    with pytest.raises(FormatError, match="a line 2 without a step"):
        Log(tmp_path, start=1, steps=9)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n["step"]\n'


def test_a_kill_in_the_middle_of_a_line_and_a_resume_leave_whole_lines(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "loss": 3.0}\n{"step": 2, "lo\xc3')
    with Log(tmp_path, start=1, steps=9) as log:
        log.write(2, {"loss": 2.0})
    assert (tmp_path / "metrics.jsonl").read_bytes().count(b"\n") == 2
    assert read_log(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}]


def test_numbers_that_are_none_are_null_for_any_json_reader(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": NaN}\n')
    with Log(tmp_path, start=1, steps=9) as log:
        log.write(2, {"loss": float("nan"), "grad_norm": float("inf"), "eval_tail": None, "images": 3})
    first, second = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert first.startswith('{"step": 1, "loss": null, "own_sha256": "')
    assert second.startswith('{"step": 2, "loss": null, "grad_norm": null, "eval_tail": null, "images": 3, "own_')


def test_a_run_that_goes_back_forgets_the_lines_after(tmp_path: Path) -> None:
    with Log(tmp_path, start=0, steps=9) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": float(step)})
        log.back_to(1)
        log.write(2, {"loss": 0.5})
    assert [line["loss"] for line in read_log(tmp_path / "metrics.jsonl")] == [1.0, 0.5]


def test_a_log_file_gets_plain_lines_and_a_terminal_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(start=10, steps=40)
    line.step()
    line.show({"loss": "3.000", "images_s": "214"})
    line.close()
    text = capsys.readouterr().err
    assert re.fullmatch(r"step 11/40 \(27\.5%\), [^:]+ left: loss=3\.000 images_s=214\n", text)
    bar = ProgressLine(start=10, steps=40, plain=False)
    bar.step()
    bar.show({"loss": "3.000"})
    bar.close()
    assert "\r" in capsys.readouterr().err


def board(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "tensors": 0, "scalars": 0})
    events.Reload()
    return events


def test_pictures_reach_tensorboard_and_captions_stay_text(tmp_path: Path) -> None:
    with Log(tmp_path, start=0, steps=9) as log:
        log.picture(
            "held_out/0", picture((1, 2, 3), size=(6, 4)), 5, caption="![x](http://evil/a.png)\n<b>\ud800\0 dog"
        )
        log.picture("held_out/1", np.zeros((4, 6, 3), np.uint8), 5)
        with pytest.raises(BadImage):
            log.picture("held_out/2", b"<svg/>", 5)
    events = board(tmp_path)
    assert events.Tags()["images"] == ["held_out/0", "held_out/1"]
    image = events.Images("held_out/0")[0]
    assert (image.width, image.height) == (6, 4)
    (text,) = [tag for tag in events.Tags()["tensors"] if tag.startswith("held_out/0/caption")]
    said = events.Tensors(text)[0].tensor_proto.string_val[0].decode()
    assert said == "    ![x](http://evil/a.png) <b>\\ud800\\x00 dog"


# --- Weights & Biases ---


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    wandb = pytest.importorskip("wandb", reason="the wandb extra is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-home"))
    yield wandb
    wandb.teardown()


CONFIG = {"data": {"images": ["https://me:pass-word@host/0.tar?sig=signature"]}, "optim": {"peak_lr": 0.001}}


def stored(run: Path) -> list[bytes]:
    """What wandb keeps on disk of each time a run was open."""
    return [path.read_bytes() for path in sorted((run / "wandb").glob("offline-run-*/*.wandb"))]


def test_a_run_is_logged_to_wandb_and_resumed_as_the_same(tmp_path: Path, offline: Any) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with Log(run, start=0, steps=9, wandb="catlip", config=CONFIG) as log:
        log.write(1, {"loss": 3.25, "nothing": None})
        log.picture("held_out/0", np.zeros((4, 6, 3), np.uint8), 1, caption="a \ud800dog")
        log.write(2, {"loss": float("nan")})
    kept = json.loads((run / "wandb.json").read_text())
    assert kept["project"] == "catlip"
    with Log(run, start=1, steps=9, wandb="catlip", config=CONFIG) as log:
        log.write(2, {"loss": 2.5})
    assert json.loads((run / "wandb.json").read_text()) == kept
    files = list((run / "wandb").glob(f"offline-run-*{kept['id']}"))
    assert files
    content = b"".join(stored(run))
    assert b"3.25" in content
    assert b"peak_lr" in content
    assert b"pass-word" not in content
    assert b"signature" not in content


def test_another_project_is_another_run(tmp_path: Path, offline: Any) -> None:
    ids = []
    for project in ("one", "two"):
        with Log(tmp_path, start=0, steps=9, wandb=project):
            ids.append(json.loads((tmp_path / "wandb.json").read_text())["id"])
    assert ids[0] != ids[1]


def test_steps_that_fall_are_not_sent(tmp_path: Path, offline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(offline.Run, "log", lambda self, values, step: sent.append((step, values)))
    with Log(tmp_path, start=0, steps=9, wandb="catlip") as log:
        for step in (1, 2, 3, 2, 3, 4):
            log.write(step, {"loss": 1.0})
    assert [step for step, _ in sent] == [1, 2, 3, 3, 4]


def test_a_failure_of_wandb_ends_its_log_and_not_the_run(
    tmp_path: Path, offline: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def fail(self: Any, values: Any, step: int) -> None:
        calls.append(step)
        raise offline.Error("the server is gone") if step == 1 else ConnectionResetError("killed")

    monkeypatch.setattr(offline.Run, "log", fail)
    with Log(tmp_path, start=0, steps=9, wandb="catlip") as log:
        log.write(1, {"loss": 1.0})
        log.write(2, {"loss": 0.5})
    assert calls == [1]
    assert "warning: --wandb: found Error (the server is gone)" in capsys.readouterr().err
    assert [line["loss"] for line in read_log(tmp_path / "metrics.jsonl")] == [1.0, 0.5]


def test_a_project_that_wandb_refuses_is_an_error_before_the_run(tmp_path: Path, offline: Any) -> None:
    with pytest.raises(InputError, match="--wandb"):
        Log(tmp_path, start=0, steps=9, wandb="bad/project:name")


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingRequirementError, match=r"pip install '\.\[wandb\]'"):
        check_wandb()


@pytest.mark.parametrize("content", ["[]", '{"project": "a"}', "{", "3"])
def test_a_wandb_json_of_something_else_is_an_error(tmp_path: Path, offline: Any, content: str) -> None:
    (tmp_path / "wandb.json").write_text(content)
    with pytest.raises(FormatError, match=r"wandb\.json: found no run of wandb"):
        Log(tmp_path, start=0, steps=9, wandb="a")
