"""The certificate that the webhook receiver shows: read from two files, and read again when they change.

A pair that does not fit, or half of a change, is told and not used: the one before goes on.
"""

import asyncio
import hashlib
import ssl
from datetime import timedelta
from pathlib import Path

import structlog

LOOK_AGAIN = timedelta(seconds=10)

log = structlog.get_logger(__name__)


class CertificateError(ValueError):
    """The pair cannot be used; the message names the files and says why."""


class Certificate:
    """A certificate chain and its key in PEM files. Raises CertificateError when they cannot be used."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain, self._key = chain, key
        self._read: tuple[bytes, bytes] | None = None
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        """For a server; connections that are opened after a change show the new certificate."""
        self.fingerprint = b""
        """SHA-256 of the certificate itself, by which another process with the same files knows this one."""
        self.renew()

    async def follow(self) -> None:
        """Read the files again for ever, as a volume of a Secret changes them when the certificate is renewed."""
        while True:
            await asyncio.sleep(LOOK_AGAIN.total_seconds())
            try:
                changed = await asyncio.to_thread(self.renew)
            except CertificateError as error:
                log.warning("webhook.certificate_not_renewed", problem=str(error))
            else:
                if changed:
                    log.info("webhook.certificate_renewed", file=str(self._chain))

    def renew(self) -> bool:
        """Use what the files hold now; whether that is something new. Raises CertificateError."""
        texts = (_read(self._chain), _read(self._key))
        if texts == self._read:
            return False
        try:
            # First where it does no harm: a pair that does not fit would leave the context without a key.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self._chain, self._key, password="")
            self.context.load_cert_chain(self._chain, self._key, password="")
            begin = texts[0].index(b"-----BEGIN CERTIFICATE-----")
            end = texts[0].index(b"-----END CERTIFICATE-----") + len(b"-----END CERTIFICATE-----")
            der = ssl.PEM_cert_to_DER_cert(texts[0][begin:end].decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise CertificateError(
                f"{self._chain} and {self._key} are no certificate in PEM with its key, without a password "
                f"({getattr(error, 'reason', None) or error})"
            ) from None
        self._read, self.fingerprint = texts, hashlib.sha256(der).digest()
        return True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read ({error.strerror}); give a PEM file") from None
