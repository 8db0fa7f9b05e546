"""Text of a server in a message: one printable, bounded line, from which nobody can fetch a file."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsync.api.foreign_text import MAX_CHARACTERS, foreign_text

SECRET_NAMES = ["X-Amz-Signature", "x-goog-signature", "Signature", "sig", "token", "access_token", "AWSAccessKeyId"]
OTHER_NAMES = ["response-content-disposition", "X-Amz-Credential", "X-Amz-Security-Token", "se", "a", "q"]
SECRET = "5ecre7"
"""Part of each value that must not be shown, and of nothing else."""

words = st.text(st.characters(exclude_characters="=&?#%@:/\\"), max_size=12)
values = st.from_regex(rf"[A-Za-z0-9%+/_~.-]{{0,20}}{SECRET}[A-Za-z0-9%+/_~.=-]{{0,20}}", fullmatch=True)
hosts = st.sampled_from(["bucket.s3.amazonaws.com", "storage.googleapis.com:443", "[2001:db8::1]:9000", "minio"])
paths = st.from_regex(r"(/[A-Za-z0-9_.~-]{0,8}){0,4}", fullmatch=True)
queries = st.lists(st.tuples(st.sampled_from(SECRET_NAMES + OTHER_NAMES), values), min_size=1, max_size=5)


@st.composite
def urls(draw: st.DrawFn) -> str:
    """A URL with a user, a query or a fragment, in the forms in which servers write it."""
    scheme = draw(st.sampled_from(["https://", "http://", "s3://", "//", ""]))
    user = draw(st.sampled_from(["", f"{SECRET}:{SECRET}@", f"alice:{SECRET}@", f"{SECRET}:@"]))
    if scheme and draw(st.booleans()):
        user = user or f"{SECRET}@"
    query = "&".join(f"{name}={value}" for name, value in draw(queries))
    rest = draw(st.sampled_from([f"?{query}", f"#{query}", f"?{query}#top", ""] if scheme else [f"?{query}"]))
    url = f"{scheme}{user}{draw(hosts)}{draw(paths)}{rest}"
    form = draw(st.sampled_from(["plain", "html", "json", "percent"]))
    match form:
        case "html":
            return url.replace("&", "&amp;")
        case "json":
            return url.replace("/", "\\/").replace("&", "\\u0026")
        case "percent":
            return url.replace("%", "%25").translate({ord(c): f"%{ord(c):02X}" for c in ":/?#&=@"})
    return url


glue = st.sampled_from([" ", " (", '"', "', '", ": ", "\n", "\t", ", ", ",", "<a href='", "\x1b[31m", "; "])


@given(st.lists(st.one_of(urls(), words, glue), max_size=12).map("".join))
def test_no_user_and_no_query_of_a_url_is_left(text: str) -> None:
    shown = foreign_text(text)
    assert SECRET not in shown
    assert not [name for name in SECRET_NAMES if f"{name}=".lower() in shown.lower()]


@given(st.text(max_size=2000), st.integers(10, 400))
def test_any_text_becomes_one_printable_line_of_bounded_length(text: str, limit: int) -> None:
    shown = foreign_text(text, limit=limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    assert shown == shown.strip()


@given(urls(), st.integers(0, 300))
def test_a_url_that_is_cut_by_the_limit_shows_no_part_of_a_secret(url: str, before: int) -> None:
    shown = foreign_text("x" * before + " " + url, limit=100)
    assert SECRET[:4] not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://u:p@h:443/a/b?sig=1 failed", "GET https://h:443/a/b… failed"),
        ("GET https://h/a?X-Amz-Sig\nnature=1 failed", "GET https://h/a… failed"),
        ("Did you mean 'production'?", "Did you mean 'production'?"),
        ("alice@acme.com may not read it", "alice@acme.com may not read it"),
        ("ghcr.io/acme/vllm:v1@sha256:abc", "ghcr.io/acme/vllm:v1@sha256:abc"),
        ("at most 20 of 21 & more", "at most 20 of 21 & more"),
        ("a\x00b\u200bc\x1b[31m\r\n  d\u2028e", "abc[31m d e"),
        ("x" * 400, "x" * (MAX_CHARACTERS - 1) + "…"),
        ("", ""),
    ],
)
def test_the_rest_stays_readable(text: str, shown: str) -> None:
    assert foreign_text(text) == shown


@pytest.mark.parametrize("part", ["?", "a=", "//a@", "%3f", "sig", "token", "&a", "x:", "\x00", "\u2028 "])
def test_a_long_text_takes_no_longer_than_a_short_one(part: str) -> None:
    text = part * (2**24 // len(part))
    began = time.process_time()
    foreign_text(text)
    assert time.process_time() - began < 0.5
