"""The cookie that keeps a client with the revision that answered it first (`spec.traffic.sessionAffinity`).

While stable and canary share the traffic, the gateway adds a header to the requests that go by the weights. It says how
the cookie is called and how long it lives; the value is this pod's revision. A client that already has a valid cookie
comes by a rule that adds nothing, and an answer without the header sets nothing. A client that sends the header itself
gets a cookie that only it will send back. Standard library only; reads MODELSYNC_REVISION.
"""

from __future__ import annotations

import os
import re

from .asgi import Header, Message, Scope

SESSION_HEADER = b"x-modelsync-session"

_WISH = re.compile(rb"(modelsync-[a-z0-9.-]{1,64}); (Max-Age=[0-9]{1,6})")
_REVISION = re.compile(rb"[a-z0-9-]{1,64}")


class Session:
    """Says which cookie an answer is to set."""

    def __init__(self) -> None:
        revision = os.environ.get("MODELSYNC_REVISION", "").encode()
        self._revision = revision if _REVISION.fullmatch(revision) else b""

    def headers(self, scope: Scope, head: Message) -> list[Header]:
        """The header to add to an answer that begins with `head`. Nobody is to stay with a version that failed it."""
        if not self._revision or head["status"] >= 400:
            return []
        for name, value in scope["headers"]:
            if name == SESSION_HEADER and (wish := _WISH.fullmatch(value)):
                cookie, life = wish.groups()
                return [(b"set-cookie", b"%s=%s; %s; Path=/; HttpOnly; SameSite=Lax" % (cookie, self._revision, life))]
        return []
