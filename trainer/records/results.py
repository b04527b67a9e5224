"""Results of a pre-training run: scores and a page at each evaluation, weights and a card at the end.

In: the averaged weights, held-out images, a probe's images. Out: numbers in the log and page.html; at the end
model.safetensors (timm's names), results.json and README.md, each written whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from trainer.checkpoints.safetensors_files import VOCABULARY, sealed_file
from trainer.config import PretrainConfig, as_json
from trainer.data.decoding import Decoding, EvalTransform
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank
from trainer.evaluation import Evaluation, Loading, evaluate
from trainer.inputs import Inputs
from trainer.job import Evaluated
from trainer.loss.losses import probabilities
from trainer.probe.probe import ProbeReport, probe
from trainer.records.card import Subject, model_card
from trainer.records.gallery import GalleryImage
from trainer.records.journal import RunProgress
from trainer.records.log import SCORE
from trainer.records.page import write_page
from trainer.step.training import Training
from vocab.store.files import write_whole
from vocab.store.sealing import to_sealed_json


@dataclass(frozen=True, eq=False)
class Results:
    """Evaluations and results of one run; every rank has one, the main rank's writes."""

    config: PretrainConfig
    rank: Rank
    inputs: Inputs
    training: Training
    probe_images: tuple[LabelledImages, LabelledImages] | None
    """images to train a probe on and to measure it on (`open_probe`)"""
    bfloat16: bool

    def is_due(self, step: int) -> bool:
        """Tell whether an evaluation follows a step."""
        every = self.config.run.eval_every
        return every > 0 and step > 0 and step % every == 0

    def evaluate(self) -> Evaluated | None:
        """Score the weights as they are on the held-out images, and by a probe; None on ranks other than the main one.

        Raises as `evaluate` and `probe`.
        """
        data, run = self.config.data, self.config.run
        batch = max(1, data.batch_size // self.rank.world // self.config.optim.accumulate)
        result = evaluate(
            self.training.objective,
            self.inputs.held_out,
            self.rank,
            loading=Loading(size=data.image_size, batch=batch, workers=run.eval_workers, loaders=data.loaders),
            limit=run.eval_limit,
            bfloat16=self.bfloat16,
        )
        probed = self._probe(batch)
        if result is None:
            return None
        scores = {f"{SCORE}{name}": value for name, value in asdict(result.report).items()}
        return Evaluated(scores | (probed.numbers() if probed is not None else {}), (result, probed))

    def show(self, evaluated: Evaluated, progress: RunProgress) -> list[GalleryImage]:
        """Write page.html; return the pictures on it."""
        config, (result, _) = self.config, evaluated.result
        return write_page(
            config.run.out,
            self.inputs.held_out,
            result,
            self.numbers(evaluated, progress),
            gallery=config.run.gallery,
            model=config.model.model,
            steps=config.optim.steps,
            probabilities=lambda logits: probabilities(logits, config.loss),
        )

    def numbers(self, evaluated: Evaluated, progress: RunProgress) -> dict[str, Any]:
        """Make the content of results.json."""
        result: Evaluation = evaluated.result[0]
        probed: ProbeReport | None = evaluated.result[1]
        return {
            "steps": progress.step,
            "images_seen": progress.images,
            "images_rolled_back": progress.rolled_back,
            "spikes": progress.spikes,
            "seconds": round(progress.seconds, 1),
            "parameters": sum(parameter.numel() for parameter in self.training.model.parameters()),
            "classes": len(self.inputs.vocabulary),
            "device": str(self.rank.device),
            "processes": self.rank.world,
            "evaluation": asdict(result.report),
            "probe": probed.numbers() if probed is not None else None,
            "training_account": progress.totals,
            "evaluation_account": result.account,
        }

    def write(self, weights: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> str:
        """Write what a finished run leaves, given its averaged weights; return a summary."""
        out, vocabulary = self.config.run.out, self.inputs.vocabulary
        with write_whole(out / "model.safetensors") as file:
            file.writelines(sealed_file(weights, {VOCABULARY: vocabulary.fingerprint}))
        with write_whole(out / "results.json") as file:
            file.write(to_sealed_json(numbers, indent=2).encode())
        with write_whole(out / "README.md") as file:
            file.write(self._card(numbers).encode())
        scored = numbers["evaluation"]
        return (
            f"mean average precision {scored['macro']:.3f} (class frequencies alone {scored['baseline_macro']:.3f}) "
            f"on {scored['images']:,} held-out images\nopen {out / 'page.html'}"
        )

    def _card(self, numbers: Mapping[str, Any]) -> str:
        out = self.config.run.out
        subject = Subject(
            title=out.name, origin="moving average at the end of the run", images_seen=numbers["images_seen"]
        )
        loading = (
            f"`python -m trainer export {out} --out FOLDER` makes a folder that timm loads; "
            "`model.safetensors` here has timm's names."
        )
        return model_card(subject, as_json(self.config), self.inputs.vocabulary, numbers, loading=loading)

    def _probe(self, batch: int) -> ProbeReport | None:
        if self.probe_images is None:
            return None
        train, test = self.probe_images
        data, run = self.config.data, self.config.run
        decoding = Decoding(run.eval_workers, 1, data.max_pixels, data.take_truncated)
        transform = EvalTransform(data.image_size, data.eval_crop, batch, decoding, self.bfloat16)
        embed = self.training.objective.eval().embed
        return probe(embed, train, test, self.rank, transform=transform, seed=run.seed)
