"""What a run leaves to be looked at and used: its page at each evaluation; weights, numbers and card at the end.

In: averaged weights and an `Evaluation`. Out: page.html; model.safetensors (timm's names), results.json, README.md. Each
is written whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from safetensors.torch import save as serialize
from torch import Tensor

from trainer.config import PretrainConfig
from trainer.data.source import Source
from trainer.distributed import Place
from trainer.evaluation import Evaluation
from trainer.records import page
from trainer.records.card import card
from trainer.records.journal import Progress
from vocab.storage import write_whole


def write_page(config: PretrainConfig, held_out: Source, result: Evaluation, results: Mapping[str, Any]) -> None:
    """Write page.html of a run, finished or not."""
    page.write_page(config.run.out, config, held_out, result, results)


def write_results(
    config: PretrainConfig, weights: Mapping[str, Tensor], held_out: Source, results: Mapping[str, Any]
) -> str:
    """Write everything that a finished run leaves; what to tell whoever waits for it."""
    out = config.run.out
    with write_whole(out / "model.safetensors") as file:
        file.write(serialize({name: tensor.contiguous() for name, tensor in weights.items()}, {"format": "pt"}))
    with write_whole(out / "results.json") as file:
        file.write((json.dumps(results, indent=2) + "\n").encode())
    with write_whole(out / "README.md") as file:
        file.write(card(config, held_out.vocabulary, results).encode())
    scored = results["evaluation"]
    return (
        f"mean average precision {scored['macro']:.3f} (class frequencies alone {scored['baseline_macro']:.3f}) "
        f"on {scored['images']:,} held-out images\nopen {out / 'page.html'}"
    )


def numbers(
    config: PretrainConfig, place: Place, held_out: Source, result: Evaluation, progress: Progress, *, parameters: int
) -> dict[str, Any]:
    """What results.json holds."""
    return {
        "steps": progress.step,
        "of_steps": config.optim.steps,
        "images_seen": progress.images,
        "images_rolled_back": progress.rolled_back,
        "spikes": progress.spikes,
        "seconds": round(progress.seconds, 1),
        "parameters": parameters,
        "classes": len(held_out.vocabulary),
        "device": str(place.device),
        "processes": place.world,
        "evaluation": asdict(result.report),
        "training_account": progress.totals,
        "evaluation_account": result.account,
    }
