"""The TLS certificate of the webhook receiver: loaded from two files, and reloaded when they change.

A certificate and key that do not match, or that are only half written, are logged and not used; the previous
certificate stays in use.
"""

import asyncio
import hashlib
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import structlog

CHECK_INTERVAL = timedelta(seconds=10)

log = structlog.get_logger(__name__)


class CertificateError(ValueError):
    """The certificate and key cannot be used; the message names the files and the reason."""


class Certificate:
    """A certificate chain and its key in PEM files. Raises CertificateError when they cannot be used."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain, self._key = chain, key
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="certificate")
        self._read: tuple[bytes, bytes] | None = None
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        """For a server; connections opened after a reload use the new certificate."""
        self.fingerprint = b""
        """SHA-256 of the certificate, by which another replica with the same files identifies this one."""
        self.renew()

    async def follow(self) -> None:
        """Reload the files whenever they change, as a Secret volume does on renewal. Never returns."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL.total_seconds())
            try:
                changed = await asyncio.get_running_loop().run_in_executor(self._thread, self.renew)
            except CertificateError as error:
                log.warning("webhook.certificate_not_renewed", problem=str(error))
            else:
                if changed:
                    log.info("webhook.certificate_renewed", file=str(self._chain))

    def renew(self) -> bool:
        """Load the files' current content; return whether it has changed. Raises CertificateError."""
        texts = (_read(self._chain), _read(self._key))
        if texts == self._read:
            return False
        try:
            # Try it on a scratch context first: a mismatched pair would leave the live context without a key.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self._chain, self._key, password="")
            self.context.load_cert_chain(self._chain, self._key, password="")
            begin = texts[0].index(b"-----BEGIN CERTIFICATE-----")
            end = texts[0].index(b"-----END CERTIFICATE-----") + len(b"-----END CERTIFICATE-----")
            der = ssl.PEM_cert_to_DER_cert(texts[0][begin:end].decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise CertificateError(
                f"{self._chain} and {self._key} are not a PEM certificate and its unencrypted key "
                f"({getattr(error, 'reason', None) or error})"
            ) from None
        self._read, self.fingerprint = texts, hashlib.sha256(der).digest()
        return True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read ({error.strerror}); give a PEM file") from None
