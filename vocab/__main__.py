"""`python -m vocab build --wordnet DIR`: make the packed file of WordNet's nouns from WordNet's own database files."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from vocab.errors import run_cli
from vocab.storage import write_whole
from vocab.wordnet import PACKED_FILE, pack
from vocab.wordnet_files import read_wordnet


@dataclass(frozen=True)
class Build:
    """Make the packed file of WordNet's nouns from WordNet's own database files."""

    wordnet: Path = Path("/usr/share/wordnet")
    """folder with data.noun, index.noun, index.sense and the .exc files (Debian: wordnet-base, wordnet-sense-index)"""
    out: Path = Path(__file__).parent / "data" / PACKED_FILE
    """file to write"""


def build(options: Build) -> None:
    """Parse, pack, write whole."""
    nouns = read_wordnet(options.wordnet)
    with write_whole(options.out) as file:
        file.write(pack(nouns))
    sys.stdout.write(
        f"{options.out}: {len(nouns.synsets):,} synsets, {len(nouns.lemmas):,} lemmas, "
        f"{options.out.stat().st_size:,} bytes\n"
    )


def main() -> None:
    """Command line of the room."""
    build(tyro.extras.subcommand_cli_from_dict({"build": Build}, prog="python -m vocab", description=__doc__))


if __name__ == "__main__":
    run_cli(main)
