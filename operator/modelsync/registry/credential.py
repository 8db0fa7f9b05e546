"""A W&B API key, kept where it cannot be printed.

Everything that sends a key takes a `Credential`. The key must never reach a log line, an error, a repr or a URL;
`scrub` takes it out of text that came from a server.
"""

import base64
import re

MIN_KEY_LENGTH = 40
"""What wandb's own client demands (wandb.sdk.lib.wbauth.validation): a shorter key is one that was cut off."""

_SECRET = re.compile(r"[\w-]+", re.ASCII)
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


class InvalidCredentialError(ValueError):
    """What was given as a key cannot be one; the message says why, and never shows it."""


class Credential:
    """A W&B API key. Its text is only to be had as `key`; repr and str hide it."""

    __slots__ = ("_key",)

    def __init__(self, key: str, *, source: str = "the W&B API key") -> None:
        """Check `key`; white space around it is dropped, since Secrets made with `echo` end in a newline.

        `source` is where the key came from, for the error: `WANDB_API_KEY`, `Secret prod/wandb key WANDB_API_KEY`.
        Raises InvalidCredentialError, with the rule of wandb's own client.
        """
        text = key.strip()
        if not text:
            raise InvalidCredentialError(f"{source} is empty; set it to a key from the W&B user settings")
        if not _JWT.fullmatch(text):
            if not _SECRET.fullmatch(text):
                raise InvalidCredentialError(
                    f"{source} holds characters that no W&B API key has (allowed: letters, digits, '_' and '-'); "
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
        """The key itself, for the one place that puts it into a request."""
        return self._key

    def scrub(self, text: str) -> str:
        """Take the key, plain or as it stands in the Authorization header, out of `text`."""
        basic = base64.b64encode(f"api:{self._key}".encode()).decode()
        return text.replace(self._key, "***").replace(basic, "***")

    def __repr__(self) -> str:
        return "Credential(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Credential) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> str:
        raise TypeError("a Credential is not to be pickled or copied out of the process")
