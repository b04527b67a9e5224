"""What a finished run leaves: the averaged weights, its numbers, its page.

In: a model's weights and an `Evaluation`. Out: model.safetensors (timm's names), results.json, page.html, each whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from safetensors.torch import save as serialize
from torch import nn

from trainer.config import PretrainConfig
from trainer.data.source import Source
from trainer.distributed import Place
from trainer.evaluation import Evaluation
from trainer.records.journal import Progress
from trainer.records.page import write_page
from vocab.storage import write_whole


def write_results(
    config: PretrainConfig, place: Place, model: nn.Module, held_out: Source, result: Evaluation, progress: Progress
) -> str:
    """Write everything; what to tell whoever waits for the run."""
    out = config.run.out
    state = model.state_dict()
    with write_whole(out / "model.safetensors") as file:
        file.write(serialize({name: tensor.cpu().contiguous() for name, tensor in state.items()}, {"format": "pt"}))
    results: Mapping[str, Any] = {
        "steps": progress.step,
        "images_seen": progress.images,
        "seconds": round(progress.seconds, 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "classes": len(held_out.vocabulary),
        "device": str(place.device),
        "processes": place.world,
        "evaluation": asdict(result.report),
        "training_account": progress.totals,
        "evaluation_account": result.account,
    }
    with write_whole(out / "results.json") as file:
        file.write((json.dumps(results, indent=2) + "\n").encode())
    write_page(out, config, held_out, result, results)
    scored = result.report
    return (
        f"mean average precision {scored.macro:.3f} (class frequencies alone {scored.baseline_macro:.3f}) "
        f"on {scored.images:,} held-out images\nopen {out / 'page.html'}"
    )
