"""The log: whole lines survive a kill, a resumed run takes back what it will redo, and a broken file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.data.batch import Skipped
from trainer.records.ledger import Ledger
from trainer.records.log import Log, read_log
from vocab.errors import FormatError


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


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_log(tmp_path / "metrics.jsonl") == [{"step": 1}]


def test_a_broken_line_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step"\n{"step": 2}\n')
    with pytest.raises(FormatError, match=r"metrics.jsonl: found a line that is no JSON"):
        read_log(tmp_path / "metrics.jsonl")


def test_a_resumed_ledger_keeps_what_its_checkpoint_counted(tmp_path: Path) -> None:
    bad = [Skipped("00000", key, "no_image") for key in "abc"]
    Ledger(tmp_path).add([{"samples": 9, "bad": 3}], bad)
    resumed = Ledger(tmp_path, totals={"samples": 5, "bad": 2}, lines=2)
    resumed.add([{"samples": 4, "bad": 1}], bad[2:])
    assert (resumed.totals["samples"], resumed.totals["bad"], resumed.lines) == (9, 3, 3)
    assert (tmp_path / "bad_samples.jsonl").read_text().count("\n") == 3
