"""What a finished run leaves: the averaged weights, its numbers, its card.

In: weights and an `Evaluation`. Out: model.safetensors (timm's names), results.json, README.md, each written whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from trainer.checkpoints.safetensors_files import VOCABULARY, sealed_file
from trainer.config import PretrainConfig, as_json
from trainer.records.card import Subject, model_card
from vocab.store.files import write_whole
from vocab.store.sealing import to_sealed_json
from vocab.vocabulary import Vocabulary


def write_results(
    config: PretrainConfig, weights: Mapping[str, Tensor], vocabulary: Vocabulary, results: Mapping[str, Any]
) -> str:
    """Write everything that a finished run leaves; what to tell whoever waits for it."""
    out = config.run.out
    with write_whole(out / "model.safetensors") as file:
        file.writelines(sealed_file(weights, {VOCABULARY: vocabulary.fingerprint}))
    with write_whole(out / "results.json") as file:
        file.write(to_sealed_json(results, indent=2).encode())
    with write_whole(out / "README.md") as file:
        file.write(_card(config, vocabulary, results).encode())
    scored = results["evaluation"]
    return (
        f"mean average precision {scored['macro']:.3f} (class frequencies alone {scored['baseline_macro']:.3f}) "
        f"on {scored['images']:,} held-out images\nopen {out / 'page.html'}"
    )


def _card(config: PretrainConfig, vocabulary: Vocabulary, results: Mapping[str, Any]) -> str:
    name = config.run.out.name
    subject = Subject(title=name, origin="moving average at the end of the run", images_seen=results["images_seen"])
    loading = (
        f"`python -m trainer export {config.run.out} --out FOLDER` makes a folder that timm loads; "
        "`model.safetensors` here has timm's names."
    )
    return model_card(subject, as_json(config), vocabulary, results, loading=loading)
