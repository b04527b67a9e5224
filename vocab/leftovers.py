"""Files and folders that a system leaves beside people's data: no class, no image, no table, no tar.

In: the name of an entry of a folder. Out: whether it is such a leftover.

    .DS_Store  ._cat  .ipynb_checkpoints  .git        hidden: whatever begins with a dot
    __MACOSX  Thumbs.db  desktop.ini  $RECYCLE.BIN    of macOS and Windows
    @eaDir  #recycle  @Recycle  lost+found            of storage servers and file systems

A name that begins with an underscore is a person's: Caltech's BACKGROUND_Google is a class, and so is _background_.
"""

from __future__ import annotations

NAMES = frozenset(
    "__macosx thumbs.db ehthumbs.db desktop.ini $recycle.bin @eadir #recycle #snapshot @recycle @recently-snapshot "
    "@tmp ~snapshot lost+found __pycache__".split()
) | {"system volume information", "recycler", "icon\r"}
"""without regard to case, as the systems that leave them have none"""


def is_leftover(name: str) -> bool:
    """Tell whether a file or folder of that name is a system's leftover."""
    return name.startswith(".") or name.lower() in NAMES
