"""Export: others load the model that the run computes, and a run that is not whole is refused."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.corpus import COLOURS, make_corpus
from tests.markdown import blocks
from tests.pictures import picture
from tests.synsets import CAT, DOG
from trainer.__main__ import main
from trainer.config import DataConfig, ModelConfig, PretrainConfig, to_json
from trainer.model.backbone import build_model
from trainer.pretrain import pretrain
from trainer.probe import feature_files
from trainer.records.record import read_records
from trainer.verb_config import ExportConfig
from trainer.weights.export import export
from trainer.weights.folder import load_model, new_folder
from trainer.weights.pretrained import open_pretrained
from trainer.weights.run_model import stored_config
from vocab.errors import FormatError, InputError, MismatchError, MissingRequirementError, OutputExistsError
from vocab.store.sealing import to_sealed_json
from vocab.vocabulary import Vocabulary

pytestmark = pytest.mark.arithmetic

IMAGES = torch.linspace(-1, 1, 3 * 3 * 16 * 16).view(3, 3, 16, 16)
# timm computes the whole last block, the run's model its class token alone. From there to the logits six sums of at
# most 64 products follow one another, in different orders; each product may round by half of float32's epsilon.
ROUNDING = 6 * 64 * torch.finfo(torch.float32).eps / 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps, kept at 4 and 6. Not to be written to."""
    root = tmp_path_factory.mktemp("export")
    assert pretrain(make_corpus(root / "corpus").config(root / "run")) == 0
    return root / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be written to."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def runs_model(run: Path, weights: Path) -> nn.Module:
    """The model as training builds it, with the weights of a file."""
    options = ModelConfig(**json.loads((run / "config.json").read_text())["model"])
    model = build_model(options, Vocabulary.load(run / "vocabulary.parquet"), image_size=16)
    model.load_state_dict(load_file(weights))
    return model.eval()


def same_logits(exported: nn.Module, wanted: nn.Module) -> bool:
    with torch.no_grad():
        ours, theirs = wanted(IMAGES), exported.eval()(IMAGES)
    return torch.allclose(theirs, ours, rtol=0, atol=ROUNDING * float(ours.abs().max()))


def test_timm_loads_the_folder_and_gives_the_run_s_own_logits(run: Path, tmp_path: Path) -> None:
    told = export(ExportConfig(run, tmp_path / "given"))
    assert told == f"{tmp_path / 'given'}: moving average at the end of the run, 3 classes"
    model = timm.create_model(f"local-dir:{tmp_path / 'given'}", pretrained=True)
    assert same_logits(model, runs_model(run, run / "model.safetensors"))
    assert same_logits(load_model(tmp_path / "given"), runs_model(run, run / "model.safetensors"))


def test_all_files_may_be_read_by_whom_the_umask_lets(finished: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        export(ExportConfig(finished, tmp_path / "given"))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "given").iterdir()} == {0o640}


def write_table(out: Path) -> None:
    with new_folder(out) as work:
        (work / "results.md").write_text("x" * 9000)


def write_features(out: Path) -> None:
    feature_files.write(out, feature_files.Stored(torch.zeros(99, 99), np.arange(99)), "key")


