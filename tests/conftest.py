"""Fixtures that several tests share: a Spark session, a process that forks, real data where it is at hand."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.forks import Forks

ROOT = Path(__file__).resolve().parent.parent

# Tensor annotations in the trainer are promises about dtype and shape; the tests hold it to them.
if importlib.util.find_spec("torch") is not None:
    from jaxtyping import install_import_hook

    install_import_hook("trainer", "beartype.beartype")

# Spark's own variable; processes that tests start inherit it.
os.environ["SPARK_CONF_DIR"] = str(ROOT / "tests" / "spark")

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """One session for all tests; starting one takes longer than most of them."""
    pytest.importorskip("pyspark", reason="the pipeline extra is not installed")
    from pipeline.session import spark_session

    with spark_session("local[2]", name="tests") as session:
        session.conf.set("spark.sql.shuffle.partitions", "2")
        yield session


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """One process that has imported torch for all tests that need processes of the trainer."""
    started = Forks()
    yield started
    started.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with captions/ and images/ of real corpora; set CATLIP_DATA where it lies elsewhere."""
    place = Path(os.environ.get("CATLIP_DATA", ROOT.parent / "shared" / "data"))
    if not (place / "captions").is_dir():
        pytest.skip(f"no real data in {place}; set CATLIP_DATA")
    return place
