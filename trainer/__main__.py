"""`python -m trainer pretrain RECIPE [--field value ...]`, `python -m trainer feed [--field value ...]`,
`python -m trainer plan RECIPE [--field value ...]`
"""

from __future__ import annotations

import signal
import sys

import tyro

from trainer.config import DataConfig, FeedConfig, PlanConfig, PretrainConfig
from trainer.data.loader_server import start_loader_server
from trainer.recipes import sample, vit_b16_cc3m, vit_b16_datacomp, vit_h16_datacomp, vit_l16_datacomp
from vocab.errors import run_cli

USAGE = """usage: python -m trainer pretrain RECIPE [--field value ...]

  pretrain    images and label shards to weights; python -m trainer pretrain --help lists the recipes,
              python -m trainer pretrain RECIPE --help their fields
  feed        the data path alone: images/s, what limits it, how many cores a GPU's rate would need;
              python -m trainer feed --help lists its fields
  plan        what a recipe will cost: memory of a GPU, work, hours; needs neither data nor GPU;
              python -m trainer plan RECIPE --help lists its fields

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
    match sys.argv[1:]:
        case ["pretrain", *arguments]:
            config = read_config(arguments)
            start_loaders(config.data)
            # Imported here: --help should not wait for torch.
            from trainer.pretrain import pretrain

            if not pretrain(config):
                sys.exit(128 + signal.SIGTERM)
        case ["feed", *arguments]:
            options = tyro.cli(
                FeedConfig, prog="python -m trainer feed", args=arguments, config=(tyro.conf.OmitArgPrefixes,)
            )
            start_loaders(options.data)
            from trainer.feeding import feed

            sys.stdout.write("\n".join(feed(options)) + "\n")
        case ["plan", *arguments]:
            planned = read_plan(arguments)
            from trainer.speed.plan import plan

            sys.stdout.write("\n".join(plan(planned)) + "\n")
        case [] | ["-h"] | ["--help"]:
            sys.stdout.write(USAGE)
        case [verb, *_]:
            sys.stderr.write(f"error: no verb {verb!r}\n{USAGE}")
            sys.exit(2)


def start_loaders(data: DataConfig) -> None:
    """Have the server of loader processes import torch while this process does."""
    if data.workers and data.loaders == "processes":
        start_loader_server()


def read_config(arguments: list[str]) -> PretrainConfig:
    """A recipe with the fields that the command line overrides."""
    config: PretrainConfig = tyro.extras.overridable_config_cli(
        {name: ((recipe.__doc__ or "").partition("\n")[0], recipe.CONFIG) for name, recipe in RECIPES.items()},
        prog="python -m trainer pretrain",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return config


def read_plan(arguments: list[str]) -> PlanConfig:
    """A recipe and how it is to be run, with the fields that the command line overrides."""
    config: PlanConfig = tyro.extras.overridable_config_cli(
        {
            name: ((recipe.__doc__ or "").partition("\n")[0], PlanConfig(pretrain=recipe.CONFIG))
            for name, recipe in RECIPES.items()
        },
        prog="python -m trainer plan",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return config


if __name__ == "__main__":
    run_cli(main)
