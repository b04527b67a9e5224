"""The verbs of the trainer: `python -m trainer VERB`, each with the options of its dataclass."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

from trainer.config import DataConfig, PretrainConfig
from trainer.data.loader_server import start_loader_server
from trainer.data.open_files import raise_limit
from trainer.options import Options
from trainer.recipes import sample, vit_b16_cc3m, vit_b16_datacomp, vit_h16_datacomp, vit_l16_datacomp
from trainer.recipes.files import read_recipe
from trainer.recipes.run_config import read_run_config
from trainer.transfer.config import FinetuneConfig, ProbeConfig, TransferConfig, ZeroShotConfig
from trainer.transfer.dense_config import SegmentConfig
from trainer.transfer.detect_config import DetectConfig
from trainer.verb_config import ExportConfig, FeedConfig, ImportConfig, PlanConfig
from vocab.command_line import Verb, read_options
from vocab.errors import run_cli
from vocab.pages.text import tell
from vocab.store.files import local_path

ABOUT = """Images and label shards to weights, and weights to results on other tasks.

Several processes run the same command: torchrun --nproc-per-node 8 -m trainer pretrain RECIPE ...

A recipe of your own is a Python file: its path, ending in .py, takes the place of RECIPE. The path of a run's
config.json repeats the run."""

RECIPES = {
    "sample": sample,
    "vit-b16-cc3m": vit_b16_cc3m,
    "vit-b16-datacomp": vit_b16_datacomp,
    "vit-l16-datacomp": vit_l16_datacomp,
    "vit-h16-datacomp": vit_h16_datacomp,
}


VERBS: Mapping[str, Verb] = {
    "pretrain": Verb(PretrainConfig, is_flat=True),
    "feed": Verb(FeedConfig, is_flat=True),
    "plan": Verb(PlanConfig, is_flat=True),
    "export": Verb(ExportConfig),
    "import": Verb(ImportConfig),
    "probe": Verb(ProbeConfig),
    "zeroshot": Verb(ZeroShotConfig),
    "finetune": Verb(FinetuneConfig),
    "detect": Verb(DetectConfig),
    "segment": Verb(SegmentConfig),
    "transfer": Verb(TransferConfig),
}


def main() -> None:
    """Read a verb and its options, and carry it out."""
    raise_limit()  # before any process that inherits it
    # The verbs are imported here: --help should not wait for torch.
    status = 0
    match read(sys.argv[1:]):
        case PretrainConfig() as config:
            start_loaders(config.data)
            from trainer.pretrain import pretrain

            status = pretrain(config)
        case FeedConfig() as config:
            start_loaders(config.data)
            from trainer.feeding import feed

            tell("\n".join(feed(config)) + "\n", to=sys.stdout)
        case PlanConfig() as config:
            tell("computing the memory, the operations and the hours of the run\n")
            from trainer.speed.plan import plan

            tell("\n".join(plan(config)) + "\n", to=sys.stdout)
        case ExportConfig() as config:
            from trainer.weights.export import export

            tell(export(config) + "\n", to=sys.stdout)
        case ImportConfig() as config:
            from trainer.weights.released import import_released

            tell(import_released(config) + "\n", to=sys.stdout)
        case ProbeConfig() as config:
            from trainer.transfer.probing import probe

            probe(config)
        case ZeroShotConfig() as config:
            from trainer.transfer.zero_shot import zero_shot

            zero_shot(config)
        case FinetuneConfig() as config:
            from trainer.transfer.finetune import finetune

            status = finetune(config)
        case DetectConfig() as config:
            from trainer.transfer.detect import detect

            status = detect(config)
        case SegmentConfig() as config:
            from trainer.transfer.segment import segment

            status = segment(config)
        case TransferConfig() as config:
            from trainer.transfer.suite import transfer

            transfer(config)
    if status:
        sys.exit(status)


def read(arguments: list[str]) -> Options:
    """Read a command line into the configuration of its verb, as `vocab.command_line.read_options` does."""
    verb, named = [*arguments[:2], "", ""][:2]
    verbs = dict(VERBS)
    if verb in ("pretrain", "plan"):
        chosen = recipes(named)
        planned = {name: (said, PlanConfig(pretrain=run)) for name, (said, run) in chosen.items()}
        verbs[verb] = replace(verbs[verb], recipes=chosen if verb == "pretrain" else planned)
    config: Options = read_options("python -m trainer", verbs, arguments, about=ABOUT)
    return config


def recipes(named: str) -> dict[str, tuple[str, PretrainConfig]]:
    """Return our recipes by name, each with its first sentence, and with them the .py or .json file that is named.

    Raises InputError for a file that holds no recipe, FormatError for one that is no configuration of a run.
    """
    ours = {name: ((recipe.__doc__ or "").partition("\n")[0], recipe.CONFIG) for name, recipe in RECIPES.items()}
    if not named.endswith((".py", ".json")):
        return ours
    path = local_path(named, option="recipe")
    return ours | {named: read_recipe(path) if named.endswith(".py") else read_run_config(path)}


def start_loaders(data: DataConfig) -> None:
    """Have the server of loader processes import torch while this process does."""
    if data.workers and data.loaders == "processes":
        start_loader_server()


if __name__ == "__main__":
    run_cli(main)
