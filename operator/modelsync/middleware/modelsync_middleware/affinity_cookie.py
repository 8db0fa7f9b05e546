"""The cookie that pins a client to the revision that answered it first (`spec.traffic.sessionAffinity`).

While stable and canary share the traffic, the gateway adds a header to requests that are routed by weight. The header
contains the cookie's name and lifetime; the cookie's value is this pod's revision. Requests with a valid cookie match a
rule that adds no header, and a response to a request without the header sets no cookie. A client that sends the header
itself only gets a cookie for itself. Standard library only; reads MODELSYNC_REVISION.
"""

from __future__ import annotations

import os
import re

from .asgi import Header, Message, Scope

SESSION_HEADER = b"x-modelsync-session"

_COOKIE_REQUEST = re.compile(rb"(modelsync-[a-z0-9.-]{1,64}); (Max-Age=[0-9]{1,6})")
_REVISION = re.compile(rb"[a-z0-9-]{1,64}")


class Session:
    """Decides which cookie a response sets."""

    def __init__(self) -> None:
        revision = os.environ.get("MODELSYNC_REVISION", "").encode()
        self._revision = revision if _REVISION.fullmatch(revision) else b""

    def headers(self, scope: Scope, head: Message) -> list[Header]:
        """The header to add to the response `head`. No client must be pinned to a version that returned an error."""
        if not self._revision or head["status"] >= 400:
            return []
        for name, value in scope["headers"]:
            if name == SESSION_HEADER and (requested := _COOKIE_REQUEST.fullmatch(value)):
                cookie, life = requested.groups()
                return [(b"set-cookie", b"%s=%s; %s; Path=/; HttpOnly; SameSite=Lax" % (cookie, self._revision, life))]
        return []
