"""Where the data of a run stands, as the small JSON that a checkpoint keeps.

    {"step": 1200, "images": 1228800, "teams": 1, "digest": "9f...", "cursors": [[[3, 5120]]]}

`cursors` holds for each team, for each pool, the group it is in and how many of its samples are taken. Nothing in it
depends on how many processes or loaders read: a run may be resumed by other numbers of both, and sees the same samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainer.data.batch import Position
from trainer.data.order import Cursor
from trainer.data.source import Source
from vocab.errors import FormatError, MismatchError


def to_state(positions: Iterable[Position], source: Source, *, teams: int) -> dict[str, Any]:
    """The state after a step, from the positions of all ranks after it."""
    cursors: dict[int, tuple[Cursor, ...]] = {}
    step = images = 0
    for position in positions:
        step, images = position.step, position.images
        cursors |= position.cursors
    return {
        "step": step,
        "images": images,
        "teams": teams,
        "digest": source.digest,
        "cursors": [[list(cursor) for cursor in cursors[team]] for team in range(teams)],
    }


def from_state(state: Any, source: Source, *, teams: int) -> Position:
    """Where to go on. Raises MismatchError for a state of other data, FormatError for one that is none."""
    try:
        found_teams, digest = int(state["teams"]), str(state["digest"])
        cursors = {
            team: tuple((int(group), int(taken)) for group, taken in pools)
            for team, pools in enumerate(state["cursors"])
        }
        position = Position(int(state["step"]), int(state["images"]), cursors)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            "checkpoint",
            found=f"no position in the data ({error!r})",
            wanted="step, images, teams, digest and cursors",
            remedy="Start a new run in another --out: this checkpoint was written by another release.",
        ) from error
    if digest != source.digest:
        raise MismatchError(
            "checkpoint",
            found="a run over other tars, labels, weights, or another seed",
            wanted=f"the {len(source.tars):,} tars that --images names now",
            remedy="Give the same --images, or start a new run in another --out.",
        )
    if found_teams != teams:
        raise MismatchError(
            "checkpoint",
            found=f"{found_teams} teams",
            wanted=f"the {teams} of --tar-teams",
            remedy=f"Resume with --tar-teams {found_teams}: the order of the data is dealt out to them.",
        )
    return position
