"""Every block of docs/labels-in-sql.md, in Spark and in DuckDB, on a corpus that the label job labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import Label, Prune
from pipeline.prune import prune
from pipeline.run import label_captions
from tests.conftest import ROOT
from tests.markdown import blocks
from tests.synsets import CAR, CAT, COUCH, DOG

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "labels-in-sql.md").read_text()
TABLES, IN_SPARK, IN_DUCKDB = blocks(PAGE, "python")
QUERIES = blocks(PAGE, "sql")
RESULTS: list[list[tuple[Any, ...]]] = [
    [
        ("n02084071", "dog.n.01", 2),
        ("n02121620", "cat.n.01", 2),
        ("n02958343", "car.n.01", 1),
        ("n04256520", "sofa.n.01", 1),
    ],
    [("00000", "000000000"), ("00001", "000010000")],
    [("00000", "000000000"), ("00001", "000010000"), ("00001", "000010001")],
    [("cat.n.01", 1), ("sofa.n.01", 1)],
    [
        ("00000", "000000000", 0, "dog.n.01"),
        ("00001", "000010000", 0, "dog.n.01"),
        ("00001", "000010000", 1, "cat.n.01"),
        ("00001", "000010001", 1, "cat.n.01"),
    ],
    [("00000", 2, 2), ("00001", 3, 4)],
    [("00000", "000000001")],
    [("status:failed_to_download", 1)],
    [("00000.tar", "000000000"), ("00001.tar", "000010000")],
    [("u0", [DOG, COUCH]), ("u1", []), ("u3", [DOG, CAT]), ("u4", [CAT]), ("u5", [CAR])],
    [("u0", [DOG, COUCH]), ("u1", []), ("u2", [CAT]), ("u3", [DOG, CAT]), ("u4", [CAT]), ("u5", [CAR])],
]


@pytest.fixture(scope="module")
def files(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The page's tables: two sidecars of img2dataset, their labels by shard and key, and by uid."""
    root = tmp_path_factory.mktemp("sql")
    captions = ["a dog on a couch", "of the", "a cat", "a cat and a dog", "a cat", "a car"]
    corpus = pa.table(
        {
            "url": [f"u{number}" for number in range(6)],
            "uid": range(17, 23),
            "caption": captions,
            "key": ["000000000", "000000001", "000000002", "000010000", "000010001", "000010002"],
            "status": ["success", "success", "failed_to_download", "success", "success", "success"],
            "error_message": [None, None, "404", None, None, None],
        }
    )
    (root / "images").mkdir()
    pq.write_table(corpus.slice(0, 3), root / "images" / "00000.parquet")
    pq.write_table(corpus.slice(3), root / "images" / "00001.parquet")
    pq.write_table(corpus.select(["url", "uid", "caption"]), root / "metadata.parquet")
    label_captions(spark, Label((f"{root}/images",), f"{root}/labels"))
    label_captions(spark, Label((f"{root}/metadata.parquet",), f"{root}/labels-by-uid", key_column="uid"))
    prune(Prune((f"{root}/labels",), root / "vocabulary.parquet", min_count=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        made: dict[str, Any] = {}
        exec(TABLES, made)
    return {name: f"{root}/{files}" for name, files in made["FILES"].items()}


def test_the_queries_of_the_page_in_spark(spark: Any, files: dict[str, str], tmp_path: Path) -> None:
    exec(IN_SPARK, {"spark": spark, "FILES": files})
    assert [[tuple(row) for row in spark.sql(query).collect()] for query in QUERIES] == RESULTS
    spark.sql(QUERIES[8]).write.csv(f"{tmp_path}/keys")
    written = [part.read_text() for part in sorted((tmp_path / "keys").glob("part-*"))]
    assert "".join(written) == "00000.tar,000000000\n00001.tar,000010000\n"


def test_the_queries_of_the_page_in_duckdb(files: dict[str, str], tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="needs DuckDB: pip install duckdb")
    made: dict[str, Any] = {"duckdb": duckdb, "FILES": files}
    exec(IN_DUCKDB, made)
    assert [made["db"].sql(query).fetchall() for query in QUERIES] == RESULTS
    made["db"].sql(QUERIES[8]).write_csv(f"{tmp_path}/keys.csv", header=False)
    assert (tmp_path / "keys.csv").read_text() == "00000.tar,000000000\n00001.tar,000010000\n"
