"""Models of others whose own classifier is not one linear layer of their features are measured by a new one.

Small variants of timm's families, with random weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from tests.finetuning import PowerCutError, cut_at, results, same_weights, task_in
from tests.finetuning import config as finetune_config
from trainer.config import OptimConfig
from trainer.dense.maps import FeatureMaps
from trainer.distributed import Rank
from trainer.model.added_classifier import give_linear_classifier
from trainer.model.backbone import classifier_name, logits
from trainer.optim.optimiser import groups_of, matrices_of
from trainer.probe.measures import accuracies_of, outputs, ranks_of
from trainer.speed.flops import forward_flops
from trainer.transfer.config import ProbeConfig, TaskConfig
from trainer.transfer.finetune import finetune
from trainer.transfer.probing import probe_records
from trainer.transfer.task_training import eval_transform
from trainer.transfer.tasks.opening import open_task
from trainer.weights.pretrained import open_pretrained
from vocab.errors import InputError

HERE = Rank(0, 1, torch.device("cpu"))
DISTILLED: dict[str, Any] = {"img_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2}
# Architecture, size of images, arguments of timm; the width of features where the classifier is an added one.
MODELS: list[tuple[str, int, dict[str, Any], int | None]] = [
    # several classifiers
    ("deit_tiny_distilled_patch16_224", 32, DISTILLED, 16),
    ("levit_128s", 64, {"img_size": 64}, 384),
    ("efficientformer_l1", 224, {"depths": (1, 1, 1, 1), "embed_dims": (8, 16, 24, 32)}, 32),
    ("efficientformerv2_s0", 64, {"img_size": 64}, 176),
    ("swiftformer_xs", 64, {}, 220),
    ("crossvit_tiny_240", 240, {}, 288),
    ("efficientvim_m1", 64, {}, 960),
    ("repvit_m0_9", 64, {"embed_dim": (8, 16, 24, 32), "depth": (1, 1, 1, 1)}, 32),
    # a perceptron, a convolution, a sequence of layers
    ("caformer_s18", 64, {}, 512),
    ("resnetv2_50", 64, {"layers": (1, 1, 1, 1), "channels": (32, 32, 64, 64)}, 64),
    ("dla46_c", 64, {}, 256),
    ("dpn48b", 64, {}, 832),
    ("cpubone_nano", 64, {}, 1600),
    ("iformer_t", 64, {}, 256),
    # layers between features and classifier
    ("efficientvit_m0", 64, {"img_size": 64}, 192),
    # one linear layer of the features
    ("mobilenetv4_conv_small_050", 64, {}, None),
    ("mobilenetv4_hybrid_medium", 64, {}, None),
    ("xcit_nano_12_p16_224", 32, {"img_size": 32}, None),
    ("mixer_s32_224", 64, {"img_size": 64}, None),
    ("fastvit_t8", 64, {}, None),
    ("nf_regnet_b0", 64, {}, None),
]


def saved(folder: Path, name: str, size: int, arguments: dict[str, Any], *, classes: int = 5) -> tuple[Path, nn.Module]:
    """A model as others save it with timm, and the model."""
    torch.manual_seed(0)
    seen = {"input_size": (3, size, size), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    model = timm.create_model(name, num_classes=classes, pretrained_cfg_overlay=seen, **arguments).eval()
    timm.models.save_for_hf(model, folder, model_args=arguments, safe_serialization=True)
    return folder, model


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TaskConfig:
    return task_in(tmp_path_factory.mktemp("task"))


@pytest.mark.parametrize(("name", "size", "arguments", "width"), MODELS, ids=[each[0] for each in MODELS])
def test_a_family_is_opened_with_timm_s_features_and_a_linear_classifier_of_them(
    tmp_path: Path, name: str, size: int, arguments: dict[str, Any], width: int | None
) -> None:
    folder, model = saved(tmp_path / "model", name, size, arguments)
    opened = open_pretrained(folder)
    pixels = torch.randint(0, 256, (2, size, size, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        wanted = model.forward_head(model.forward_features(images), pre_logits=True)
        torch.testing.assert_close(opened.embed(pixels), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits(opened.model, images), opened.classifier(wanted), rtol=1e-4, atol=1e-5)
    assert (classifier_name(opened.model) == "added_classifier") == (width is not None)
    assert opened.classifier.in_features == wanted.shape[1] == (width or wanted.shape[1])
    # A fine-tuned model is written as timm's without classes: timm must know its weights by the same names.
    if width is not None:
        headless = timm.create_model(name, num_classes=0, **arguments).state_dict().keys()
        assert headless | {"added_classifier.weight", "added_classifier.bias"} == opened.model.state_dict().keys()


@pytest.mark.parametrize("classes", [0, 5])
def test_a_model_with_several_classifiers_or_none_is_probed(task: TaskConfig, tmp_path: Path, classes: int) -> None:
    folder, _ = saved(tmp_path / "model", "deit_tiny_distilled_patch16_224", 32, DISTILLED, classes=classes)
    config = ProbeConfig(folder, task, tmp_path / "probe", epochs=2, train_batch=8, workers=0, device="cpu")
    assert [record.method for record in probe_records(config, HERE, task="squares")] == ["probe", "knn"]


@pytest.mark.parametrize("number", [0, 2, 7, 9], ids=["deit", "efficientformer", "repvit", "resnetv2"])
def test_such_a_model_is_fine_tuned_to_features_for_timm_and_a_classifier_of_them(
    task: TaskConfig, tmp_path: Path, number: int
) -> None:
    name, size, arguments, width = MODELS[number]
    folder, _ = saved(tmp_path / "model", name, size, arguments)
    run = tmp_path / "run"
    config = finetune_config(folder, task, run, layer_decay=0.7, mixup=0.4)
    assert finetune(config) == 0
    found = results(run)
    assert found["notes"][0] == (
        f"{name}'s own classifier is not one linear layer of its features: a linear classifier took its place"
    )
    tuned = timm.create_model(f"local-dir:{run}/model", pretrained=True).eval()
    head = load_file(run / "model" / "classifier.safetensors")
    assert {part: list(tensor.shape) for part, tensor in head.items()} == {"weight": [3, width], "bias": [3]}
    assert tuned.pretrained_cfg["label_names"] == ["car", "cat", "dog"]
    assert tuned.num_classes == 0
    # The two files are the model that was measured.
    images = open_task(task).test

    def ranks(pixels: torch.Tensor, numbers: Any) -> torch.Tensor:
        seen = tuned(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return ranks_of(seen @ head["weight"].T + head["bias"], torch.from_numpy(images.classes[numbers]))

    crop = open_pretrained(run / "model").preprocessing.crop
    measured = outputs(ranks, images, HERE, transform=eval_transform(config, HERE, size=size, crop=crop))
    assert measured is not None
    assert accuracies_of(measured.values, images).top1 == found["top1"]


def test_a_fine_tuned_model_of_others_is_a_model_of_others_again(task: TaskConfig, tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "model", "deit_tiny_distilled_patch16_224", 32, DISTILLED)
    assert finetune(finetune_config(folder, task, tmp_path / "run")) == 0
    again = open_pretrained(tmp_path / "run" / "model")
    assert again.classifier.in_features == 16
    assert again.fingerprint != open_pretrained(folder).fingerprint
    # Another number of classes is timm's own heads, new, on the tuned features.
    assert timm.create_model(f"local-dir:{tmp_path}/run/model", pretrained=True, num_classes=7).head.out_features == 7


def test_a_run_that_was_cut_goes_on_with_the_added_classifier(
    task: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = saved(tmp_path / "model", "deit_tiny_distilled_patch16_224", 32, DISTILLED)
    whole, cut = (finetune_config(folder, task, tmp_path / name) for name in ("whole", "cut"))
    assert finetune(whole) == 0
    with monkeypatch.context() as patch:
        cut_at(patch, 4)
        with pytest.raises(PowerCutError):
            finetune(cut)
    assert finetune(cut) == 0
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    one, other = (load_file(run.out / "model" / "classifier.safetensors") for run in (whole, cut))
    assert torch.equal(one["weight"], other["weight"])
    assert torch.equal(one["bias"], other["bias"])


@pytest.mark.parametrize("number", [0, 2, 7, 9], ids=["deit", "efficientformer", "repvit", "resnetv2"])
def test_an_added_classifier_is_the_last_layer_and_its_weights_decay(tmp_path: Path, number: int) -> None:
    folder, _ = saved(tmp_path / "model", *MODELS[number][:3])
    model = open_pretrained(folder).model
    groups = groups_of(model, OptimConfig(layer_decay=0.5, weight_decay=0.1))
    found = {name: (group.lr_scale, group.weight_decay) for group in groups for name in group.parameters}
    assert found.keys() == dict(model.named_parameters()).keys()
    assert found["added_classifier.weight"] == (1.0, 0.1)
    assert found["added_classifier.bias"] == (1.0, 0.0)
    assert min(scale for scale, _ in found.values()) < 0.5
    assert "added_classifier.weight" not in matrices_of(model)


def test_the_work_of_an_added_classifier_is_counted(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "model", "deit_tiny_distilled_patch16_224", 32, DISTILLED)
    model = open_pretrained(folder).model.to("meta")
    one = forward_flops(model, size=32)
    model.added_classifier = nn.Linear(16, 101, device="meta")
    assert forward_flops(model, size=32) - one == 2 * 16 * 100


def test_maps_of_such_a_model_leave_its_classifier_out(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "model", "deit_tiny_distilled_patch16_224", 32, DISTILLED)
    maps = FeatureMaps(open_pretrained(folder).model, size=32)
    assert [list(each.shape) for each in maps(torch.zeros(1, 3, 32, 32))] == [[1, 16, 2, 2]]
    assert not [name for name, _ in maps.named_parameters() if "classifier" in name or "head" in name]


def test_a_model_that_gives_no_vector_is_named(tmp_path: Path) -> None:
    arguments = {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2, "class_token": False, "global_pool": ""}
    folder, _ = saved(tmp_path / "model", "vit_tiny_patch16_224", 32, arguments)
    with pytest.raises(InputError) as raised:
        open_pretrained(folder)
    assert str(raised.value).startswith(
        f"{folder}: found vit_tiny_patch16_224, whose features are [4, 16] for each image; wanted a model that gives "
        "one vector of features for each image. Choose another one, such as vit_base_patch16_224,"
    )
    with torch.device("meta"):
        encoder = timm.create_model("deepseek_vit_412m_enc")
    with pytest.raises(InputError, match=r"^it: found deepseek_vit_412m_enc, which has no head; wanted"):
        give_linear_classifier(encoder, 224, named="it")
