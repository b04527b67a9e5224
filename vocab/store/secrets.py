"""Secrets in locations: passwords, signatures and shell commands are left out before a location is shown or written.

    https://user:word@host/{00..99}.tar?X-Amz-Signature=...    https://host/{00..99}.tar?...
    s3://KEY:SECRET@bucket/00000.tar                           s3://bucket/00000.tar
    abfs://container:KEY@account.dfs.core.windows.net/0.tar    abfs://container@account.dfs.core.windows.net/0.tar
    hdfs://host/0.tar?version=3&token=9f86                     hdfs://host/0.tar?version=3&token=...
    pipe:curl -H "Authorization: ..." https://host/0.tar       pipe:...

Two locations that differ in these alone are the same location. Every error passes through this module, on Spark's
executors too: it needs the standard library alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LEFT_OUT = "..."
# A location may follow an option ("--images=https://...") and be paired with labels ("IMAGES::LABELS"); a host in
# brackets has "::" of its own. pathlib makes one slash of two, and stores are found in spite of that. Lengths are
# bounded, or strangers' text of a megabyte without a space would take hours.
_LOCATION = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,31})(?P<slashes>://)|"
    r"(?<![A-Za-z0-9+.-])(?P<store>(?i:s3[an]?|gs|gcs|hdfs|abfss?|wasbs?|https?))(?P<slash>:/))"
    r"(?P<rest>(?:\[[^\]\s]{0,64}\]|(?!::)\S)+)"
)
# A secret that holds a slash, as those of S3 may, ends the host for every parser; a port does not begin a password.
_USER = re.compile(r"[^/]*@|[^/:@\[]*:(?!\d+(?:[/?#]|$))(?!:)[^@]*@")
# A web address is signed by its query or fragment as a whole. A sentence may go on with a point or a bracket.
_WEB_QUERY = re.compile(r"""[?#](?!\.{3}(?:[.,:;)'"]|$)).*?[^.,:;)'"](?P<end>[.,:;)'"]*)$""")
_PARAMETER = re.compile(
    r"(?P<name>[?&][\w.-]*(?:signature|token|secret|passw(?:or)?d|pwd|credentials?|(?:access|account|api|private|sas|secret)[_-]?"
    r"key(?:[_-]?id)?)|[?&](?:sig|key|sas))=[^&\s'\")]+",
    re.IGNORECASE,
)
_WEB = ("http", "https")
_NAMES_CONTAINER = ("abfs", "abfss", "wasb", "wasbs")
"""schemes whose user is a container, which is no secret"""
# A command is the rest of a word, as in "--images=pipe:..." and "IMAGES::pipe:..."; in a sentence, of the line.
_COMMAND_WORD = re.compile(r"(?P<before>(?:\S*(?:=|::))?)pipe:(?!\.{3}).*", re.DOTALL)
_COMMAND = re.compile(r"(?:(?<=[\s=('\",])|(?<=::))pipe:(?=\S)(?!\.{3}).*")


def without_secrets(text: str) -> str:
    """A location, or any text with locations in it, without users, passwords, signatures and commands.

    Nothing is kept of a command: only its writer knows what in it is a secret. Doing it twice changes nothing.
    """
    if command := _COMMAND_WORD.fullmatch(text):
        return f"{without_secrets(command['before'])}pipe:{LEFT_OUT}"
    if "pipe:" in text:
        text = _COMMAND.sub(f"pipe:{LEFT_OUT}", text)
    return _LOCATION.sub(_without_secrets, text) if ":/" in text else text


def public(value: Any) -> Any:
    """A configuration, or any part of one, as JSON holds it, with every string `without_secrets`."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {name: public(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [public(part) for part in value]
    return value if isinstance(value, int | float | None) else without_secrets(str(value))


def _without_secrets(found: re.Match[str]) -> str:
    scheme, slashes = (found["scheme"], found["slashes"]) if found["scheme"] else (found["store"], found["slash"])
    rest = found["rest"]
    if user := _USER.match(rest):
        container = user[0].removesuffix("@").partition(":")[0] if scheme.lower() in _NAMES_CONTAINER else ""
        rest = (f"{container}@" if container else "") + rest[user.end() :]
    if scheme.lower() in _WEB:
        rest = _WEB_QUERY.sub(rf"?{LEFT_OUT}\g<end>", rest)
    elif "?" in rest:
        # Options of a store may stand behind its bucket: the path follows them.
        options, slash, path = rest.partition("/") if "?" in rest.partition("/")[0] else (rest, "", "")
        rest = _PARAMETER.sub(rf"\g<name>={LEFT_OUT}", options) + slash + path
    return f"{scheme}{slashes}{rest}"
