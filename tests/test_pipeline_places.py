"""A URI is never taken for a local path: each verb that writes to this machine says so before it does anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Check, Label, Prune, Report, Verify
from pipeline.sample.config import SampleConfig
from vocab.errors import InputError

WRITERS: dict[str, Callable[[Path], object]] = {
    "label --log": lambda place: Label(("in",), "out", log=place),
    "prune --out": lambda place: Prune(("labels",), place),
    "report --out": lambda place: Report("labels", place),
    "check --out": lambda place: Check("labels", ("images",), out=place),
    "verify --out": lambda place: Verify(("in",), out=place),
    "sample --out": lambda place: SampleConfig(place),
}


@pytest.mark.parametrize("place", ["s3://b/x", "gs://b/x", "hdfs://n:8020/x", "abfs://c@a/x"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_uri_is_refused(writer: str, place: str) -> None:
    option = writer.split()[1]
    with pytest.raises(InputError, match=rf"^{option} \w+://.+: found a URI; wanted a path of this machine"):
        WRITERS[writer](Path(place))


@pytest.mark.parametrize("writer", WRITERS)
def test_a_uri_of_a_file_and_a_path_are_places(writer: str) -> None:
    name = "log" if "log" in writer else "out"
    for place in ("file:///x/y.json", "/x/y.json"):
        assert getattr(WRITERS[writer](Path(place)), name) == Path("/x/y.json")
