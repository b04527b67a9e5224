"""Models of others, timm's and open_clip's, are measured beside ours: with their own pixels, without our vocabulary."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.finetuning import config as finetune_config
from tests.finetuning import results, task_in
from tests.hub import cached
from trainer.distributed import Rank
from trainer.transfer.config import ProbeConfig, TaskConfig, TransferConfig, ZeroShotConfig
from trainer.transfer.finetune import finetune
from trainer.transfer.probing import probe
from trainer.transfer.suite import transfer
from trainer.transfer.zero_shot import zero_shot
from trainer.weights.native import named_model
from trainer.weights.pretrained import open_pretrained
from trainer.weights.sources import read_source
from vocab.errors import CatlipError, FormatError, InputError, MismatchError

OPEN_CLIP = pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="open_clip_torch is not installed")
ON_CPU = Rank(0, 1, torch.device("cpu"))
SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2}
MEAN, STD = (0.1, 0.2, 0.4), (0.5, 0.25, 0.2)
NO_ROWS = "found a model of others, whose classifier has no rows of synsets"


def made(name: str = "vit_tiny_patch16_224", *, classes: int = 5, **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=classes, **arguments)
    return model.eval()


def foreign(folder: Path, *, classes: int = 5) -> Path:
    """A small model as others save it with timm, whose images were normalised by channel."""
    seen = {"mean": MEAN, "std": STD, "input_size": (3, 32, 32), "crop_pct": 0.8}
    model = made(classes=classes, **SMALL, pretrained_cfg_overlay=seen)
    timm.models.save_for_hf(model, folder, model_args=SMALL, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TaskConfig:
    return task_in(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of timm. Not to be written to."""
    return foreign(tmp_path_factory.mktemp("foreign") / "model")


