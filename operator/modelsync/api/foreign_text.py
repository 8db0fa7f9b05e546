"""Makes text that a server wrote fit for a message, an event, a status or a log.

Servers quote what they were asked for and what they asked others: signed URLs, URLs with a user and password, whole
pages. Whoever reads the message must not be able to fetch the files, and no text may steer a terminal or fill a status.
"""

import re

MAX_CHARACTERS = 300

_USER = re.compile(
    r"(?<=//)[^/?#]*@|(?<=%2f)[^/?#]*%40|[^\s/@:\"'(,]+:[^\s/@]*@(?!sha256:)|[^\s/%\"'(,]+%3a[^\s/?#]*%40",
    re.IGNORECASE,
)
"""Of a URL, or of an address without a scheme. `name:tag@sha256:…` is an image."""
_QUERY = re.compile(r"(?:[?]|%3f|%23|(?<=.)#)(?=[^?.,;:!)\]}\"'])|(?:&|%26)[^\s=%]*(?:=|%3d)", re.IGNORECASE)
_SECRET = re.compile(
    r"[\w.-]*(?:sig|signature|token|secret|passw(?:or)?d|pwd|credentials?|key|auth|session|sessionid)(?:=|%3d)",
    re.IGNORECASE,
)
_ASSIGNMENT = re.compile(r"=|%3d", re.IGNORECASE)


def foreign_text(text: str, *, limit: int = MAX_CHARACTERS) -> str:
    """Return `text` as one printable line of at most `limit` characters, without users and queries of URLs.

    Takes time in proportion to `limit`, however long the text is. A result is not changed by another call.
    """
    start = text[: 8 * limit]
    cut = len(start) < len(text)
    line = "".join(letter for letter in start if letter.isprintable() or letter.isspace()).replace("\\/", "/")
    words = line.split()
    if cut and words and not line[-1].isspace():
        words.pop()  # it may go on: without its end, an `@` or a `=` in it is not seen
    shown = []
    in_query = False
    for word in words:
        clean = _without_secrets(word)
        if in_query and _ASSIGNMENT.search(clean):  # the URL had a space or a line break in its query
            continue
        in_query = in_query or clean != word
        shown.append(clean)
    result = " ".join([*shown, *(["…"] if cut else [])])
    return result if len(result) <= limit else f"{result[: limit - 1]}…"


def _without_secrets(word: str) -> str:
    clean = _USER.sub("", word)
    for pattern in (_QUERY, _SECRET):
        if found := pattern.search(clean):
            clean = f"{clean[: found.start()]}…"
    return clean
