"""Progress line of a labelling job."""

from __future__ import annotations

from dataclasses import replace

from pipeline.planning import Task
from pipeline.progress import JobProgress
from pipeline.task import Done
from vocab.store.manifest import InputFile, LabelFile

FILE = LabelFile("counts.parquet", 1, None, None, 9, "f" * 64)
DONE = Done("plan", 0, (), (), FILE, (InputFile("a.tsv", 1, "today", rows=300),), 9)


def test_a_job_of_a_few_seconds_shows_no_rate_for_most_of_it_is_the_start_of_workers() -> None:
    progress = JobProgress([Task(0, (), 1), Task(1, (), 1)], log=None)
    progress.wave = "wave 1 of 1"
    progress.task_done(DONE)
    assert progress.line(12.0).rstrip() == "labels  wave 1 of 1   50%  300 rows  0 min 12 s left"
    progress.task_done(replace(DONE, task=1))
    assert progress.line(12.0).rstrip() == "labels  wave 1 of 1  100%  600 rows"
    assert progress.line(60.0).rstrip() == "labels  wave 1 of 1  100%  600 rows  10 rows/s"
