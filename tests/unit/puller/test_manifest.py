import hashlib
import json
from typing import Any

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from modelsync.puller.digests import Algorithm
from modelsync.puller.errors import (
    BadManifestError,
    ManifestMismatchError,
    PullError,
    UnsafeNameError,
    UnsupportedReferenceError,
)
from modelsync.puller.manifest import Manifest, read_manifest

EMPTY_MD5 = "1B2M2Y8AsgTpgAmY7PhCfg=="
OTHER_MD5 = "mZFLkyvTelC5g8XnyQrpOw=="


def digest(contents: dict[str, Any], make: Any = hashlib.md5) -> str:
    """An independent implementation of wandb's digest."""
    lines = "".join(f"{path}:{entry['digest']}\n" for path, entry in sorted(contents.items()))
    return str(make(b"wandb-artifact-manifest-v1\n" + lines.encode()).hexdigest())


def document(contents: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps(
        {"version": 1, "storagePolicy": "wandb-storage-policy-v1", "storagePolicyConfig": {}, "contents": contents}
        | fields
    ).encode()


def read(contents: dict[str, Any], algorithm: Algorithm = Algorithm.MD5) -> Manifest:
    make = hashlib.md5 if algorithm is Algorithm.MD5 else xxhash.xxh128
    return read_manifest(document(contents), digest=digest(contents, make), algorithm=algorithm)


def test_a_manifest_with_the_artifacts_digest_is_read() -> None:
    manifest = read({"b": {"digest": OTHER_MD5, "size": 2}, "a": {"digest": EMPTY_MD5, "size": 0}})
    assert [(entry.path, entry.size, entry.algorithm) for entry in manifest.entries] == [
        ("a", 0, Algorithm.MD5),
        ("b", 2, Algorithm.MD5),
    ]
    assert manifest.size == 2


def test_an_xxh128_manifest_is_proved_by_xxh128() -> None:
    contents = {"a": {"digest": EMPTY_MD5, "size": 1, "extra": {"alg": "XXH128"}}, "b": {"digest": OTHER_MD5}}
    manifest = read(contents, Algorithm.XXH128)
    assert [entry.algorithm for entry in manifest.entries] == [Algorithm.XXH128, Algorithm.MD5]
    with pytest.raises(ManifestMismatchError):
        read_manifest(document(contents), digest=digest(contents), algorithm=Algorithm.XXH128)


def test_wandbs_own_manifest_code_agrees_on_the_digest() -> None:
    from wandb.sdk.artifacts._generated import ArtifactDigestAlgorithm
    from wandb.sdk.artifacts.artifact_manifests.artifact_manifest_v1 import ArtifactManifestV1

    contents = {
        "ä/z.bin": {"digest": OTHER_MD5, "size": 2},
        "a b": {"digest": EMPTY_MD5, "size": 0},
        "Z": {"digest": EMPTY_MD5, "size": 0},
    }
    for theirs, ours in (
        (ArtifactDigestAlgorithm.MANIFEST_MD5, Algorithm.MD5),
        (ArtifactDigestAlgorithm.MANIFEST_XXH128, Algorithm.XXH128),
    ):
        oracle = ArtifactManifestV1.from_manifest_json(json.loads(document(contents)), theirs)
        assert len(read_manifest(document(contents), digest=oracle.digest(), algorithm=ours).entries) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda contents: contents.pop("a"),
        lambda contents: contents.update(c={"digest": EMPTY_MD5}),
        lambda contents: contents["a"].update(digest=OTHER_MD5),
        lambda contents: contents.update(A=contents.pop("a")),
    ],
    ids=["dropped", "added", "swapped", "renamed"],
)
def test_any_change_to_files_or_digests_is_a_mismatch(change: Any) -> None:
    contents = {"a": {"digest": EMPTY_MD5, "size": 0}, "b": {"digest": OTHER_MD5, "size": 2}}
    proof = digest(contents)
    change(contents)
    with pytest.raises(ManifestMismatchError, match=f"digest is {proof}") as caught:
        read_manifest(document(contents), digest=proof, algorithm=Algorithm.MD5)
    assert caught.value.exit_code == 4


