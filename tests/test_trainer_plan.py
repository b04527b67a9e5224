"""`python -m trainer plan`: what a run will cost, before it is launched."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm

from tests.conftest import ROOT
from tests.synsets import counted_vocabulary
from trainer.__main__ import RECIPES, main, read
from trainer.config import DataConfig, ModelConfig, OptimConfig, PretrainConfig, RunConfig
from trainer.model.backbone import on_meta
from trainer.speed.flops import training_flops
from trainer.speed.plan import plan, reckon
from trainer.verb_config import PlanConfig
from vocab.errors import CatlipError, InputError

SMALL = ModelConfig(model="vit_tiny_patch16_224", patch_size=16, embed_dim=64, depth=2, num_heads=2)


def read_plan(words: list[str]) -> PlanConfig:
    """Options of `python -m trainer plan`."""
    found = read(["plan", *words])
    assert isinstance(found, PlanConfig)
    return found


def options(*, model: ModelConfig = SMALL, steps: int = 100, run: RunConfig | None = None, **data: Any) -> PlanConfig:
    return PlanConfig(
        pretrain=PretrainConfig(
            data=DataConfig(**{"batch_size": 1024, "image_size": 64} | data),
            model=model,
            optim=OptimConfig(steps=steps),
            run=run or RunConfig(),
        ),
        gpus=4,
        classes=100,
    )


def work(size: int, share: float = 1.0) -> int:
    return training_flops(on_meta(SMALL, classes=100, image_size=64), size=size, share=share)


def test_the_last_line_is_json_and_the_others_are_for_people() -> None:
    *lines, last = plan(replace(options(), gpu="H200", mfu=0.5, price=2.0))
    numbers = json.loads(last)
    flops = 100 * 1024 * work(64)
    hours = flops / (0.5 * 989e12 * 4) / 3600
    assert numbers["flop"] == flops
    assert numbers["images"] == 102_400
    assert numbers["classes"] == 100
    assert numbers["part"] == 256
    assert numbers["memory_limit_gb"] == 141
    assert (numbers["fits"], numbers["accumulate"]) == (True, 1)
    assert numbers["hours"] == round(hours, 2)
    assert numbers["images_per_second"] == pytest.approx(102_400 / hours / 3600, rel=1e-3)
    assert sum(numbers["memory"].values()) == pytest.approx(numbers["memory_gb"], abs=0.02)
    text = "\n".join(lines)
    assert lines[0] == f"fits: {numbers['memory_gb']:.2f} GB of 141 on each H200"
    assert "at 50% of 989 TFLOP/s" in text


PLANNED = {
    "vit_base_patch16_rope_reg1_gap_256": "rotary position embeddings, in buffers",
    "eva02_tiny_patch14_224": "the same, and SwiGLU",
    "vit_small_patch16_dinov3": "the same, of another class",
    "beit_base_patch16_224": "one size of images",
    "cait_xxs24_224": "a class token that is handed to modules",
    "naflexvit_base_patch16_gap": "sequences of any length",
    "convit_tiny": "no checkpointing",
    "twins_svt_small": "stages of blocks, no checkpointing",
    "visformer_tiny": "stages of blocks, in convolutions too",
    "pit_ti_224": "no blocks that timm tells apart",
    "resnet18": "convolutions and batch norms",
    "convnext_atto": "convolutions and layer norms",
    "swin_tiny_patch4_window7_224": "a hierarchy of windows",
    "coat_lite_tiny": "neither",
    "qwen3_vit_88m": "an encoder inside of the classifier",
}
"""architectures that can be trained, and what sets each apart"""


@pytest.mark.parametrize("name", PLANNED)
def test_what_can_be_trained_can_be_planned(name: str) -> None:
    if name not in timm.list_models():
        pytest.skip(f"this timm has no {name}")
    depth = None if name.startswith(("twins", "visformer", "coat", "qwen3", "pit", "resnet", "convnext", "swin")) else 2
    # The images of 112 pixels are small, for speed; some architectures are of one size.
    size = (
        64
        if name.startswith("qwen3")
        else 224
        if name.startswith(("convit", "twins", "visformer", "pit", "swin"))
        else 112
    )
    found = reckon(options(model=ModelConfig(model=name, depth=depth), image_size=size))
    assert found.memory.image["activations"] > 0
    assert found.memory.image["a block's backward pass"] > 0
    assert found.flops > 0


def test_a_model_without_blocks_is_gathered_whole() -> None:
    model = ModelConfig(model="pit_ti_224")
    alone, among = (
        reckon(options(model=model, image_size=224, run=RunConfig(parallel=parallel))).memory.fixed
        for parallel in ("ddp", "fsdp")
    )
    assert among["weights"] == alone["weights"] // 4
    assert among["exchange"] == 2 * alone["weights"]


@pytest.mark.parametrize(
    ("run", "optim", "message"),
    [
        (
            RunConfig(activation_checkpointing=True),
            OptimConfig(),
            "--activation-checkpointing: found CoaT, which",
        ),
        (RunConfig(), OptimConfig(optimiser="muon"), "--optimiser: found muon for a CSATv2 without matrices"),
        (RunConfig(), OptimConfig(layer_decay=0.9), "--layer-decay: found 0.9 for a CSATv2 without layers"),
    ],
)
def test_what_a_run_refuses_is_not_planned(run: RunConfig, optim: OptimConfig, message: str) -> None:
    name = "coat_lite_tiny" if run.activation_checkpointing else "csatv2"
    planned = options(model=ModelConfig(model=name), run=run)
    with pytest.raises(InputError, match=message):
        reckon(replace(planned, pretrain=replace(planned.pretrain, optim=replace(optim, steps=100, warmup_steps=0))))


def test_a_batch_too_small_for_batch_norms_is_not_planned() -> None:
    with pytest.raises(InputError, match="--batch-size: found 1 image at a time for a model with batch norms"):
        reckon(options(model=ModelConfig(model="test_resnet"), batch_size=4))


def test_a_model_of_one_size_is_not_planned_for_others() -> None:
    with pytest.raises(InputError, match=r"--model: found beit_base_patch16_224 with .* which timm cannot build"):
        reckon(options(model=ModelConfig(model="beit_base_patch16_224"), resolution="variable"))


def test_steps_are_counted_in_the_sizes_and_shares_that_they_have() -> None:
    model = replace(SMALL, patch_keep=0.5, full_patches_share=0.1)
    scheduled = options(model=model, resolution="schedule", resolution_schedule="0:32,0.5:64")
    found = reckon(scheduled)
    expected = 1024 * (50 * work(32, 0.5) + 40 * work(64, 0.5) + 10 * work(64))
    assert found.flops == expected
    assert set(found.flops_per_image) == {(32, 0.5), (64, 0.5), (64, 1.0)}
    assert (found.heaviest[0].size, found.heaviest[1]) == (64, 1.0)


def test_a_variable_step_has_more_images_where_they_are_small() -> None:
    found = reckon(options(resolution="variable", resolution_sizes=(32, 96, 32)))
    assert {size for size, _ in found.flops_per_image} == {32, 64, 96}
    assert found.images > 100 * 1024
    least, most = min(found.flops_per_image.values()), max(found.flops_per_image.values())
    assert least < found.flops / found.images < most


def test_what_does_not_fit_says_in_how_many_parts_it_would() -> None:
    tight = replace(options(), gpu_memory=2.025)
    found = reckon(tight)
    assert not found.fits
    most = found.memory.most_images(2_025_000_000)
    assert found.accumulate is not None
    assert 256 // found.accumulate <= most < 256 // (found.accumulate // 2)
    said, hopeless = plan(tight)[0], plan(replace(tight, gpu_memory=2.0))[0]
    assert said.startswith("does not fit: ")
    assert said.endswith(f" GB of 2 on each H100; fits with --accumulate {found.accumulate}")
    assert "nor in any number of parts; try --parallel fsdp" in hopeless


@pytest.fixture
def _memory_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large models' work takes long to count, for every size and share, and says nothing about memory."""
    monkeypatch.setattr("trainer.speed.plan.training_flops", lambda *_, **__: 1)