def pixels(size: int) -> Tensor:
    return torch.randint(0, 256, (2, size, size, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def normalised(images: Tensor, mean: Any, std: Any) -> Tensor:
    whole = images.permute(0, 3, 1, 2).float() / 255
    return (whole - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def probe_config(model: Path, task: TaskConfig, out: Path, **changes: Any) -> ProbeConfig:
    plain = {"epochs": 3, "train_batch": 8, "workers": 0, "device": "cpu", "features": out.parent / "features"}
    return ProbeConfig(model, task, out, **(plain | changes))


def test_a_folder_of_timm_computes_its_features_from_its_own_pixels(folder: Path) -> None:
    opened = open_pretrained(folder)
    assert (opened.preprocessing.image_size, opened.preprocessing.crop) == (32, 0.8)
    assert (opened.preprocessing.mean, opened.preprocessing.std) == (MEAN, STD)
    assert opened.architecture == "vit_tiny_patch16_224"
    assert opened.arguments.items() >= SMALL.items()
    assert "num_classes" not in opened.arguments
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        wanted = model.forward_head(model.forward_features(normalised(pixels(32), MEAN, STD)), pre_logits=True)
        torch.testing.assert_close(opened.embed(pixels(32)), wanted, rtol=1e-4, atol=1e-5)


def test_a_model_without_a_classifier_is_taken_too(tmp_path: Path, task: TaskConfig) -> None:
    opened = open_pretrained(foreign(tmp_path / "headless", classes=0))
    assert opened.classifier.in_features == 16
    again = open_pretrained(tmp_path / "headless")
    assert opened.fingerprint == again.fingerprint
    assert finetune(finetune_config(tmp_path / "headless", task, tmp_path / "run")) == 0


def test_other_sizes_and_other_pixels_have_another_fingerprint(folder: Path, tmp_path: Path) -> None:
    opened = open_pretrained(folder)
    assert open_pretrained(folder, image_size=64).fingerprint != opened.fingerprint
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["pretrained_cfg"]["mean"] = [0.5, 0.5, 0.5]
    (copy / "config.json").write_text(json.dumps(config))
    assert open_pretrained(copy).fingerprint != opened.fingerprint
    assert open_pretrained(copy).preprocessing.mean == 0.5


@pytest.mark.parametrize("name", ["test_vit", "test_resnet.r160_in1k", "hf-hub:timm/test_convnext.r160_in1k"])
def test_a_name_of_timm_is_probed(name: str, task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = name.rpartition("/")[2].partition(".")[0]
    model = made(architecture, classes=1000)
    cached(tmp_path / "hub", monkeypatch, model, f"timm/{architecture}.r160_in1k")
    probe(probe_config(Path(name), task, tmp_path / "out"))
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["model"] == name
    assert [record["method"] for record in found["records"]] == ["probe", "knn"]
    opened = open_pretrained(Path(name))
    assert opened.preprocessing.image_size == 160
    weights = opened.model.state_dict()
    assert all(torch.equal(weights[part], tensor) for part, tensor in model.state_dict().items())


def test_a_model_of_others_is_fine_tuned_to_a_folder_that_timm_loads(
    folder: Path, task: TaskConfig, tmp_path: Path
) -> None:
    assert finetune(finetune_config(folder, task, tmp_path / "run")) == 0
    assert results(tmp_path / "run")["model"] == str(folder)
    tuned = timm.create_model(f"local-dir:{tmp_path}/run/model", pretrained=True)
    assert tuple(tuned.pretrained_cfg["mean"]) == MEAN
    assert tuned.get_classifier().out_features == 3
    # The tuned model is one of others again.
    assert open_pretrained(tmp_path / "run" / "model").preprocessing.std == STD


def test_a_suite_measures_a_model_of_others(folder: Path, task: TaskConfig, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.toml"
    tasks.write_text(
        f'[[task]]\nname = "squares"\ntrain = "{task.train}"\ntest = "{task.test}"\nmethods = ["knn", "probe"]\n'
        'inits = ["random"]\npercents = [100]\nseeds = [0]\n[task.probe]\nepochs = 2\n'
    )
    config = TransferConfig(folder, tasks, tmp_path / "suite", cache=tmp_path / "cache", workers=0, device="cpu")
    transfer(config)
    records = json.loads((tmp_path / "suite" / "results.json").read_text())["records"]
    assert sorted(record["method"] for record in records) == ["knn", "probe"]
    tasks.write_text(tasks.read_text().replace('"random"', '"transfer"'))
    with pytest.raises(MismatchError, match=NO_ROWS):
        transfer(replace(config, out=tmp_path / "other"))


def test_what_needs_rows_of_synsets_refuses_a_model_of_others(folder: Path, task: TaskConfig, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=NO_ROWS):
        zero_shot(ZeroShotConfig(folder, tmp_path / "out", task=task, device="cpu", workers=0))
    with pytest.raises(MismatchError, match=NO_ROWS):
        probe(probe_config(folder, task, tmp_path / "out", init="transfer"))
    with pytest.raises(MismatchError, match=NO_ROWS):
        finetune(finetune_config(folder, task, tmp_path / "run", init="transfer"))
    assert not (tmp_path / "features").exists()


def test_an_architecture_that_timm_removed_is_named(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"architecture": "vit_tiny_patch16_244"}))
    with pytest.raises(
        FormatError, match=r"config\.json: found the architecture vit_tiny_patch16_244, which timm"
    ) as raised:
        open_pretrained(copy)
    assert "The nearest name is vit_tiny_patch16_224." in str(raised.value)


@pytest.mark.parametrize(
    ("seen", "error", "found"),
    [
        ({"mean": [0.5]}, FormatError, "no preprocessing that can be read"),
        ({"std": [0, 0, 0]}, FormatError, "no preprocessing that can be read"),
        ({"mean": [float("nan")] * 3}, FormatError, "no preprocessing that can be read"),
        ({"crop_pct": 1.5}, FormatError, "no preprocessing that can be read"),
        ({"input_size": [3, 0, 0]}, FormatError, "no preprocessing that can be read"),
        ({"input_size": [3, 32, 64]}, InputError, "a model of images of 3 x 32 x 64"),
    ],
)
def test_a_model_whose_images_are_not_ours_is_named(
    tmp_path: Path, seen: dict[str, Any], error: type[CatlipError], found: str
) -> None:
    timm.models.save_for_hf(made("test_resnet"), tmp_path / "model", safe_serialization=True)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["pretrained_cfg"] |= seen
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(error) as raised:
        open_pretrained(tmp_path / "model")
    assert found in str(raised.value)


def test_a_model_of_grey_images_is_named_by_its_folder(tmp_path: Path) -> None:
    model = made("test_resnet", in_chans=1)
    timm.models.save_for_hf(model, tmp_path / "model", model_args={"in_chans": 1}, safe_serialization=True)
    with pytest.raises(InputError, match=f"^{tmp_path}/model/config.json: found a model of images of 1 x 160 x 160"):
        open_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"num_classes": 3}, "config.json has num_classes 3 and model_args of 5"),
        ({"num_classes": 7}, "config.json has num_classes 7 and model_args of 5"),
        (
            {"num_classes": "five"},
            "config.json: found num_classes 'five'; wanted a whole number, 0 without a classifier",
        ),
        ({"num_classes": -3}, "config.json: found num_classes '-3'; wanted a whole number"),
        ({"num_classes": True}, "config.json: found num_classes 'True'; wanted a whole number"),
        ({"num_classes": ...}, "config.json: found no num_classes; wanted a whole number"),
        ({"model_args": [1]}, "config.json: found model_args '[1]'; wanted an object of arguments"),
        ({"model_args": None}, "config.json: found model_args 'None'; wanted an object of arguments"),
        ({"model_args": {"nonsense": 1}}, "unexpected keyword argument 'nonsense'"),
        ({"architecture": "resnet18"}, "unexpected keyword argument"),
        ({"architecture": "resnet18", "model_args": {"num_classes": 5}}, "no model that can be loaded ("),
        ({"architecture": None}, "config.json: found architecture 'None'; wanted timm's name of an architecture"),
        ({"architecture": 5}, "config.json: found architecture '5'; wanted timm's name of an architecture"),
        ({"architecture": ...}, "config.json: found no architecture; wanted timm's name of an architecture"),
        (
            {"pretrained_cfg": ...},
            "config.json: found no pretrained_cfg; wanted an object with input_size, mean, std, crop_pct. Copy the "
            "folder again, whole, or write it with timm.models.save_for_hf.",
        ),
        ({"pretrained_cfg": [1]}, "config.json: found pretrained_cfg '[1]'; wanted an object with input_size"),
        ({"pretrained_cfg": None}, "config.json: found pretrained_cfg 'None'; wanted an object with input_size"),
        ({"pretrained_cfg": {}}, "config.json: found pretrained_cfg without input_size; wanted an object with"),
    ],
)
def test_a_configuration_of_other_weights_is_named(
    folder: Path, tmp_path: Path, change: dict[str, Any], found: str
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    # ... is a member that is not there.
    changed = {name: value for name, value in {**config, **change}.items() if value is not ...}
    (copy / "config.json").write_text(json.dumps(changed))
    with pytest.raises(FormatError) as raised:
        open_pretrained(copy)
    assert found in str(raised.value)


def test_the_members_of_timm_s_first_folders_are_its_description(tmp_path: Path) -> None:
    timm.models.save_for_hf(made("test_resnet"), tmp_path / "model", safe_serialization=True)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    first = {**config["pretrained_cfg"], "architecture": "test_resnet", "num_classes": 5}
    (tmp_path / "model" / "config.json").write_text(json.dumps(first))
    opened = open_pretrained(tmp_path / "model")
    assert (opened.preprocessing.image_size, opened.preprocessing.mean) == (160, 0.5)


def test_weights_whose_names_have_a_prefix_are_named_with_the_way_to_strip_it(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    weights = load_file(copy / "model.safetensors")
    save_file({f"model.backbone.{name}": tensor for name, tensor in weights.items()}, copy / "model.safetensors")
    with pytest.raises(FormatError, match=r"model\.backbone\.\S+ and \d+ others, which the model lacks") as raised:
        open_pretrained(copy)
    assert "All of their names begin with model.backbone., which timm's names lack." in str(raised.value)
    strip = str(raised.value).partition("python -c '")[2].partition("'")[0]
    subprocess.run([sys.executable, "-c", strip, "model.safetensors", "new.safetensors"], cwd=copy, check=True)
    (copy / "new.safetensors").rename(copy / "model.safetensors")
    assert open_pretrained(copy).fingerprint == open_pretrained(folder).fingerprint


def test_weights_that_are_cut_or_missing_are_named_though_another_file_lies_beside_them(
    folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    weights = copy / "model.safetensors"
    shutil.copy(weights, copy / "other.safetensors")
    for content in (weights.read_bytes()[:2000], b""):
        weights.write_bytes(content)
        with pytest.raises(FormatError, match=r"copy: found no model that can be loaded \(Error while deserializing"):
            open_pretrained(copy)
    torch.save(made(**SMALL).state_dict(), weights)
    with pytest.raises(InputError, match=r"model\.safetensors: found a pickle"):
        open_pretrained(copy)
    weights.unlink()
    with pytest.raises(FormatError, match=r"\(no model\.safetensors; timm would take another file"):
        open_pretrained(copy)


def test_a_folder_with_a_pickle_alone_and_a_name_of_nothing_are_refused(tmp_path: Path) -> None:
    timm.models.save_for_hf(made(**SMALL), tmp_path / "pickled", model_args=SMALL, safe_serialization=False)
    with pytest.raises(InputError, match=r"pytorch_model\.bin: found a pickle"):
        open_pretrained(tmp_path / "pickled")
    with pytest.raises(InputError, match=r"vit_tiny_patch16_224\.no_such_tag: found no file or folder, and no name of"):
        open_pretrained(Path("vit_tiny_patch16_224.no_such_tag"))
    with pytest.raises(InputError, match="found no such folder; wanted a run directory, a folder that export"):
        open_pretrained(tmp_path / "nothing")


TOWERS: dict[str, dict[str, Any]] = {
    "plain": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "trunk": {"timm_model_name": "test_convnext", "timm_pool": "avg", "timm_proj": "linear", "image_size": 160},
    "perceptron": {"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "mlp", "image_size": 32},
    "average": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16, "pool_type": "avg"},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 32, "patch_size": None},
}


def tower(name: str, folder: Path, *, quick: bool = False) -> tuple[Any, Path]:
    """Build a small model of open_clip under a name that it then knows, and save its weights; return both."""
    import open_clip

    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    about = {"embed_dim": 32, "vision_cfg": TOWERS[name], "text_cfg": text, "quick_gelu": quick}
    known = f"small-{name}{'-quick' * quick}"
    (folder / f"{known}.json").write_text(json.dumps(about))
    open_clip.add_model_config(folder / f"{known}.json")
    torch.manual_seed(0)
    model = open_clip.create_model(known).eval()
    save_file({part: tensor.contiguous() for part, tensor in model.state_dict().items()}, folder / "clip.safetensors")
    return model, Path(f"open_clip:{known}::{folder}/clip.safetensors")


@OPEN_CLIP
@pytest.mark.parametrize(
    ("name", "quick", "architecture"),
    [
        ("plain", False, "vit_base_patch16_clip_224"),
        ("plain", True, "vit_base_patch16_clip_quickgelu_224"),
        ("trunk", False, "test_convnext"),
        ("perceptron", False, "test_resnet"),
    ],
)
def test_a_tower_of_open_clip_is_a_model_of_timm_with_the_same_features(
    tmp_path: Path, name: str, quick: bool, architecture: str
) -> None:
    model, place = tower(name, tmp_path, quick=quick)
    opened = open_pretrained(place)
    assert opened.architecture == architecture
    assert opened.preprocessing.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    visual, images = model.visual, pixels(opened.preprocessing.image_size)
    with torch.no_grad():
        seen = opened.embed(images)
        projected = visual.head(seen) if hasattr(visual, "trunk") else seen @ visual.proj
        wanted = model.encode_image(normalised(images, opened.preprocessing.mean, opened.preprocessing.std))
    torch.testing.assert_close(projected, wanted, rtol=1e-4, atol=1e-5)


@OPEN_CLIP
def test_a_tower_of_open_clip_is_probed_and_fine_tuned_and_is_a_start(task: TaskConfig, tmp_path: Path) -> None:
    model, place = tower("plain", tmp_path)
    probe(probe_config(place, task, tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "results.json").read_text())["model"] == str(place)
    assert finetune(finetune_config(place, task, tmp_path / "run")) == 0
    tuned = timm.create_model(f"local-dir:{tmp_path}/run/model", pretrained=True)
    assert (len(tuned.blocks), tuned.num_classes) == (2, 3)
    start = read_source(str(place))
    assert start.architecture == "vit_base_patch16_clip_224"
    assert torch.equal(start.tensors["norm.weight"], model.visual.ln_post.weight)


@OPEN_CLIP
@pytest.mark.parametrize(
    ("name", "found"),
    [("average", "found a tower that computes something else than timm's model"), ("resnet", "found a ModifiedResNet")],
)
def test_a_tower_that_no_model_of_timm_computes_is_refused(tmp_path: Path, name: str, found: str) -> None:
    _, place = tower(name, tmp_path)
    with pytest.raises(InputError, match=found):
        open_pretrained(place)


@OPEN_CLIP
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("open_clip:ViT-B-32", "found no weights; wanted open_clip:ARCHITECTURE::WEIGHTS"),
        ("open_clip:ViT-B-32::no_such_tag", "found the weights no_such_tag; wanted"),
        ("open_clip:ViT-X-99::openai", "found the architecture ViT-X-99, which open_clip"),
    ],
)
def test_a_name_that_open_clip_does_not_know_is_named(name: str, found: str) -> None:
    with pytest.raises(InputError, match=found):
        named_model(name)


def test_open_clip_is_asked_for_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CatlipError, match="found no package open_clip"):
        named_model("open_clip:ViT-B-32::openai")
