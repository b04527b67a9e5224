"""A look at some files before a job: do any of them hold captions under the names that the options give?

In: the input files, and a function that looks at one. Out: nothing, or the first file's error.

Files are sampled, and looking stops at the first that has everything: a corpus may have a hundred thousand files in an
object store. Files that lack the names while others have them are for their tasks: their rows are rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vocab.errors import InputError
from vocab.store.manifest import InputFile

MAX_FILES = 32

Faults = Mapping[str, InputError]
"""by name: why a file does not have it; empty for a file that has all names"""


def sampled(files: Sequence[InputFile]) -> list[InputFile]:
    """Some files spread evenly over all, the first among them; those without a byte only if all are such."""
    held = [file for file in files if file.size] or list(files)
    return [held[place] for place in np.unique(np.linspace(0, len(held) - 1, MAX_FILES).round().astype(int))]


def require_names(files: Sequence[InputFile], look: Callable[[InputFile], Faults | None]) -> bool:
    """Raise InputError for a name that none of the files looked at has; tell whether any could be read.

    `look` gives None for a file that cannot be read, which is for its task to say.
    """
    missing: Faults | None = None
    for file in sampled(files):
        faults = look(file)
        if faults is None:
            continue
        missing = faults if missing is None else {name: missing[name] for name in missing if name in faults}
        if not missing:
            return True
    for error in (missing or {}).values():
        raise error
    return missing is not None
