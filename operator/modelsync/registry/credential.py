"""A W&B API key, wrapped so that it cannot be printed by accident.

Everything that sends a key takes a `Credential`. The key must never reach a log line, an error, a repr or a URL;
`scrub` removes it from text that came from a server.
"""

import base64
import re

MIN_KEY_LENGTH = 40
"""The minimum of wandb's own client (wandb.sdk.lib.wbauth.validation): a shorter key has been truncated."""

_SECRET = re.compile(r"[\w-]+", re.ASCII)
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


class InvalidCredentialError(ValueError):
    """The text is not a valid API key; the message gives the reason and never contains the text."""


class Credential:
    """A W&B API key. Only `key` returns its text; repr and str hide it."""

    __slots__ = ("_key",)

    def __init__(self, key: str, *, source: str = "the W&B API key") -> None:
        """Validate `key` by the rules of wandb's own client. Raises InvalidCredentialError.

        Surrounding white space is stripped, since Secrets made with `echo` end in a newline. `source` names where the
        key came from, for the error: `WANDB_API_KEY`, `Secret prod/wandb key WANDB_API_KEY`.
        """
        text = key.strip()
        if not text:
            raise InvalidCredentialError(f"{source} is empty; set it to a key from the W&B user settings")
        if not _JWT.fullmatch(text):
            if not _SECRET.fullmatch(text):
                raise InvalidCredentialError(
                    f"{source} contains characters that no W&B API key has (allowed: letters, digits, '_' and '-'); "
                    "copy the key again from the W&B user settings"
                )
            if len(text) < MIN_KEY_LENGTH:
                raise InvalidCredentialError(
                    f"{source} must have {MIN_KEY_LENGTH} characters or more, has {len(text)}; "
                    "copy the whole key from the W&B user settings"
                )
        self._key = text

    @property
    def key(self) -> str:
        """The key itself, for the code that puts it into a request."""
        return self._key

    def scrub(self, text: str) -> str:
        """Remove the key, plain or as encoded in the Authorization header, from `text`."""
        basic = base64.b64encode(f"api:{self._key}".encode()).decode()
        return text.replace(self._key, "***").replace(basic, "***")

    def __repr__(self) -> str:
        return "Credential(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credential) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> str:
        raise TypeError("a Credential must not be pickled or copied out of the process")