@pytest.mark.parametrize("write", [export, write_table, write_features])
def test_a_disk_that_takes_no_more_is_named_and_leaves_nothing(
    write: Callable[[Any], object], finished: Path, tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    given = tmp_path / "given"
    try:
        with pytest.raises(OSError, match=r"model\.safetensors" if write is export else "given") as error:
            write(ExportConfig(finished, given) if write is export else given)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_the_folder_says_what_the_model_sees_and_what_its_outputs_are_called(finished: Path, tmp_path: Path) -> None:
    export(ExportConfig(finished, tmp_path / "given"))
    names = {path.name for path in (tmp_path / "given").iterdir()}
    assert names == {"model.safetensors", "config.json", "vocabulary.parquet", "README.md", "LICENSE.wordnet"}
    assert [path.name for path in tmp_path.iterdir()] == ["given"]
    model = timm.create_model(f"local-dir:{tmp_path / 'given'}")
    seen = timm.data.resolve_model_data_config(model)
    assert [*seen["input_size"], *seen["mean"], *seen["std"]] == [3, 16, 16, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert (seen["interpolation"], seen["crop_pct"], seen["crop_mode"]) == ("bilinear", 0.875, "center")
    classes = Vocabulary.load(tmp_path / "given" / "vocabulary.parquet")
    assert model.pretrained_cfg["label_names"] == classes.wnids
    dog = "dog.n.01: dog, domestic dog, Canis familiaris"
    assert model.pretrained_cfg["label_descriptions"]["n02084071"] == dog
    assert "WordNet 3.0" in (tmp_path / "given" / "LICENSE.wordnet").read_text()


@pytest.mark.parametrize(("kind", "step"), [("ema", 4), ("model", 4), ("model", None)])
def test_a_checkpoint_s_weights_are_given_when_asked_for(
    run: Path, tmp_path: Path, kind: str, step: int | None
) -> None:
    told = export(replace(ExportConfig(run, tmp_path / "given"), weights=kind, checkpoint=step))
    assert f"at step {step or 6}" in told
    stored = run / "checkpoints" / f"step-{step or 6:08d}" / f"{kind}.safetensors"
    assert same_logits(load_model(tmp_path / "given"), runs_model(run, stored))
    other = stored.with_name("model.safetensors" if kind == "ema" else "ema.safetensors")
    assert not same_logits(load_model(tmp_path / "given"), runs_model(run, other))
    assert "These weights have not been evaluated" in (tmp_path / "given" / "README.md").read_text()


def test_an_unfinished_run_gives_its_newest_checkpoint(run: Path, tmp_path: Path) -> None:
    (run / "model.safetensors").unlink()
    (run / "results.json").unlink()
    assert "moving average at step 6" in export(ExportConfig(run, tmp_path / "given"))
    assert "which saw 48 images" in (tmp_path / "given" / "README.md").read_text()


def test_a_checkpoint_with_a_changed_byte_is_refused(run: Path, tmp_path: Path) -> None:
    path = run / "checkpoints" / "step-00000006" / "ema.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match="bytes that do not match their checksum"):
        export(ExportConfig(run, tmp_path / "given", checkpoint=6))


def test_a_backbone_gives_the_features_before_the_classifier(run: Path, tmp_path: Path) -> None:
    export(ExportConfig(run, tmp_path / "given", backbone=True))
    model = timm.create_model(f"local-dir:{tmp_path / 'given'}", pretrained=True).eval()
    wanted = runs_model(run, run / "model.safetensors")
    wanted.set_submodule("head", nn.Identity())
    assert same_logits(model, wanted)
    assert "head.weight" not in load_file(tmp_path / "given" / "model.safetensors")
    other = timm.create_model(f"local-dir:{tmp_path / 'given'}", pretrained=True, num_classes=7)
    assert other(IMAGES).shape == (3, 7)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [False, True])
def test_onnx_computes_the_model_s_outputs_for_any_number_of_images(
    finished: Path, tmp_path: Path, backbone: bool
) -> None:
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    told = export(ExportConfig(finished, tmp_path / "given", onnx=True, backbone=backbone))
    assert "model.onnx: onnxruntime's outputs are within" in told
    session = onnxruntime.InferenceSession(str(tmp_path / "given" / "model.onnx"), providers=["CPUExecutionProvider"])
    model = load_model(tmp_path / "given")
    for count in (1, 3):
        (found,) = session.run(["outputs"], {"images": IMAGES[:count].numpy()})
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(found), model(IMAGES[:count]), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pool", "resolution"), [("avg", "fixed"), ("map", "fixed"), ("token", "variable"), ("avg", "schedule")]
)
def test_every_kind_of_pooling_and_resolution_is_given(tmp_path: Path, pool: Any, resolution: Any) -> None:
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    options = ModelConfig("vit_tiny_patch16_224", patch_size=8, embed_dim=16, depth=1, num_heads=2, global_pool=pool)
    config = PretrainConfig(data=DataConfig(image_size=16, resolution=resolution), model=options)
    classes = Vocabulary(np.array([DOG, CAT], np.int32), np.array([5, 3]), rows=9, min_count=3)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(to_json(config))
    classes.save(run / "vocabulary.parquet")
    model = build_model(options, classes, image_size=16, one_size=resolution == "fixed").eval()
    save_file(model.state_dict(), run / "model.safetensors")
    export(ExportConfig(run, tmp_path / "given", onnx=True))
    given = timm.create_model(f"local-dir:{tmp_path / 'given'}", pretrained=True)
    assert same_logits(given, model)
    if resolution != "fixed":
        assert given(torch.zeros(1, 3, 24, 32)).shape == (1, 2)


def test_the_command_line_says_what_it_did(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["trainer", "export", str(finished), "--out", str(tmp_path / "given")])
    main()
    assert capsys.readouterr().out == f"{tmp_path / 'given'}: moving average at the end of the run, 3 classes\n"


