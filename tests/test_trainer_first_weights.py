"""A run begins with weights from anywhere, all of them or none, and says what became of them."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pyarrow as pa
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from tests.corpus import Corpus, command, losses, make_corpus
from tests.forks import Forks, trainer
from tests.hub import cached
from tests.released_weights import CLASSES, COUNTS, released
from trainer.distributed import Rank
from trainer.pretrain import pretrain
from trainer.step.training import build_training
from trainer.verb_config import ExportConfig, ImportConfig
from trainer.weights.export import export
from trainer.weights.names import prefix_of
from trainer.weights.released import import_released
from trainer.weights.sources import read_source
from vocab.errors import CatlipError, FormatError, InputError, MismatchError
from vocab.store.sealing import to_sealed_json
from vocab.vocabulary import Vocabulary

SMALL: dict[str, Any] = {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
ON_CPU = Rank(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def run(corpus: Corpus) -> Path:
    """A finished run. Not to be written to."""
    out = corpus.images.parent / "run"
    assert pretrain(corpus.config(out, steps=2, warmup_steps=1)) == 0
    return out


def other_model(*, classes: int = 5, image_size: int = 16, **sizes: Any) -> nn.Module:
    """A model as strangers train it, with classes of their own."""
    torch.manual_seed(1)
    options: dict[str, Any] = {**SMALL, **sizes}
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=classes, img_size=image_size, **options)
    return model


def saved(path: Path, model: nn.Module) -> Path:
    save_file(model.state_dict(), path)
    return path


def begun(corpus: Corpus, init: object, vocabulary: Path | None = None, **changes: Any) -> dict[str, Tensor]:
    """Weights with which a run begins."""
    config = corpus.config(Path("runs/none"), init=str(init), **changes)
    training = build_training(
        config, Vocabulary.load(vocabulary or corpus.vocabulary), ON_CPU, first=read_source(str(init))
    )
    return training.tensors()["model"]


def is_head(name: str) -> bool:
    return name.startswith("head.")


def same_backbone(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one if not is_head(name))


def test_a_file_of_weights_gives_all_but_the_classifier(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = other_model()
    path = saved(tmp_path / "weights.safetensors", model)
    found = begun(corpus, path)
    assert same_backbone(found, model.state_dict())
    vocabulary = Vocabulary.load(corpus.vocabulary)
    assert found["head.weight"].shape == (3, 16)
    torch.testing.assert_close(found["head.bias"], torch.from_numpy(vocabulary.log_odds).float())
    assert capsys.readouterr().err == (
        f"first weights: {path}\n  classifier new: the weights have no classifier for the classes of this vocabulary\n"
    )


@pytest.mark.parametrize("init", ["~/weights.safetensors", "file://{}/weights.safetensors"])
def test_a_file_is_found_by_every_spelling_of_its_path(
    tmp_path: Path, init: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path / "weights.safetensors", other_model())
    assert read_source(init.format(tmp_path)).tensors["cls_token"].shape == (1, 1, 16)


def test_a_file_without_a_classifier_will_do(corpus: Corpus, tmp_path: Path) -> None:
    model = other_model(classes=0)
    found = begun(corpus, saved(tmp_path / "weights.safetensors", model))
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


def test_weights_of_half_precision_become_float32(corpus: Corpus, tmp_path: Path) -> None:
    model = other_model()
    save_file({name: tensor.half() for name, tensor in model.state_dict().items()}, tmp_path / "half.safetensors")
    found = begun(corpus, tmp_path / "half.safetensors")["blocks.0.attn.qkv.weight"]
    assert found.dtype == torch.float32
    assert torch.equal(found, model.state_dict()["blocks.0.attn.qkv.weight"].half().float())


def test_a_folder_of_timm_gives_its_weights(corpus: Corpus, tmp_path: Path) -> None:
    model = other_model()
    timm.models.save_for_hf(model, tmp_path / "folder", safe_serialization=True, model_args={**SMALL, "img_size": 16})
    assert same_backbone(begun(corpus, tmp_path / "folder"), model.state_dict())
    assert same_backbone(begun(corpus, f"local-dir:{tmp_path}/folder"), model.state_dict())


@pytest.mark.parametrize("form", ["run", "checkpoint", "exported"])
def test_a_run_of_the_same_vocabulary_gives_its_classifier_too(
    corpus: Corpus, run: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = run
    if form == "checkpoint":
        place = Path(shutil.copytree(run, tmp_path / "unfinished"))
        (place / "model.safetensors").unlink()
    if form == "exported":
        place = tmp_path / "exported"
        export(ExportConfig(run, place))
    capsys.readouterr()
    average = load_file(run / "model.safetensors")
    found = begun(corpus, place)
    assert found.keys() == average.keys()
    assert all(torch.equal(found[name], average[name]) for name in found)
    assert "  classifier kept: 3 classes of the same vocabulary\n" in capsys.readouterr().err


def test_another_vocabulary_and_an_export_without_classifier_give_a_new_one(
    corpus: Corpus, run: Path, tmp_path: Path
) -> None:
    average = load_file(run / "model.safetensors")
    whole = Vocabulary.load(corpus.vocabulary)
    counts = pa.table({"synset": whole.synsets[:2], "captions": whole.captions[:2]})
    fewer = Vocabulary.from_counts(counts, rows=99, min_count=1)
    fewer.save(tmp_path / "fewer.parquet")
    found = begun(corpus, run, tmp_path / "fewer.parquet")
    assert same_backbone(found, average)
    assert found["head.weight"].shape == (2, 16)
    export(ExportConfig(run, tmp_path / "backbone", backbone=True))
    found = begun(corpus, tmp_path / "backbone")
    assert same_backbone(found, average)
    assert not torch.equal(found["head.weight"], average["head.weight"])


def test_position_embeddings_and_patches_of_another_size_are_resized_and_said(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = other_model(image_size=32, patch_size=4)
    path = saved(tmp_path / "weights.safetensors", model)
    found = begun(corpus, path)
    torch.testing.assert_close(
        found["pos_embed"],
        resample_abs_pos_embed(model.state_dict()["pos_embed"], new_size=[2, 2], old_size=[8, 8], num_prefix_tokens=1),
    )
    assert found["patch_embed.proj.weight"].shape == (16, 3, 8, 8)
    said = capsys.readouterr().err.splitlines()
    assert "  position embeddings resized in two dimensions: 8 x 8 to 2 x 2 patches" in said
    assert "  patch_embed.proj.weight resized: 16 x 3 x 4 x 4 to 16 x 3 x 8 x 8" in said


@pytest.mark.parametrize(
    "name",
    ["test_vit", "test_vit.r160_in1k", "hf-hub:timm/test_vit.r160_in1k"],
)
def test_a_name_of_timm_gives_its_pretrained_weights(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    torch.manual_seed(1)
    model = timm.create_model("test_vit")
    cached(tmp_path / "hub", monkeypatch, model, "timm/test_vit.r160_in1k")
    plain: dict[str, Any] = dict.fromkeys(SMALL)
    found = begun(corpus, name, model="test_vit", image_size=160, **plain)
    assert same_backbone(found, model.state_dict())


def test_weights_of_another_architecture_that_fit_are_taken_and_it_is_said(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    model = timm.create_model("vit_small_patch16_224", img_size=16, **SMALL)
    timm.models.save_for_hf(model, tmp_path / "small", safe_serialization=True)
    assert same_backbone(begun(corpus, tmp_path / "small"), model.state_dict())
    assert f"first weights: {tmp_path}/small, made for vit_small_patch16_224\n" in capsys.readouterr().err


def test_weights_that_no_cache_and_no_network_has_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"test_vit: found no weights that timm can load \(") as raised:
        read_source("test_vit")
    assert "or name a folder or a .safetensors file" in str(raised.value)


def test_a_run_begins_with_them_and_goes_on_without_them(corpus: Corpus, tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.safetensors", other_model())
    config = corpus.config(tmp_path / "run", init=str(path))
    assert pretrain(config) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["init"] == str(path)
    card = (tmp_path / "run" / "README.md").read_text()
    assert re.search(r"^\| first weights \| \S+/weights\.safetensors \|$", card, re.MULTILINE)
    path.unlink()
    assert pretrain(replace(config, optim=replace(config.optim, steps=8))) == 0
    assert len(losses(tmp_path / "run")) == 8
    with pytest.raises(MismatchError, match=r"found a run with model.init='.*'; wanted model.init=None"):
        pretrain(replace(config, model=replace(config.model, init=None)))


def test_weights_cannot_be_asked_for_by_the_name_of_the_model(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--init"):
        pretrain(corpus.config(tmp_path / "run", model="vit_tiny_patch16_224.augreg_in21k"))


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({"depth": 2}, "blocks.1.attn.proj.bias and 11 others, which the model lacks"),
        ({"embed_dim": 32}, r"cls_token of shape \[1, 1, 32\], where the model has \[1, 1, 16\]"),
        ({"global_pool": "avg"}, "no norm.weight and 1 other; fc_norm.bias and 1 other, which the model lacks"),
    ],
)
def test_weights_of_another_shape_or_with_other_names_are_named(
    corpus: Corpus, tmp_path: Path, sizes: dict[str, Any], found: str
) -> None:
    path = saved(tmp_path / "weights.safetensors", other_model(**sizes))
    with pytest.raises(MismatchError, match=f"--init .*: found weights that name no architecture: .*{found}"):
        begun(corpus, path)


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "model.", "_orig_mod.", "module.encoder."])
def test_weights_whose_names_have_a_prefix_are_named_with_the_way_to_strip_it(
    corpus: Corpus, tmp_path: Path, prefix: str
) -> None:
    named = {f"{prefix}{name}": tensor for name, tensor in other_model().state_dict().items()}
    save_file(named, tmp_path / "named.safetensors")
    with pytest.raises(MismatchError, match=rf"{prefix}.* and \d+ others, which the model lacks") as raised:
        begun(corpus, tmp_path / "named.safetensors")
    assert f"All of their names begin with {prefix}, which timm's names lack. Write them without it" in str(
        raised.value
    )
    assert f'name.removeprefix("{prefix}")' in str(raised.value)


def test_a_prefix_is_one_that_all_names_have_and_that_may_stand_in_a_command() -> None:
    assert prefix_of(["module.norm.weight", "module.head.bias"], ["norm.weight"]) == "module."
    assert prefix_of(["module.norm.weight", "head.bias"], ["norm.weight"]) == ""
    assert prefix_of(["norm.weight", "norm.bias"], ["norm.weight"]) == ""
    assert prefix_of(['"); import os; ("..norm.weight'], ["norm.weight"]) == ""
    assert prefix_of([], ["norm.weight"]) == ""


def test_weights_of_another_architecture_are_named(corpus: Corpus, tmp_path: Path) -> None:
    timm.models.save_for_hf(timm.create_model("test_resnet"), tmp_path / "resnet", safe_serialization=True)
    with pytest.raises(MismatchError, match="found weights of test_resnet: no cls_token") as raised:
        begun(corpus, tmp_path / "resnet")
    assert "Give --model test_resnet, with the --global-pool that they were made with." in str(raised.value)


@pytest.mark.parametrize(
    ("name", "tensor", "found"),
    [
        ("norm.weight", torch.ones(16, dtype=torch.int8), "norm.weight of torch.int8"),
        ("norm.weight", torch.ones(16, dtype=torch.complex64), "norm.weight of torch.complex64"),
        ("head.weight", torch.zeros(()), "head.bias and 1 other, which the model lacks"),
        ("head.weight", torch.zeros(5), "head.weight of shape [5], where the model has [5, 16]"),
        ("head.bias", torch.zeros(4), "head.bias of shape [4], where the model has [5]"),
        ("pos_embed", torch.zeros(1, 7, 16), "pos_embed of shape [1, 7, 16], where the model has [1, 5, 16]"),
        ("pos_embed", torch.zeros(1, 0, 16), "weights that timm cannot convert"),
        (
            "patch_embed.proj.weight",
            torch.zeros(16, 1, 8, 8),
            "weights that timm cannot convert (Pretrained patch_embed",
        ),
    ],
)
def test_one_weight_of_another_kind_is_named(
    corpus: Corpus, tmp_path: Path, name: str, tensor: Tensor, found: str
) -> None:
    save_file(other_model().state_dict() | {name: tensor}, tmp_path / "weights.safetensors")
    with pytest.raises(MismatchError, match=re.escape(found)):
        begun(corpus, tmp_path / "weights.safetensors")


def test_weights_with_nan_are_named(corpus: Corpus, tmp_path: Path) -> None:
    model = other_model()
    model.get_parameter("norm.weight").data[3] = torch.nan
    with pytest.raises(MismatchError, match=r"NaN or infinity in norm\.weight"):
        begun(corpus, saved(tmp_path / "weights.safetensors", model))


@pytest.mark.parametrize("name", ["weights.pt", "pytorch_model.bin", "weights.safetensors"])
def test_a_pickle_is_refused_whatever_its_name_with_the_way_to_convert_it(tmp_path: Path, name: str) -> None:
    torch.save(other_model().state_dict(), tmp_path / name)
    with pytest.raises(InputError, match="found a pickle, or a file that may be one") as raised:
        read_source(str(tmp_path / name))
    assert "s.save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2])" in str(raised.value)


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_244", "", None])
def test_a_folder_of_an_architecture_that_timm_removed_is_named(tmp_path: Path, architecture: str | None) -> None:
    timm.models.save_for_hf(other_model(), tmp_path, safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architecture": architecture}))
    with pytest.raises(FormatError, match=rf"config\.json: found the architecture {architecture}, which timm"):
        read_source(str(tmp_path))


def test_of_several_files_of_weights_the_one_named_model_is_taken(corpus: Corpus, tmp_path: Path) -> None:
    model = other_model()
    timm.models.save_for_hf(model, tmp_path / "two", safe_serialization=True, model_args={**SMALL, "img_size": 16})
    saved(tmp_path / "two" / "a.safetensors", other_model(depth=2))
    assert same_backbone(begun(corpus, tmp_path / "two"), model.state_dict())
    (tmp_path / "two" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"two/model\.safetensors: found no such file"):
        read_source(str(tmp_path / "two"))
    (tmp_path / "two" / "config.json").unlink()
    with pytest.raises(
        InputError, match=r"found a folder without config\.json.*Name the file itself: \S+/a\.safetensors"
    ):
        read_source(str(tmp_path / "two"))


def test_a_folder_that_has_its_weights_as_a_pickle_is_refused(tmp_path: Path) -> None:
    timm.models.save_for_hf(other_model(), tmp_path, safe_serialization=False)
    with pytest.raises(InputError, match=r"pytorch_model\.bin: found a pickle"):
        read_source(str(tmp_path))


@pytest.mark.parametrize(
    ("init", "error", "found"),
    [
        ("vit_tiny_patch16_224.no_such_tag", InputError, "For example vit_tiny_patch16_224.augreg_in21k"),
        ("vit_base_patch16_224_in21k", InputError, "which has another name in timm"),
        ("vit_giant_patch14_224", InputError, "which has no pre-trained weights of it"),
        ("no_such_model", InputError, "found no file or folder, and no name of pre-trained weights in timm"),
        ("no/such/path", InputError, "found no such file or folder"),
        ("missing.safetensors", InputError, "found no such file"),
        ("", InputError, "--init : found no name"),
        ("cut", FormatError, "found unreadable weights"),
        ("empty", FormatError, "found unreadable weights"),
        ("without", InputError, "found a folder without config.json; wanted"),
    ],
)
def test_a_start_that_is_none_is_named(
    tmp_path: Path, init: str, error: type[CatlipError], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = saved(tmp_path / "whole.safetensors", other_model()).read_bytes()
    if init in ("cut", "empty"):
        init = f"{init}.safetensors"
        Path(init).write_bytes(whole[: 3000 if init == "cut.safetensors" else 0])
    if init == "without":
        (tmp_path / "without").mkdir()
    with pytest.raises(error) as raised:
        read_source(init)
    assert found in str(raised.value)


def test_a_run_of_an_architecture_that_timm_removed_is_named(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["model"]["model"] = "vit_tiny_patch16_244"
    (copy / "config.json").write_text(to_sealed_json(config))
    with pytest.raises(FormatError, match=r"json: found the architecture vit_tiny_patch16_244, which timm") as raised:
        read_source(str(copy))
    assert "Install the timm that the weights were written with." in str(raised.value)


def test_released_weights_are_refused_by_what_timm_lacks(tmp_path: Path) -> None:
    torch.save(released(), tmp_path / "vit.pt")
    (tmp_path / "vocabulary.pkl").write_bytes(pickle.dumps(COUNTS))
    import_released(
        ImportConfig(tmp_path / "vit.pt", tmp_path / "vocabulary.pkl", tmp_path / "imported", classes=CLASSES)
    )
    with pytest.raises(InputError, match="found released CatLIP weights, whose convolutional stem"):
        read_source(str(tmp_path / "imported"))


def test_weights_that_were_altered_are_noticed(run: Path, tmp_path: Path) -> None:
    export(ExportConfig(run, tmp_path / "exported"))
    content = bytearray((tmp_path / "exported" / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "exported" / "model.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match="found weights that do not match their checksum"):
        read_source(str(tmp_path / "exported"))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_several_processes_begin_with_the_same_weights(
    forks: Forks, corpus: Corpus, tmp_path: Path, parallel: str
) -> None:
    init = str(saved(tmp_path / "weights.safetensors", other_model()))
    assert pretrain(corpus.config(tmp_path / "alone", init=init, drop_path=0.0)) == 0
    config = corpus.config(tmp_path / "together", init=init, drop_path=0.0, parallel=parallel)
    forks.run(2, tmp_path / "log", trainer, command(config))
    assert losses(tmp_path / "together") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    assert (tmp_path / "log").read_text().count("classifier new: the weights have no classifier") == 1
