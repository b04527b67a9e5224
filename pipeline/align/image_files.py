"""Which files say what ids the images of tars have.

In: the places of the images. Out: an `Inputs` of sidecars, each beside its tar, or of tars.
"""

from __future__ import annotations

import pyarrow.fs as pafs

from pipeline.align.image_ids import check_sidecar, is_of_tars
from pipeline.reading.inputs import Inputs, NoInputError, list_inputs
from pipeline.reading.stored_formats import refuse_compressed
from vocab.errors import InputError
from vocab.store.files import filesystem_of


def list_image_files(places: tuple[str, ...], id_column: str) -> Inputs:
    """List sidecars, or tars where the tars hold the ids.

    Raises InputError for a place without such files, and where sidecars and tars do not go together one to one: labels
    follow tars, so a sidecar alone names no images, and a tar alone would be left without labels.
    """
    if is_of_tars(id_column):
        tars = list_inputs(places, "webdataset")
        refuse_compressed([file.path for file in tars.files], gzip_is_read=False)
        return tars
    try:
        sidecars = list_inputs(places, "img2dataset")
    except NoInputError as error:
        raise InputError(
            error.thing,
            found=error.found,
            wanted=f"img2dataset's sidecars, whose column {id_column!r} holds the id",
            remedy="Check --images; where the tars themselves hold the id, give --id-column json.FIELD.",
        ) from error
    # A mistyped column is better said now than by a job.
    check_sidecar(sidecars.files[0].path, id_column)
    folders = {file.path.rpartition("/")[0] for file in sidecars.files}
    held = {folder: _names(folder) for folder in folders}
    for file in sidecars.files:
        folder, _, name = file.path.rpartition("/")
        tar = name.removesuffix(".parquet") + ".tar"
        if tar not in held[folder]:
            raise InputError(
                file.path,
                found=f"no {tar} beside it",
                wanted="a sidecar and its tar, as img2dataset writes them",
                remedy="Download the tar again, or leave this file out of --images.",
            )
    for folder in sorted(folders):
        for tar in sorted(name for name in held[folder] if name.endswith(".tar") and name[0] not in "._"):
            if f"{tar.removesuffix('.tar')}.parquet" not in held[folder]:
                raise InputError(
                    f"{folder}/{tar}",
                    found="no sidecar beside it",
                    wanted=f"{tar.removesuffix('.tar')}.parquet, as img2dataset writes it",
                    remedy="Download it again, or take the ids from the tars: --id-column json.FIELD or __key__.",
                )
    return sidecars


def _names(folder: str) -> set[str]:
    filesystem, path = filesystem_of(folder)
    return {info.base_name for info in filesystem.get_file_info(pafs.FileSelector(path))}
