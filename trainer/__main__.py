"""The verbs: `python -m trainer pretrain RECIPE`, `plan RECIPE`, `feed`, `export`, `import`, `finetune MODEL`, ..."""

from __future__ import annotations

import difflib
import sys

import tyro

from trainer.config import DataConfig, PretrainConfig
from trainer.data.loader_server import start_loader_server
from trainer.data.open_files import raise_limit
from trainer.recipes import sample, vit_b16_cc3m, vit_b16_datacomp, vit_h16_datacomp, vit_l16_datacomp
from trainer.recipes.files import read_recipe
from trainer.transfer.config import FinetuneConfig, ProbeConfig, TransferConfig, ZeroShotConfig
from trainer.verb_config import ExportConfig, FeedConfig, ImportConfig, PlanConfig
from vocab.errors import InputError, run_cli
from vocab.pages.text import tell
from vocab.store.files import local_path
from vocab.store.locations import Config, with_locations

USAGE = """usage: python -m trainer pretrain RECIPE [--field value ...]

  pretrain    images and label shards to weights; python -m trainer pretrain --help lists the recipes,
              python -m trainer pretrain RECIPE --help their fields
  feed        the data path alone: images/s, what limits it, how many cores a GPU's rate would need;
              python -m trainer feed --help lists its fields
  plan        what a recipe will cost: memory of a GPU, work, hours; needs neither data nor GPU;
              python -m trainer plan RECIPE --help lists its fields
  export      a run's weights for others: a folder for timm, the Hub and ONNX; python -m trainer export RUN --out FOLDER
  import      Apple's released CatLIP weights and vocabulary to such a folder;
              python -m trainer import WEIGHTS.pt --vocabulary VOCABULARY.pkl --out FOLDER
  probe       a linear classifier on a pre-trained model's features of a task, and nearest neighbours beside it;
              python -m trainer probe MODEL --task.train IMAGES --task.test IMAGES --out FOLDER
  zeroshot    a task's classes told by the pre-trained classifier alone, each by the rows of its synsets;
              python -m trainer zeroshot MODEL --task.test IMAGES --out FOLDER
  finetune    a pre-trained model trained on a task, all of it;
              python -m trainer finetune MODEL --task.train IMAGES --task.test IMAGES --out runs/NAME
  transfer    all of these on several tasks, into one table of results with confidence intervals;
              python -m trainer transfer MODEL --tasks TASKS.toml --out FOLDER

The same command runs on several processes: torchrun --nproc-per-node 8 -m trainer pretrain RECIPE ...
"""

RECIPES = {
    "sample": sample,
    "vit-b16-cc3m": vit_b16_cc3m,
    "vit-b16-datacomp": vit_b16_datacomp,
    "vit-l16-datacomp": vit_l16_datacomp,
    "vit-h16-datacomp": vit_h16_datacomp,
}


def main() -> None:
    """Read the verb, then its configuration."""
    raise_limit()  # before any process that inherits it
    match sys.argv[1:]:
        case ["pretrain", *arguments]:
            config = read_config(arguments)
            start_loaders(config.data)
            # Imported here: --help should not wait for torch.
            from trainer.pretrain import pretrain

            if status := pretrain(config):
                sys.exit(status)
        case ["feed", *arguments]:
            options = read(FeedConfig, "feed", arguments, nested=False)
            start_loaders(options.data)
            from trainer.feeding import feed

            tell("\n".join(feed(options)) + "\n", to=sys.stdout)
        case ["plan", *arguments]:
            planned = read_plan(arguments)
            from trainer.speed.plan import plan

            tell("\n".join(plan(planned)) + "\n", to=sys.stdout)
        case ["export", *arguments]:
            wanted = read(ExportConfig, "export", arguments)
            from trainer.weights.export import export

            tell(export(wanted) + "\n", to=sys.stdout)
        case ["import", *arguments]:
            released = read(ImportConfig, "import", arguments)
            from trainer.weights.released import import_released

            tell(import_released(released) + "\n", to=sys.stdout)
        case ["zeroshot", *arguments]:
            asked = read(ZeroShotConfig, "zeroshot", arguments)
            from trainer.transfer.zero_shot import zero_shot

            zero_shot(asked)
        case ["finetune", *arguments]:
            tuned = read(FinetuneConfig, "finetune", arguments)
            from trainer.transfer.finetune import finetune

            if status := finetune(tuned):
                sys.exit(status)
        case ["transfer", *arguments]:
            suite = read(TransferConfig, "transfer", arguments)
            from trainer.transfer.methods import transfer

            transfer(suite)
        case ["probe", *arguments]:
            probed = read(ProbeConfig, "probe", arguments)
            from trainer.transfer.probing import probe

            probe(probed)
        case [] | ["-h"] | ["--help"]:
            sys.stdout.write(USAGE)
        case [verb, *_]:
            tell(f"error: no verb {verb!r}\n{USAGE}")
            sys.exit(2)


def read(kind: type[Config], verb: str, arguments: list[str], *, nested: bool = True) -> Config:
    """A verb's configuration, its places spelt in one way. `nested`: as `with_locations` has it.

    Raises InputError for a URI where only a path will do.
    """
    flat = () if nested else (tyro.conf.OmitArgPrefixes,)
    config = tyro.cli(kind, prog=f"python -m trainer {verb}", args=arguments, config=flat)
    return with_locations(config, nested=nested)


def start_loaders(data: DataConfig) -> None:
    """Have the server of loader processes import torch while this process does."""
    if data.workers and data.loaders == "processes":
        start_loader_server()


def read_config(arguments: list[str]) -> PretrainConfig:
    """A recipe with the fields that the command line overrides."""
    config: PretrainConfig = tyro.extras.overridable_config_cli(
        recipes(arguments), prog="python -m trainer pretrain", args=arguments, config=(tyro.conf.OmitArgPrefixes,)
    )
    return with_locations(config, nested=False)


def read_plan(arguments: list[str]) -> PlanConfig:
    """A recipe and how it is to be run, with the fields that the command line overrides."""
    planned = {name: (about, PlanConfig(pretrain=config)) for name, (about, config) in recipes(arguments).items()}
    config: PlanConfig = tyro.extras.overridable_config_cli(
        planned, prog="python -m trainer plan", args=arguments, config=(tyro.conf.OmitArgPrefixes,)
    )
    return with_locations(config, nested=False)


def recipes(arguments: list[str]) -> dict[str, tuple[str, PretrainConfig]]:
    """What each recipe is and says, by name; of ours, or of the .py file that the command line names.

    Raises InputError for a name that is neither, and for a file that holds no recipe.
    """
    named = arguments[0] if arguments and not arguments[0].startswith("-") else None
    if named is not None and named.endswith(".py"):
        return {named: read_recipe(local_path(named, option="recipe"))}
    if named is not None and named not in RECIPES:
        near = difflib.get_close_matches(named, RECIPES, n=1)
        raise InputError(
            f"recipe {named}",
            found="none of that name",
            wanted=", ".join(RECIPES),
            remedy=f"Did you mean {near[0]}?" if near else "A recipe of your own is a file whose name ends in .py.",
        )
    return {name: ((recipe.__doc__ or "").partition("\n")[0], recipe.CONFIG) for name, recipe in RECIPES.items()}


if __name__ == "__main__":
    run_cli(main)
