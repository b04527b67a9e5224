"""The two scores of the demo under names of their own: `python -m trainer.records.demo out/runs/sample`.

In: the run directory that `make demo` filled. Out: `demo_macro_map` and `demo_top1`, as a line on stdout and among the
details of results.json, so that the demo's quality can be followed from one version to the next.
"""

from __future__ import annotations

import sys
from pathlib import Path

from trainer.records.record import RESULTS, add_details, read_results
from vocab.errors import FormatError, InputError, run_cli
from vocab.pages.text import tell


def name_scores(run: Path) -> str:
    """Add the scores of a pre-training run to its results.json; return them as a line.

    Raises FormatError for a folder without results, and for results of another verb.
    """
    results = read_results(run)
    record = results.of("pretrain")
    if record is None:
        raise FormatError(
            run / RESULTS,
            found=f"results of {results.verb}",
            wanted="those of a pre-training run",
            remedy="Name the run directory of make demo.",
        )
    scores = {"demo_macro_map": record.extra["macro"], "demo_top1": record.extra["top1"]}
    add_details(run, scores)
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def main() -> None:
    """Read the run directory from the command line, and name its scores."""
    if len(sys.argv) != 2:
        raise InputError("demo", found=f"{len(sys.argv) - 1} words", wanted="a run directory", remedy="Name one.")
    tell(f"{name_scores(Path(sys.argv[1]))}\n", to=sys.stdout)


if __name__ == "__main__":
    run_cli(main)