def test_without_the_onnx_packages_it_says_what_to_install(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingRequirementError, match=r"pip install '\.\[onnx\]'"):
        export(ExportConfig(finished, tmp_path / "given", onnx=True))


def test_the_card_names_what_was_trained_on_what_and_how_well(finished: Path, tmp_path: Path) -> None:
    export(ExportConfig(finished, tmp_path / "given", licence="cc-by-4.0"))
    card = (tmp_path / "given" / "README.md").read_text()
    macro = read_records(finished)[0].value
    for fact in [
        "license: cc-by-4.0",
        "library_name: timm",
        r"vit\_tiny\_patch16\_224",
        "one logit for each of 3 synsets",
        "which saw 48 images",
        f"| mean average precision, mean of classes | {macro:.3f} |",
        "| peak lr | 0.003 |",
        "| data | corpus/images |",
        Vocabulary.load(finished / "vocabulary.parquet").fingerprint,
        "dog.n.01",
        "WordNet licence",
    ]:
        assert fact in card, fact
    assert str(tmp_path.parent) not in card


def snippet_of(card: Path, picture_file: Path) -> str:
    """The Python of a card, with the card's own folder and a picture in the places of FOLDER and picture.jpg."""
    [code] = blocks(card.read_text(), "python")
    assert len(code.splitlines()) <= 10
    assert set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)) == {"timm", "PIL"}
    return code.replace("FOLDER", str(card.parent)).replace("picture.jpg", str(picture_file))


