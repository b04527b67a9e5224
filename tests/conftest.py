"""Fixtures that several tests share: a Spark session, a process that forks, real data where it is at hand."""

from __future__ import annotations

import gc
import importlib.util
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.forks import Forks

ROOT = Path(__file__).resolve().parent.parent

# Tensor annotations in the trainer are promises about dtype and shape; the tests hold it to them.
if importlib.util.find_spec("torch") is not None:
    from tests.shapes import check_shapes

    check_shapes("trainer")

# Spark's own variable; processes that tests start inherit it.
os.environ["SPARK_CONF_DIR"] = str(ROOT / "tests" / "spark")

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


USES_SPARK = re.compile(r"^def \w+\([^)]*\bspark: Any", re.MULTILINE)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let one worker run all files that use Spark, for another session would take as long as many of their tests."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    @cache
    def uses_spark(file: str) -> bool:
        return USES_SPARK.search((ROOT / file).read_text()) is not None

    class OneSession(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "spark" if uses_spark(file) else file

    return OneSession(config, log)


def pytest_collection_finish() -> None:
    """Keep the collector from going through a million objects of imports again and again."""
    gc.freeze()


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """One session for all tests; starting one takes longer than most of them."""
    pytest.importorskip("pyspark", reason="the pipeline extra is not installed")
    from pipeline.session import spark_session

    # Java reads these as it starts.
    starting = pytest.MonkeyPatch()
    starting.setenv("PYSPARK_SUBMIT_ARGS", "--conf spark.python.daemon.module=tests.spark_daemon pyspark-shell")
    starting.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    with spark_session("local[2]", name="tests") as session:
        starting.undo()
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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread of torch: small matrices are no work for two, and threads that wait for each other take the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Batches, counted from 1 in the order of the data, whose loss is NaN."""
    from trainer.data.batch import Batch
    from trainer.step.step import Step

    batches: set[int] = set()
    whole = Step._loss

    def loss(self: Step, batch: Batch, number: int) -> Any:
        return whole(self, batch, number) * (float("nan") if batch.position.step in batches else 1.0)

    monkeypatch.setattr(Step, "_loss", loss)
    return batches
