"""Files of a web server: one request, one response.

In: an http or https address. Out: its response, open for reading.
"""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen


def open_web(address: str, timeout_s: float) -> Any:
    """Open an address, with the user and password that it names; `length` of the response is None where not told.

    `timeout_s`: how long the server may send nothing. Raises OSError, of which HTTPError is one, and HTTPException.
    """
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    # Names with spaces or accents, as people paste them; what is encoded already stays.
    path, query = quote(parts.path, safe="/%:@!$&'()*+,;="), quote(parts.query, safe="/%:@!$&'()*+,;=?")
    plain = parts._replace(netloc=host, path=path, query=query, fragment="").geturl()
    request = Request(plain, headers={"Accept-Encoding": "identity"})
    if at:
        # Unredirected: the password is for this host alone.
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return urlopen(request, timeout=timeout_s)
