"""Dense tasks on real pictures: what segment and detect learn, and what a pre-training is worth to segmentation.

    python benchmarks/dense.py [--quick] [--pretrained RUN RUN] [--out out/dense] [--data DIR] [--skip PART ...]

In: images/coco_dense of the folder with real data (CATLIP_DATA), and images/tiny_imagenet for the pre-training. Out: in
--out runs and dense.json; last, one JSON object.

    segment_overfit_miou    the first 16 panoptic training images, everything trained, tested on the same
    miou_difference         counts of pixels against a loop over pixels
    linear_gain_token, _avg frozen linear segmentation: a pre-trained model over a random one, points of mIoU, with the
                            spread over seeds; miou_by_block says what each choice of blocks gives
    transfer_init_gain      linear heads on 10 images: Transfer Init over random init, points of mIoU
    zero_shot_miou          without training, over the classes that can be scored; zero_shot_chance beside it
    detect_overfit_ap50, detect_overfit_mask_ap50
                            the first 16 images with one to five large objects, tested on the same
    map_difference          average precision of made-up detections beside pycocotools, all 12 numbers, boxes and masks
    step_ratio              a detection step of ours over torchvision's maskrcnn_resnet50_fpn
    resume_equal            runs of both verbs that were cut and went on: weights equal, bit for bit

The parts lie in `dense_study/`. Two models are pre-trained, as in `transfer.py` but shorter: one with a class token,
one that averages its patches.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # as a script or with -m, the project's modules are found
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Literal

import tyro

from benchmarks.dense_study import detection
from benchmarks.dense_study.images import PanopticImages
from benchmarks.dense_study.models import random_transformer
from benchmarks.dense_study.segmenting import (
    SegmentSizes,
    miou_difference,
    overfit,
    segment_resume_equal,
    worth_of_pretraining,
    worth_of_transfer_init,
    zero_shot,
)
from benchmarks.measuring.setting import DATA, machine, say
from benchmarks.transfer_study.corpus import write_corpus
from benchmarks.transfer_study.pretraining import label, pretrain
from benchmarks.transfer_study.report import write_json
from trainer.distributed import Rank, join_processes
from vocab.errors import InputError, OutputExistsError, run_cli

Part = Literal["overfit", "linear", "transfer", "resume", "detect"]
POOLINGS = ("token", "avg")
PRETRAINING = ("--steps", "1500", "--warmup-steps", "150")
QUICK_PRETRAINING = ("--steps", "20", "--warmup-steps", "2", "--batch-size", "16")
SHAPE = {"patch_size": 8, "embed_dim": 128, "depth": 4, "num_heads": 2}
"""of the pre-trained model, as transfer_study/recipe.py has it"""
FULL = SegmentSizes(
    overfit_size=160, overfit_epochs=360, linear_size=64, linear_epochs=6, few_epochs=40, miou_images=200
)
QUICK = SegmentSizes(overfit_size=32, overfit_epochs=1, linear_size=32, linear_epochs=1, few_epochs=1, miou_images=5)


@dataclass(frozen=True)
class DenseBenchmark:
    """Dense tasks on real pictures."""

    quick: bool = False
    """few steps, to see that everything works; its figures say nothing"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is one"""
    out: Path = Path("out/dense")
    """new folder for everything"""
    pretrained: tuple[Path, ...] = ()
    """runs that were pre-trained with a class token and with averaged patches, in this order (default: trained here)"""
    seeds: tuple[int, ...] = ()
    """seeds of heads and subsets; 0 1 2, for --quick 0"""
    skip: tuple[Part, ...] = ()
    """parts to leave out"""
    data: Path = DATA
    """folder with images/coco_dense and images/tiny_imagenet"""


def measure(options: DenseBenchmark, rank: Rank) -> dict[str, Any]:
    """Measure everything asked for; prints as it goes, returns the JSON object."""
    images = PanopticImages(options.data / "images" / "coco_dense" / "coco_panoptic")
    images.require()
    if options.out.exists():
        raise OutputExistsError(
            options.out, found="a folder", wanted="a new one", remedy="Choose another --out, or remove it."
        )
    options.out.mkdir(parents=True)
    sizes, seeds = QUICK if options.quick else FULL, options.seeds or ((0,) if options.quick else (0, 1, 2))
    result: dict[str, Any] = {"miou_difference": miou_difference(sizes.miou_images)}
    if "overfit" not in options.skip:
        result |= overfit(images, sizes, rank, out=options.out / "overfit")
    if "resume" not in options.skip:
        task = images.first_on_both_sides(8, options.out / "few")
        result["resume_equal"] = segment_resume_equal(task, rank, out=options.out / "resume")
    if "detect" not in options.skip:
        result |= of_detection(options, resumed=result.get("resume_equal", True))
    if not {"linear", "transfer"} <= set(options.skip):
        runs = pretrained_runs(options, rank)
        if "linear" not in options.skip:
            random = random_transformer(options.out / "random", size=64, **SHAPE)
            every = {**runs, "random": random}
            found, _ = worth_of_pretraining(every, images, sizes, rank, out=options.out / "linear", seeds=seeds)
            result |= found
        if "transfer" not in options.skip:
            model = runs["avg"]
            result |= worth_of_transfer_init(model, images, sizes, rank, out=options.out / "transfer", seeds=seeds)
            result |= zero_shot(model, images, sizes, rank, out=options.out / "zero_shot")
    result |= {
        "quick": options.quick,
        "settings": asdict(sizes),
        "machine": f"{machine()}, {', '.join(f'{name} {version(name)}' for name in ('torch', 'timm'))}",
    }
    write_json(options.out / "dense.json", result)
    return result


def of_detection(options: DenseBenchmark, *, resumed: bool) -> dict[str, Any]:
    """Measure the verb detect. `resumed`: whether a segmentation run that went on had the weights of a whole one."""
    data, folder = options.data / "images" / "coco_dense" / "coco_instances", options.out / "detect"
    return {
        **detection.overfit(data, folder, quick=options.quick),
        "resume_equal": resumed and detection.resume_equal(folder),
        "map_difference": detection.map_difference(data, quick=options.quick),
        "step_ratio": detection.step_ratio(quick=options.quick),
    }


def pretrained_runs(options: DenseBenchmark, rank: Rank) -> dict[str, Path]:
    """Run directories by the pooling that they were pre-trained with; made here, or taken from --pretrained."""
    if options.pretrained:
        return dict(zip(POOLINGS, options.pretrained, strict=True))
    corpus = write_corpus(
        options.data, options.out / "pretraining", seen=10 if options.quick else 140, unseen=60, seed=0
    )
    made = label(corpus)
    runs = {}
    for pooling in POOLINGS:
        run = options.out / f"pretrained-{pooling}"
        chosen = QUICK_PRETRAINING if options.quick else PRETRAINING
        pretrain(corpus, made, device=rank.device.type, options=("--global-pool", pooling, *chosen), out=run)
        runs[pooling] = run
    return runs


def main() -> None:
    """Measure and print."""
    options = tyro.cli(DenseBenchmark)
    with join_processes(options.device) as rank:
        if rank.world > 1:
            raise InputError(
                "benchmarks/dense.py", found=f"{rank.world} processes", wanted="one", remedy="Start it alone."
            )
        say(json.dumps(measure(options, rank)))


if __name__ == "__main__":
    run_cli(main)
