"""The evaluations of a run while it goes: its averaged weights on held-out images, a probe, the page that shows both.

In: a run's training and journal. Out: numbers in the log and page.html, and those of results.json.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from trainer.config import PretrainConfig
from trainer.distributed import Rank, on_main
from trainer.evaluation import Evaluation, Loading, evaluate
from trainer.inputs import Inputs
from trainer.loss.losses import probabilities
from trainer.probe.probe import ProbeReport, open_probe, probe
from trainer.records.journal import Journal
from trainer.records.log import SCORE
from trainer.records.page import write_page
from trainer.step.training import Training


class Evaluator:
    """The evaluations of one run; every rank has one, the main rank's writes."""

    def __init__(
        self,
        config: PretrainConfig,
        rank: Rank,
        inputs: Inputs,
        training: Training,
        journal: Journal,
        *,
        bfloat16: bool,
    ) -> None:
        """Opens what a probe is trained and measured on, and raises as `open_probe`."""
        self.config, self.rank, self.inputs = config, rank, inputs
        self.training, self.journal, self.bfloat16 = training, journal, bfloat16
        self.class_tars = open_probe(config.data, config.run)

    def is_due(self) -> bool:
        """Whether the last step is one that an evaluation follows."""
        every, step = self.config.run.eval_every, self.journal.progress.step
        return every > 0 and step > 0 and step % every == 0

    def make_up(self) -> None:
        """Evaluate where an earlier start was stopped between a step and the evaluation that follows it."""
        if self.is_due() and not on_main(self.journal.is_scored, self.rank):
            self.evaluate()

    def evaluate(self) -> dict[str, Any] | None:
        """Evaluate the averaged weights, and show what they are worth: the numbers of results.json.

        None on ranks other than the main one. Sharded weights are whole for no rank; what is counted of them is.
        """
        data, run, objective = self.config.data, self.config.run, self.training.objective
        batch = max(1, data.batch_size // self.rank.world // self.config.optim.accumulate)
        with self.training.average.swapped():
            result = evaluate(
                objective,
                self.inputs.held_out,
                self.rank,
                loading=Loading(size=data.image_size, batch=batch, workers=run.eval_workers, loaders=data.loaders),
                limit=run.eval_limit,
                bfloat16=self.bfloat16,
            )
            probed = self._probe(batch)
        numbers: dict[str, Any] | None = None
        if result is not None:
            scores = {f"{SCORE}{name}": value for name, value in asdict(result.report).items()}
            self.journal.scored(scores | (probed.numbers() if probed is not None else {}))
            numbers = self._numbers(result, probed)
            shown = write_page(
                run.out,
                self.inputs.held_out,
                result,
                numbers,
                model=self.config.model.model,
                total_steps=self.config.optim.steps,
                count=run.gallery,
                probabilities=lambda logits: probabilities(logits, self.config.loss),
            )
            self.journal.show(shown)
        self.journal.restart_clock()
        return numbers

    def _probe(self, batch: int) -> ProbeReport | None:
        if self.class_tars is None:
            return None
        train, test = self.class_tars
        config, objective = self.config, self.training.objective.eval()
        return probe(
            objective.embed,
            train,
            test,
            self.rank,
            size=config.data.image_size,
            batch=batch,
            bfloat16=self.bfloat16,
            seed=config.run.seed,
            workers=config.run.eval_workers,
        )

    def _numbers(self, result: Evaluation, probed: ProbeReport | None) -> dict[str, Any]:
        progress = self.journal.progress
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
