"""Files and folders that a system leaves beside people's data: no class, no image, no table, no tar, no sample.

In: the name of an entry of a folder, or a path inside one. Out: whether it is such a leftover.

    .DS_Store  ._cat  .ipynb_checkpoints  .git        hidden: whatever begins with a dot
    __MACOSX  Thumbs.db  desktop.ini  $RECYCLE.BIN    of macOS and Windows
    @eaDir  #recycle  @Recycle  lost+found            of storage servers and file systems
    PaxHeaders  PaxHeaders.1234                       of old tars that were unpacked

A name that begins with an underscore is a person's where a folder is a class: Caltech's BACKGROUND_Google is a class,
and so is _background_. Where files are searched for, it is Spark's and Hadoop's: _temporary, _SUCCESS.
"""

from __future__ import annotations

import re

NAMES = frozenset(
    "__macosx thumbs.db ehthumbs.db desktop.ini $recycle.bin @eadir #recycle #snapshot @recycle @recently-snapshot "
    "@tmp ~snapshot lost+found __pycache__ .appledouble paxheaders".split()
) | {"system volume information", "recycler", "icon\r"}
"""without regard to case, as the systems that leave them have none"""
EXTENSIONS = frozenset(name.partition(".")[2] for name in NAMES)
"""extensions of all NAMES: a name with any other extension is not among them"""
_OF_A_PROCESS = re.compile(r"paxheaders\.[0-9]+")


def is_left_by_system(name: str) -> bool:
    """Tell whether systems give this name to their leftovers, hidden or not."""
    lower = name.lower()
    return lower in NAMES or _OF_A_PROCESS.fullmatch(lower) is not None


def is_leftover(name: str) -> bool:
    """Tell whether a file or folder of that name is a system's leftover."""
    return name.startswith(".") or is_left_by_system(name)


def is_left_out(inside: str) -> bool:
    """Tell whether a search of a folder leaves out a path in it: leftovers, and names that begin with "_"."""
    return any(part.startswith("_") or is_leftover(part) for part in inside.split("/"))