@pytest.mark.parametrize("loss", ["bce", "softmax"])
def test_the_card_s_snippet_prints_the_synsets_of_a_picture(
    loss: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((run / "config.json").read_text())
    del config["own_sha256"]
    (run / "config.json").write_text(json.dumps({**config, "loss": {**config["loss"], "loss": loss}}))
    export(ExportConfig(run, tmp_path / "given"))
    (tmp_path / "dog.png").write_bytes(picture(COLOURS[DOG], size=(16, 16)))
    exec(snippet_of(tmp_path / "given" / "README.md", tmp_path / "dog.png"), {})
    red = torch.tensor(COLOURS[DOG]).view(1, 3, 1, 1).expand(1, 3, 16, 16) / 127.5 - 1
    with torch.no_grad():
        logits = runs_model(run, run / "model.safetensors")(red)[0]
    shares = logits.softmax(0) if loss == "softmax" else logits.sigmoid()
    words = {
        "n02084071": "dog.n.01: dog, domestic dog, Canis familiaris",
        "n02121620": "cat.n.01: cat, true cat",
        "n02958343": "car.n.01: car, auto, automobile, machine, motorcar",
    }
    wnids = Vocabulary.load(run / "vocabulary.parquet").wnids
    order = shares.argsort(descending=True).tolist()
    wanted = [f"{shares[label]:.0%} {wnids[label]} {words[wnids[label]]}" for label in order]
    assert capsys.readouterr().out.splitlines() == wanted


def test_the_card_s_snippet_of_a_backbone_says_how_many_features_there_are(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(ExportConfig(finished, tmp_path / "given", backbone=True))
    (tmp_path / "dog.png").write_bytes(picture())
    exec(snippet_of(tmp_path / "given" / "README.md", tmp_path / "dog.png"), {})
    assert capsys.readouterr().out == "16 features\n"


def test_what_exists_is_not_written_over(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    with pytest.raises(OutputExistsError, match="Choose another --out"):
        export(ExportConfig(finished, tmp_path / "given"))


@pytest.mark.parametrize("name", ["model.safetensors", "vocabulary.parquet", "config.json", "results.json"])
def test_a_file_that_is_cut_short_leaves_nothing_behind(run: Path, tmp_path: Path, name: str) -> None:
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(FormatError, match=name):
        export(ExportConfig(run, tmp_path / "given"))
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (["version"], 3, "version 3"),
        (["details", "parameters"], "7M", "parameters is '7M', where int is wanted"),
        (["records", 0, "extra", "macro"], None, "macro is 'None', where float is wanted"),
        (["records", 0, "extra"], {}, "no images"),
        (["records", 0, "method"], "finetune", "results of pretrain without a record of pretrain"),
    ],
)
def test_altered_results_are_refused_and_the_run_writes_them_anew(
    path: list[Any], value: object, found: str, run: Path, tmp_path: Path
) -> None:
    content = json.loads((run / "results.json").read_text())
    del content["own_sha256"]
    inside = content
    for name in path[:-1]:
        inside = inside[name]
    inside[path[-1]] = value
    (run / "results.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match=rf"results\.json: found {re.escape(found)}; .* Give the run's command again"):
        export(ExportConfig(run, tmp_path / "given"))


def test_results_in_the_form_of_an_earlier_version_are_refused(run: Path, tmp_path: Path) -> None:
    (run / "results.json").write_text('{"steps": 6, "images_seen": 48, "evaluation": {"macro": 0.5}}')
    with pytest.raises(FormatError, match=r"no records of the format catlip-results; .* Give the run's command again"):
        export(ExportConfig(run, tmp_path / "given"))


def test_a_run_without_its_vocabulary_or_configuration_is_refused(run: Path, tmp_path: Path) -> None:
    (run / "vocabulary.parquet").unlink()
    with pytest.raises(FormatError, match="given as --vocabulary"):
        export(ExportConfig(run, tmp_path / "given"))
    (run / "config.json").unlink()
    with pytest.raises(FormatError, match=r"Name the directory that the run was given as --out"):
        export(ExportConfig(run, tmp_path / "given"))


def test_a_vocabulary_of_another_size_is_refused(run: Path, tmp_path: Path) -> None:
    whole = Vocabulary.load(run / "vocabulary.parquet")
    Vocabulary(whole.synsets[:2], whole.captions[:2], rows=whole.rows, min_count=1).save(run / "vocabulary.parquet")
    with pytest.raises(MismatchError, match="found 2 classes, and weights with a classifier of 3 classes"):
        export(ExportConfig(run, tmp_path / "given"))


@pytest.mark.parametrize("place", ["run", "export"])
def test_a_vocabulary_of_other_classes_or_in_another_order_is_refused(place: str, run: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    export(ExportConfig(run, given))
    file = {"run": run, "export": given}[place] / "vocabulary.parquet"
    whole = Vocabulary.load(file)
    Vocabulary(whole.synsets[::-1].copy(), whole.captions, rows=whole.rows, min_count=1).save(file)
    with pytest.raises(MismatchError, match=r"at least in their order, from those of model\.safetensors"):
        open_pretrained(file.parent)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_weights_and_a_configuration_of_two_folders_are_refused(finished: Path, tmp_path: Path, name: str) -> None:
    folders = [tmp_path / "4", tmp_path / "6"]
    for folder in folders:
        export(ExportConfig(finished, folder, checkpoint=int(folder.name)))
        open_pretrained(folder)
    shutil.copy(folders[0] / name, folders[1] / name)
    for read in (open_pretrained, load_model):
        with pytest.raises(FormatError, match=r"config\.json was written with other weights than model\.safetensors"):
            read(folders[1])
    # Earlier releases did not name the weights, and people remove what they mean to change.
    config = json.loads((folders[1] / "config.json").read_text())
    del config["weights_sha256"], config["own_sha256"]
    (folders[1] / "config.json").write_text(json.dumps(config))
    open_pretrained(folders[1])


def test_weights_of_another_model_are_refused(run: Path, tmp_path: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["model"]["depth"] = 2
    (run / "config.json").write_text(to_sealed_json(config))
    with pytest.raises(MismatchError, match=r"does not describe .*blocks\.1"):
        export(ExportConfig(run, tmp_path / "given"))


@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_configuration_with_a_value_of_another_type_is_refused_in_one_sentence(run: Path, *, is_sealed: bool) -> None:
    whole = json.loads((run / "config.json").read_text())
    del whole["own_sha256"]
    changed: list[Any] = [[], 7, {**whole, "model": 7}, {**whole, "data": []}, {**whole, "loss": {"loss": ["bce"]}}]
    changed += [{**whole, "model": {**whole["model"], name: [[1.5]]}} for name in whole["model"]]
    changed += [{**whole, "data": {**whole["data"], "eval_crop": value}} for value in ("x", None, {})]
    for content in changed:
        text = to_sealed_json(content) if is_sealed and isinstance(content, dict) else json.dumps(content)
        (run / "config.json").write_text(text)
        with pytest.raises(FormatError, match=r"config\.json: found no readable configuration"):
            stored_config(run)


def test_a_step_that_was_not_kept_is_refused_with_those_that_were(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found checkpoints of step 4, 6; wanted one of step 5"):
        export(ExportConfig(finished, tmp_path / "given", checkpoint=5))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"wanted the config\.json that a run writes"):
        export(ExportConfig(tmp_path, tmp_path / "given"))
