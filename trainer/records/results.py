"""Results of a pre-training run: scores and a page at each evaluation, weights and a card at the end.

In: the averaged weights, held-out images, a probe's images. Out: numbers in the log, page.html and classes.csv; at
the end model.safetensors (timm's names), results.json and README.md, each written whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from trainer.checkpoints.safetensors_files import VOCABULARY, sealed_file
from trainer.config import PretrainConfig, as_json, eval_workers_of
from trainer.data.decoding import Decoding, EvalTransform
from trainer.data.labelled_images import LabelledImages
from trainer.distributed import Rank
from trainer.evaluation import Evaluation, evaluate
from trainer.inputs import Inputs
from trainer.job import Evaluated
from trainer.loss.losses import probabilities
from trainer.model.objective import Objective
from trainer.probe.probe import ProbeReport, probe
from trainer.records.card import Subject, model_card
from trainer.records.classes import of_vocabulary
from trainer.records.gallery import GalleryImage, pictures
from trainer.records.journal import RunProgress
from trainer.records.log import FILE as LOG_FILE
from trainer.records.log import SCORE, read_log
from trainer.records.page import page, write_page
from trainer.records.record import RANDOM, Record, ResultsFile, named_bad, write_results
from trainer.step.training import Training
from trainer.weights.pretrained import fingerprint_of
from vocab.pages.text import counted
from vocab.store.files import write_whole
from vocab.store.secrets import without_secrets

HELD_OUT = "held-out shards"
"""stands in results.json for images to evaluate on that are not named by --eval-images"""
NO_PROBE = "the features of the probe's images are NaN or infinite: no accuracy"


@dataclass(frozen=True, eq=False)
class Results:
    """Evaluations and results of one run; every rank has one, the main rank's writes."""

    config: PretrainConfig
    rank: Rank
    inputs: Inputs
    training: Training[Objective]
    probe_images: tuple[LabelledImages, LabelledImages] | None
    """images to train a probe on and to measure it on (`open_probe`)"""
    bfloat16: bool

    def is_due(self, step: int) -> bool:
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
            batch=batch,
            workers=eval_workers_of(self.config, self.rank.device.type),
            limit=run.eval_limit,
            bfloat16=self.bfloat16,
        )
        probed = self._probe(batch)
        if result is None:
            return None
        scores = {f"{SCORE}{name}": value for name, value in asdict(result.report).items()}
        return Evaluated(scores | (probed.numbers() if probed is not None else {}), (result, probed))

    def show(self, evaluated: Evaluated, progress: RunProgress) -> list[GalleryImage]:
        """Write page.html and classes.csv; return the pictures on the page."""
        config, source, (result, _) = self.config, self.inputs.held_out, evaluated.result
        classes = of_vocabulary(source.vocabulary, result)
        to_show = partial(probabilities, config=config.loss)
        shown = pictures(source, result, count=config.run.gallery, probabilities=to_show)
        content = page(
            title=config.run.out.name,
            lines=read_log(config.run.out / LOG_FILE),
            vocabulary=source.vocabulary,
            result=result,
            classes=classes,
            results=self.details(result, progress),
            shown=shown,
            model=config.model.model,
            total_steps=config.optim.steps,
            seconds=progress.seconds,
        )
        write_page(config.run.out, content, classes)
        return shown

    def records(self, evaluated: Evaluated, progress: RunProgress) -> list[Record]:
        """Make the record of the evaluation, and that of the probe unless its features are NaN or infinite."""
        run, (result, probed) = self.config.run, evaluated.result
        record = Record(
            task=" | ".join(self._places()),
            method="pretrain",
            init=RANDOM,
            percent=100.0,
            seed=run.seed,
            metric="map_macro",
            value=result.report.macro,
            images=result.report.images,
            seconds=round(progress.seconds, 1),
            extra=asdict(result.report),
        )
        if probed is None or probed.learning_rate is None:
            return [record]
        about = {name: value for name, value in vars(probed).items() if name not in ("test_images", "seconds")}
        probe_record = replace(
            record,
            task=f"{_joined(run.probe_images)} | {_joined(run.probe_eval_images)}",
            method="probe",
            metric="top1",
            value=probed.top1,
            images=probed.test_images,
            seconds=round(probed.seconds, 1),
            extra=about,
        )
        return [record, probe_record]

    def details(self, result: Evaluation, progress: RunProgress) -> dict[str, Any]:
        """Make the facts of results.json that only pre-training has."""
        return {
            "steps": progress.step,
            "images_seen": progress.images,
            "images_rolled_back": progress.rolled_back,
            "spikes": progress.spikes,
            "parameters": sum(parameter.numel() for parameter in self.training.model.parameters()),
            "classes": len(self.inputs.vocabulary),
            "device": str(self.rank.device),
            "processes": self.rank.world,
            "training_account": progress.totals,
            "evaluation_account": result.account,
        }

    def write(self, weights: Mapping[str, Tensor], evaluated: Evaluated, progress: RunProgress) -> str:
        """Write what a finished run leaves, given its averaged weights; return a summary."""
        out, vocabulary, (train, test) = self.config.run.out, self.inputs.vocabulary, self._places()
        result, probed = evaluated.result
        records, details = self.records(evaluated, progress), self.details(result, progress)
        with write_whole(out / "model.safetensors") as file:
            file.writelines(sealed_file(weights, {VOCABULARY: vocabulary.fingerprint}))
        write_results(
            out,
            records,
            verb="pretrain",
            model=str(out),
            fingerprint=fingerprint_of(weights, self.config.data.image_size),
            data={"train": train, "test": test, "classes": len(vocabulary)},
            notes=[NO_PROBE] if probed is not None and probed.learning_rate is None else [],
            bad_images=named_bad(test=result.skipped),
            details=details,
        )
        with write_whole(out / "README.md") as file:
            file.write(self._card(ResultsFile("pretrain", records, details)).encode())
        return (
            f"mean average precision {result.report.macro:.3f} "
            f"(class frequencies alone {result.report.baseline_macro:.3f}), most probable class among the labels "
            f"{result.report.top1:.1%}, on {counted(result.report.images, 'held-out image')}\n"
            f"open {out / 'page.html'}"
        )

    def _places(self) -> tuple[str, str]:
        """Locations of the images trained on and of those evaluated on, as the other verbs write them."""
        data = self.config.data
        return _joined(data.images), _joined(data.eval_images) or HELD_OUT

    def _card(self, results: ResultsFile) -> str:
        out = self.config.run.out
        subject = Subject(
            title=out.name, origin="moving average at the end of the run", images_seen=results.details["images_seen"]
        )
        loading = (
            f"`python -m trainer export {out} --out FOLDER` makes a folder that timm loads; "
            "`model.safetensors` here has timm's names."
        )
        return model_card(subject, as_json(self.config), self.inputs.vocabulary, results, loading=loading)

    def _probe(self, batch: int) -> ProbeReport | None:
        if self.probe_images is None:
            return None
        train, test = self.probe_images
        data, run = self.config.data, self.config.run
        workers = eval_workers_of(self.config, self.rank.device.type)
        decoding = Decoding(workers, 1, data.max_pixels, data.take_truncated)
        transform = EvalTransform(data.image_size, data.eval_crop, batch, decoding, self.bfloat16)
        embed = self.training.objective.eval().embed
        return probe(embed, train, test, self.rank, transform=transform, seed=run.seed)


def _joined(locations: Iterable[str]) -> str:
    return " ".join(map(without_secrets, locations))
