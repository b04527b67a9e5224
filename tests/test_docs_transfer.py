"""The first commands of docs/transfer.md and its tasks file, as they stand there, on folders of small pictures."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.corpus import make_corpus
from tests.markdown import blocks
from tests.pictures import write_folders
from trainer.__main__ import main
from trainer.pretrain import pretrain
from trainer.records.record import read_records

pytestmark = pytest.mark.usefixtures("one_thread")

PAGE = (ROOT / "docs" / "transfer.md").read_text()
COMMANDS = re.findall(r"^python -m trainer .+$", blocks(PAGE, "")[0], re.MULTILINE)
OUT = {
    "zeroshot": "results/in1k-zero-shot",
    "probe": "results/in1k-probe",
    "finetune": "runs/b16-imagenet",
    "transfer": "results/b16",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, two sides of a task, and the page's tasks file."""
    folder = tmp_path_factory.mktemp("transfer")
    assert pretrain(make_corpus(folder / "corpus").config(folder / "runs" / "b16")) == 0
    write_folders(folder / "imagenet" / "train", {"car": 8, "cat": 8, "dog": 8})
    write_folders(folder / "imagenet" / "val", {"car": 4, "cat": 4, "dog": 4}, seed=1)
    (folder / "tasks.toml").write_text(blocks(PAGE, "toml")[0])
    return folder


def test_the_page_begins_with_a_command_of_each_verb() -> None:
    assert [shlex.split(command)[3] for command in COMMANDS] == list(OUT)


@pytest.mark.parametrize("command", COMMANDS, ids=list(OUT))
def test_a_command_of_the_page_leaves_its_results(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    words = shlex.split(command)
    monkeypatch.setattr(sys, "argv", words[2:])
    main()
    verb = words[3]
    methods = {record.method for record in read_records(folder / OUT[verb])}
    assert methods == {"probe": {"probe", "knn"}, "transfer": {"zeroshot", "knn", "probe"}}.get(verb, {verb})
    assert (folder / OUT[verb] / "results.md").is_file()
