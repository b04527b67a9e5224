"""Folders whose data files may hold rows that do not count: tables with a log, unfinished writes of Spark.

table/_delta_log/  part-*.parquet       Delta     the log says which files, and which of their rows, count
table/.hoodie/  2024/*.parquet          Hudi      older versions of the same rows are beside them
table/metadata/*.metadata.json  data/   Iceberg
out/_temporary/  part-*.parquet         Spark, at work or dead: without _SUCCESS, some files are missing
out/_started_17  part-*.parquet         the same of Databricks, without _committed_17
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator

import pyarrow.fs as pafs

from vocab.errors import InputError

TABLES = {
    "delta": r"(.*)/_delta_log(/.*)?",
    "hudi": r"(.*)/\.hoodie(/.*)?",
    "iceberg": r"(.*)/metadata/([^/]*\.metadata\.json(\.gz)?|version-hint\.text)",
    "paimon": r"(.*)/schema/schema-\d+",
    # Output of a Spark stream: its log says which files were committed.
    "parquet": r"(.*)/_spark_metadata(/.*)?",
}
"""Spark's name for the format of a table, and a pattern of its log's paths"""
UNFINISHED = r"(.*)/(_temporary|\.spark-staging-[^/]*|__magic[^/]*|_started_\d+)(/.*)?"
# Cheaper patterns that most paths do not match: there may be a million paths.
TABLE_HINT = re.compile(r"/(_delta_log|\.hoodie|metadata/|schema/schema-|_spark_metadata)")
UNFINISHED_HINT = re.compile(r"/(_temporary|\.spark-staging|__magic|_started_)")
SUCCESS = "_SUCCESS"
LOOKED_INTO = ("metadata", "schema")


def refuse_tables(files: Collection[str], around: Iterable[str]) -> None:
    """Raise InputError for a file of a table, of which only the log says which rows count.

    `around`: paths of everything beside and above the files, folders included. Follows links.
    """
    roots: dict[str, str] = {}
    linked, looked_at = _linked(files), set[str]()
    local = pafs.LocalFileSystem()
    beyond = [marker for real in linked for marker in markers_above(local, real, looked_at)]
    for path in filter(TABLE_HINT.search, [*around, *beyond]):
        roots |= {found[1]: name for name, marker in TABLES.items() if (found := re.fullmatch(marker, path))}
    for root, name in roots.items():
        if inside := next((file for file in (*files, *linked) if file.startswith(f"{root}/")), None):
            what = "stream of Spark" if name == "parquet" else f"table of {name.capitalize()}"
            raise InputError(
                inside,
                found=f"a file of a {what}, whose log lies in {root}",
                wanted="files that hold only rows of the corpus",
                remedy="The files may hold rows that were removed, replaced or never committed; the log alone says. "
                f"Write the table as it stands to a folder of its own, spark.read.format({name!r}).load(TABLE)."
                "write.parquet(FOLDER), and give that; or label the DataFrame in a Spark job of your own: "
                "pipeline.labeling.with_synsets.",
            )


def _linked(files: Iterable[str]) -> list[str]:
    """Paths of local files that links lead to; a path of an object store or of HDFS is not a link."""
    folders: dict[str, str] = {}
    found = []
    for file in files:
        folder, _, name = file.rpartition("/")
        if folder not in folders:
            folders[folder] = os.path.realpath(folder) if file.startswith("/") else folder
        # os.path, because there may be a million files.
        real = os.path.realpath(file) if os.path.islink(file) else f"{folders[folder]}/{name}"  # noqa: PTH114
        if real != file:
            found.append(real)
    return found


def refuse_unfinished(files: Collection[str], around: Collection[str]) -> None:
    """Raise InputError for files of a Spark job that is still at work, or died. `around` as for `refuse_tables`."""
    present = set(around)
    marked = (re.fullmatch(UNFINISHED, path) for path in around if UNFINISHED_HINT.search(path))
    for root, marker in dict.fromkeys((match[1], match[2]) for match in marked if match):
        proof = marker.replace("_started_", "_committed_") if marker.startswith("_started_") else SUCCESS
        inside = not files or any(file.startswith(f"{root}/") for file in files)
        if inside and f"{root}/{proof}" not in present:
            raise InputError(
                root,
                found=f"{marker} and no {proof}: an unfinished write of Spark",
                wanted="a finished write",
                remedy=f"Wait for that job or run it again; if all files are there, remove {marker}.",
            )


def markers_above(filesystem: pafs.FileSystem, path: str, looked_at: set[str]) -> Iterator[str]:
    """Yield paths of markers in the folders above a path. Skips folders in `looked_at`, and adds the others to it."""
    folder = path.rstrip("/").rpartition("/")[0]
    while folder and folder not in looked_at:
        looked_at.add(folder)
        names = ("_delta_log", ".hoodie", "_spark_metadata", "_temporary", SUCCESS, *LOOKED_INTO)
        try:
            for info in filesystem.get_file_info([f"{folder}/{name}" for name in names]):
                if info.type == pafs.FileType.NotFound:
                    continue
                yield info.path
                if info.base_name in LOOKED_INTO and info.type == pafs.FileType.Directory:
                    yield from (below.path for below in filesystem.get_file_info(pafs.FileSelector(info.path)))
        except OSError:
            # A user who may read a folder need not be allowed to look above it; then a table cannot be told from files.
            return
        folder = folder.rpartition("/")[0]