def test_a_name_cannot_forge_a_second_file_into_the_same_digest() -> None:
    honest = {"a": {"digest": EMPTY_MD5}, "b": {"digest": OTHER_MD5}}
    forged = {f"a:{EMPTY_MD5}\nb": {"digest": OTHER_MD5}}
    assert digest(honest) == digest(forged)
    with pytest.raises(UnsafeNameError, match="control character"):
        read(forged)


def test_a_file_named_twice_is_refused_before_anything_else() -> None:
    twice = f'{{"version": 1, "contents": {{"a": {{"digest": "{EMPTY_MD5}"}}, "a": {{"digest": "{OTHER_MD5}"}}}}}}'
    with pytest.raises(UnsafeNameError, match="a twice"):
        read_manifest(twice.encode(), digest="0" * 32, algorithm=Algorithm.MD5)


def test_a_reference_is_refused_by_name_and_never_skipped() -> None:
    with pytest.raises(UnsupportedReferenceError, match=r"w\.bin is a reference to s3://bucket/key") as caught:
        read({"a": {"digest": EMPTY_MD5}, "w.bin": {"digest": "etag", "ref": "s3://bucket/key"}})
    assert caught.value.file == "w.bin"
    assert caught.value.exit_code == 4


def test_a_reference_is_shown_without_its_signature() -> None:
    with pytest.raises(UnsupportedReferenceError, match="https://bucket/key…, not") as caught:
        read({"w.bin": {"digest": "etag", "ref": "https://me:5ecre7@bucket/key?X-Amz-Signature=5ecre7"}})
    assert "5ecre7" not in str(caught.value)


def test_an_md5_artifact_may_not_smuggle_in_the_weaker_hash() -> None:
    with pytest.raises(BadManifestError, match="XXH128 digest in an artifact whose digests are MD5"):
        read({"a": {"digest": EMPTY_MD5, "extra": {"alg": "XXH128"}}})


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        ({"a": {"digest": "etag"}}, "base64 of 16 bytes"),
        ({"a": {"digest": EMPTY_MD5[:-2]}}, "base64 of 16 bytes"),
        ({"a": {"digest": EMPTY_MD5, "size": -1}}, "not a number of bytes"),
        ({"a": {"digest": EMPTY_MD5, "size": True}}, "not a number of bytes"),
        ({"a": {"digest": EMPTY_MD5, "size": "5"}}, "not a number of bytes"),
        ({"a": {"digest": EMPTY_MD5, "extra": {"alg": "SHA3"}}}, "'SHA3'; this modelsync verifies MD5 and XXH128"),
    ],
)
def test_an_entry_that_cannot_be_verified_is_refused(contents: dict[str, Any], why: str) -> None:
    with pytest.raises(BadManifestError, match=why):
        read(contents)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"[]", b"{}", b'{"version": 2, "contents": {}}', b'{"version": 1, "contents": []}',
     b'{"version": 1, "contents": {"a": 1}}', b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(BadManifestError):
        read_manifest(content, digest="0" * 32, algorithm=Algorithm.MD5)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
entries = st.dictionaries(
    st.sampled_from(["digest", "size", "ref", "extra"]), json_values | st.sampled_from([EMPTY_MD5, OTHER_MD5])
)


@given(st.dictionaries(st.text(), entries | json_values, max_size=4))
def test_hostile_manifests_end_in_our_errors_only(contents: dict[str, Any]) -> None:
    body = document(contents)
    with pytest.raises(PullError):
        read_manifest(body, digest="no such digest", algorithm=Algorithm.MD5)
    well_formed = {
        path: entry for path, entry in contents.items() if isinstance(entry, dict) and path.isascii() and entry
    }
    if all("digest" in entry for entry in well_formed.values()):
        try:
            manifest = read(well_formed)
        except PullError:
            return
        assert len(manifest.entries) == len(well_formed)
