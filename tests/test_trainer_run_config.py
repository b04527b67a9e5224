"""The config.json of a run is the recipe that repeats it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.corpus import Corpus, losses, make_corpus, same_weights
from trainer.__main__ import read
from trainer.config import PretrainConfig, check, to_json
from trainer.pretrain import pretrain
from trainer.verb_config import PlanConfig
from vocab.errors import CatlipError, FormatError, InputError
from vocab.store.sealing import SEAL


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def stored(folder: Path, config: PretrainConfig) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(to_json(config))
    return folder / "config.json"


def test_a_run_is_repeated_to_the_last_weight_in_a_directory_of_its_own(corpus: Corpus, tmp_path: Path) -> None:
    old = tmp_path / "old"
    assert pretrain(corpus.config(old)) == 0
    config = read(["pretrain", str(old / "config.json")])
    assert isinstance(config, PretrainConfig)
    assert config == replace(corpus.config(old), run=replace(corpus.config(old).run, out=tmp_path / "old-repeat"))
    assert pretrain(config) == 0
    assert losses(tmp_path / "old-repeat") == losses(old)
    assert same_weights(tmp_path / "old-repeat", old)


@pytest.mark.parametrize("out", [".", ".."])
def test_a_run_in_the_folder_that_it_was_started_in_is_repeated_beside_it(
    corpus: Corpus, tmp_path: Path, out: str
) -> None:
    config = read(["pretrain", str(stored(tmp_path / "old", corpus.config(Path(out))))])
    assert isinstance(config, PretrainConfig)
    assert config.run.out == tmp_path / "old-repeat"


def test_the_command_line_changes_what_is_repeated_and_plan_reads_it_too(corpus: Corpus, tmp_path: Path) -> None:
    path = stored(tmp_path / "old", corpus.config(tmp_path / "old"))
    config = read(["pretrain", str(path), "--out", f"{tmp_path}/new", "--seed", "7"])
    assert isinstance(config, PretrainConfig)
    assert (config.run.out, config.run.seed) == (tmp_path / "new", 7)
    planned = read(["plan", str(path), "--gpus", "2"])
    assert isinstance(planned, PlanConfig)
    assert planned.pretrain.model == config.model


def without(name: str, part: dict[str, Any]) -> dict[str, Any]:
    return {each: value for each, value in part.items() if each != name}


@pytest.mark.parametrize(
    ("change", "error", "found"),
    [
        (lambda stored: {**stored, "mystery": 1}, FormatError, "found the field mystery, which PretrainConfig"),
        (lambda stored: without("loss", stored), FormatError, "found no field loss, which PretrainConfig has"),
        (lambda stored: {**stored, "model": without("depth", stored["model"])}, FormatError, "no field depth, which"),
        (lambda stored: {"model": "x", "task": {}, "init": "random"}, FormatError, "found the field init"),
        (lambda stored: {**stored, "data": 3}, InputError, "--data: found 3; wanted a value of type DataConfig"),
        (lambda stored: {**stored, "optim": {**stored["optim"], "steps": "six"}}, InputError, "--steps: found 'six'"),
        (lambda stored: {**stored, "optim": {**stored["optim"], "steps": -1}}, InputError, "--steps: found -1"),
        (lambda stored: {**stored, SEAL: "0" * 64}, FormatError, "config.json"),
        (lambda stored: [1, 2], FormatError, "found a list; wanted the config.json of a run"),
    ],
)
def test_a_file_that_is_no_configuration_of_a_run_is_named(
    corpus: Corpus, tmp_path: Path, change: Any, error: type[CatlipError], found: str
) -> None:
    path = stored(tmp_path / "old", corpus.config(tmp_path / "old"))
    path.write_text(json.dumps(change(without(SEAL, json.loads(path.read_text())))))
    with pytest.raises(error) as raised:
        read(["pretrain", str(path)])
    assert found in str(raised.value)


def test_an_architecture_that_timm_removed_is_named_before_anything_is_written(corpus: Corpus, tmp_path: Path) -> None:
    config = read(["pretrain", str(stored(tmp_path / "old", corpus.config(tmp_path / "old", model="vit_tiny_244")))])
    assert isinstance(config, PretrainConfig)
    with pytest.raises(InputError, match="--model: found vit_tiny_244; wanted an architecture of timm"):
        pretrain(config)
    assert not (tmp_path / "old-repeat" / "config.json").exists()


def test_a_config_that_is_not_there_or_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"config.json: found a file that cannot be read \(No such file"):
        read(["pretrain", str(tmp_path / "config.json")])
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(FormatError, match=r"config.json: found no JSON \("):
        read(["pretrain", str(tmp_path / "config.json")])


@pytest.mark.parametrize(
    ("option", "location"),
    [
        ("images", "pipe:cat /secret/0.tar"),
        ("images", "https://host/0.tar?signature=secret"),
        ("init", "s3://bucket/run?secret_key=secret"),
    ],
)
def test_a_location_whose_secret_config_json_lacks_is_asked_for(
    corpus: Corpus, tmp_path: Path, option: str, location: str
) -> None:
    changes: dict[str, Any] = {option: (location,) if option == "images" else location}
    path = stored(tmp_path / "old", corpus.config(tmp_path / "old", allow_pipe=True, **changes))
    repeated = read(["pretrain", str(path)])
    assert isinstance(repeated, PretrainConfig)
    with pytest.raises(InputError, match=rf"--{option}: found .*whose command or signature is left out"):
        check(repeated, world=1)
    given = read(["pretrain", str(path), f"--{option}", location])
    assert isinstance(given, PretrainConfig)
    check(given, world=1)
