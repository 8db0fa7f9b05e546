"""Presigned URLs, which grant access for a limited time, as S3's do."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

DEFAULT_EXPIRY_SECONDS: Final = 3600.0
STORAGE_PATH: Final = "/storage/"


class Signer:
    """Creates and checks URLs. They are signed with a secret of the process, and so are invalid after a restart."""

    def __init__(self, expiry_seconds: float = DEFAULT_EXPIRY_SECONDS) -> None:
        self.expiry_seconds = expiry_seconds
        self._secret = secrets.token_bytes(32)
        self._revoked_before = 0.0

    def revoke(self) -> None:
        """Treat every URL created so far as expired."""
        self._revoked_before = time.time()

    def url(self, base_url: str, method: str, key: str) -> str:
        """A URL for one method (`GET` includes HEAD) on one object, below the address that the client itself used."""
        signed_at = repr(time.time())
        expires = f"{self.expiry_seconds:g}"
        query = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={signed_at}&X-Amz-Expires={expires}"
        signature = self._sign(method, key, signed_at, expires)
        return f"{base_url}{STORAGE_PATH}{quote(key)}?{query}&X-Amz-Signature={signature}"

    def refusal(self, method: str, key: str, query: Mapping[str, str]) -> str | None:
        """Why the URL is not valid, as an S3 error code; None if it is."""
        method = "GET" if method == "HEAD" else method
        signed_at, expires = query.get("X-Amz-Date", ""), query.get("X-Amz-Expires", "")
        if not hmac.compare_digest(query.get("X-Amz-Signature", ""), self._sign(method, key, signed_at, expires)):
            return "SignatureDoesNotMatch"
        over = float(signed_at) + float(expires) < time.time() or float(signed_at) <= self._revoked_before
        return "AccessDenied" if over else None

    def _sign(self, method: str, key: str, signed_at: str, expires: str) -> str:
        message = f"{method}\n{key}\n{signed_at}\n{expires}"
        return hmac.new(self._secret, message.encode(), hashlib.sha256).hexdigest()
