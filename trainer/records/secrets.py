"""What is left out of command lines and configurations before they are written down or sent anywhere.

In: words and configurations that name places of tars. Out: the same without passwords, signatures and shell commands.

    https://user:word@host/{00..99}.tar?X-Amz-Signature=...    https://host/{00..99}.tar?...
    s3://KEY:SECRET@bucket/00000.tar                           s3://bucket/00000.tar
    pipe:curl -H "Authorization: ..." https://host/0.tar       pipe:...
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trainer.data.tar_places import PIPE, without_secrets
from vocab.errors import without_user

# Places may follow an option ("--images=https://...") and be paired with labels ("IMAGES::LABELS"); hosts in brackets
# have "::" of their own.
_PLACE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:\[[^\]\s]*\]|(?!::)\S)*")


def without_secrets_in(word: str) -> str:
    """A word of a command line or a configuration as it may be shown.

    Of a command nothing is kept: what in it is a secret only its writer knows.
    """
    before, pipe, _ = word.partition(PIPE)
    if pipe and (not before or before.endswith(("=", "::"))):
        return f"{before}{PIPE}..."
    return _PLACE.sub(lambda match: without_user(without_secrets(match[0])), word)


def public(value: Any) -> Any:
    """A configuration, or any part of one, as it may be shown: every string in it `without_secrets_in`."""
    if isinstance(value, str):
        return without_secrets_in(value)
    if isinstance(value, Mapping):
        return {name: public(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [public(part) for part in value]
    return value if isinstance(value, int | float | None) else without_secrets_in(str(value))