@pytest.mark.usefixtures("_memory_alone")
@pytest.mark.parametrize("name", [name for name in RECIPES if name != "sample"])
def test_the_command_that_a_recipe_gives_fits_on_gpus_of_80_gb(name: str) -> None:
    text = " ".join((RECIPES[name].__doc__ or "").split())
    command = text[text.index("torchrun ") : text.index(" Cost ")]
    per = {option: int(number) for option, number in re.findall(r"--(nnodes|nproc-per-node|accumulate) (\d+)", command)}
    gpus = per.get("nnodes", 1) * per["nproc-per-node"]
    # All sizes come up in far fewer steps than the run has.
    words = [name, "--steps", "500", "--gpus", f"{gpus}", "--accumulate", f"{per.get('accumulate', 1)}"]
    planned = read_plan([*words, "--gpu", "A100"])
    assert reckon(planned).fits, plan(planned)[0]


@pytest.mark.usefixtures("_memory_alone")
@pytest.mark.parametrize("page", ["README.md", "docs/training.md"])
def test_the_plans_of_the_documentation_fit(page: str) -> None:
    commands = re.findall(r"python -m trainer plan (vit-[^#\n]+)", (ROOT / page).read_text())
    assert commands
    for command in commands:
        assert plan(read_plan([*command.split(), "--steps", "500"]))[0].startswith("fits: "), command


def test_a_vocabulary_gives_its_classes(tmp_path: Path) -> None:
    counted_vocabulary(5, 3).save(tmp_path / "vocabulary.parquet")
    told = replace(options(vocabulary=str(tmp_path / "vocabulary.parquet")), classes=None)
    assert reckon(told).classes == 2
    assumed = replace(options(), classes=None)
    assert reckon(assumed).classes == 24_320
    assert (
        " 24,320 classes assumed (as in Apple's weights; --vocabulary or --classes gives yours): " in plan(assumed)[1]
    )
    assert not any("assumed" in line for given in (told, options()) for line in plan(given))
    with pytest.raises(CatlipError):
        reckon(replace(options(vocabulary=str(tmp_path / "none.parquet")), classes=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpu": "abacus"}, "--gpu: found abacus; wanted a GPU of our table"),
        ({"gpus": 0}, "--gpus: found 0; wanted more than 0"),
        ({"gpus": 3}, "--batch-size: found 1024; wanted a multiple of 3"),
        ({"mfu": 1.5}, "--mfu: found 1.5; wanted more than 0, and at most 1"),
        ({"mfu": float("nan")}, "--mfu: found nan"),
        ({"classes": 0}, "--classes: found 0"),
        ({"gpu_memory": -1.0}, "--gpu-memory: found -1.0"),
        ({"price": -1.0}, "--price: found -1.0"),
    ],
)
def test_an_option_that_cannot_work_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(replace(options(), **changes))


def test_a_gpu_of_no_table_can_be_described() -> None:
    found = reckon(replace(options(run=RunConfig(peak_tflops=10.0)), gpu="abacus", gpu_memory=12.0))
    assert (found.peak, found.limit) == (10e12, 12e9)


def test_the_command_plans_a_recipe_without_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["trainer", "plan", "sample", *"--gpu A100 --gpus 2 --classes 168".split()])
    main()
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1])["images"] == 89_600
    assert said.err == "computing the memory, the operations and the hours of the run\n"
