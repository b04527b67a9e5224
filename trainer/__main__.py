"""The verbs of the trainer: `python -m trainer VERB`, each with the options of its dataclass."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Mapping
from typing import Any

import tyro

from trainer.config import DataConfig, PretrainConfig
from trainer.data.loader_server import start_loader_server
from trainer.data.open_files import raise_limit
from trainer.options import Options
from trainer.recipes import sample, vit_b16_cc3m, vit_b16_datacomp, vit_h16_datacomp, vit_l16_datacomp
from trainer.recipes.files import read_recipe
from trainer.transfer.config import FinetuneConfig, ProbeConfig, TransferConfig, ZeroShotConfig
from trainer.verb_config import ExportConfig, FeedConfig, ImportConfig, PlanConfig
from vocab.command_line import plain_help
from vocab.errors import InputError, run_cli
from vocab.pages.text import tell
from vocab.store.files import local_path
from vocab.store.locations import with_locations

DESCRIPTION = """Images and label shards to weights, and weights to results on other tasks.

Every verb and recipe has its own --help. The same command runs on several processes: torchrun --nproc-per-node 8 -m \
trainer pretrain RECIPE ..."""

RECIPES = {
    "sample": sample,
    "vit-b16-cc3m": vit_b16_cc3m,
    "vit-b16-datacomp": vit_b16_datacomp,
    "vit-l16-datacomp": vit_l16_datacomp,
    "vit-h16-datacomp": vit_h16_datacomp,
}


VERBS: Mapping[str, type[Options]] = {
    "pretrain": PretrainConfig,
    "feed": FeedConfig,
    "plan": PlanConfig,
    "export": ExportConfig,
    "import": ImportConfig,
    "probe": ProbeConfig,
    "zeroshot": ZeroShotConfig,
    "finetune": FinetuneConfig,
    "transfer": TransferConfig,
}
FLAT = (PretrainConfig, FeedConfig, PlanConfig)
"""configurations whose parts give no prefix to their options"""


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
        case TransferConfig() as config:
            from trainer.transfer.suite import transfer

            transfer(config)
    if status:
        sys.exit(status)


def read(arguments: list[str]) -> Options:
    """Read a command line into the configuration of its verb, with locations spelt in one way.

    Raises InputError for an unknown verb or recipe, an option that cannot work, and a URI where only a path will do.
    """
    words = [*arguments[:2], "", ""][:2]
    refuse_unknown("verb", words[0], VERBS, "python -m trainer --help says what each does.")
    verbs: dict[str, Any] = dict(VERBS)
    verbs["feed"] = tyro.conf.configure(tyro.conf.OmitArgPrefixes)(FeedConfig)
    chosen = recipes(words[1] if words[0] in ("pretrain", "plan") else "")
    verbs["pretrain"] = one_of(chosen, like=PretrainConfig)
    verbs["plan"] = one_of(
        {name: (about, PlanConfig(pretrain=run)) for name, (about, run) in chosen.items()}, like=PlanConfig
    )
    with plain_help():
        config: Options = tyro.extras.subcommand_cli_from_dict(
            verbs, prog="python -m trainer", description=DESCRIPTION, args=arguments
        )
    return with_locations(config, nested=not isinstance(config, FLAT))


def one_of(defaults: Mapping[str, tuple[str, Options]], *, like: type[Options]) -> Any:
    """Return a verb whose subcommands are named configurations, each with its description, to be overridden."""
    choice: Any = tyro.extras.subcommand_type_from_defaults(
        {name: config for name, (_, config) in defaults.items()},
        descriptions={name: about for name, (about, _) in defaults.items()},
    )

    def verb(config: Any) -> Any:
        return config

    verb.__annotations__["config"], verb.__doc__ = choice, like.__doc__
    return tyro.conf.configure(tyro.conf.OmitArgPrefixes)(verb)


def recipes(named: str) -> dict[str, tuple[str, PretrainConfig]]:
    """Return our recipes by name, each with its first sentence; or the one in the .py file that is named.

    Raises InputError for a name that is neither, and for a file that holds no recipe.
    """
    if named.endswith(".py"):
        return {named: read_recipe(local_path(named, option="recipe"))}
    refuse_unknown("recipe", named, RECIPES, "A recipe of your own is a file whose name ends in .py.")
    return {name: ((recipe.__doc__ or "").partition("\n")[0], recipe.CONFIG) for name, recipe in RECIPES.items()}


def refuse_unknown(kind: str, name: str, known: Collection[str], remedy: str) -> None:
    """Raise InputError for an unknown verb or recipe; let an option, or nothing, through."""
    if name and not name.startswith("-") and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise InputError(
            f"{kind} {name}",
            found="none of that name",
            wanted=", ".join(known),
            remedy=f"Did you mean {near[0]}?" if near else remedy,
        )


def start_loaders(data: DataConfig) -> None:
    """Have the server of loader processes import torch while this process does."""
    if data.workers and data.loaders == "processes":
        start_loader_server()


if __name__ == "__main__":
    run_cli(main)
