"""Presigned URLs: ranges, conditions, expiry, single and multipart uploads."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import quote

import pytest

from integration.wandb_standin.wire import file_urls, graphql, send
from wandb_standin import Admin, StandIn

CONTENT = bytes(range(256)) * 40


def content_md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


@pytest.fixture
def url(standin: StandIn, admin: Admin, collection: str) -> str:
    """The URL of a file of 10,240 bytes."""
    admin.log_artifact("acme-ml", "llm", collection, {"model.safetensors": CONTENT, "empty": b""})
    return file_urls(standin.url, f"acme-ml/llm/{collection}:v0")["model.safetensors"]


def test_a_file_needs_no_key_and_has_its_size_and_md5(url: str) -> None:
    answer = send(url)

    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.headers["Content-Length"] == "10240"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["ETag"] == f'"{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"'


@pytest.mark.parametrize(
    ("asked", "first", "last"), [("bytes=0-0", 0, 0), ("bytes=100-", 100, 10239), ("bytes=-5", 10235, 10239)]
)
def test_a_range_is_partial_content(url: str, asked: str, first: int, last: int) -> None:
    answer = send(url, headers={"Range": asked})

    assert (answer.status, answer.body) == (206, CONTENT[first : last + 1])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/10240"


def test_a_range_beyond_the_end_is_416_with_the_size(url: str) -> None:
    answer = send(url, headers={"Range": "bytes=10240-"})

    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */10240")


def test_head_returns_the_size_without_a_body(url: str) -> None:
    answer = send(url, "HEAD")

    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "10240", b"")


def test_an_empty_file_is_served(standin: StandIn, url: str, collection: str) -> None:
    answer = send(file_urls(standin.url, f"acme-ml/llm/{collection}:v0")["empty"])

    assert (answer.status, answer.body) == (200, b"")


def test_the_log_shows_the_actual_answer(admin: Admin, url: str) -> None:
    before = admin.last_request()
    send(url, headers={"Range": "bytes=1-2"})

    (logged,) = admin.requests(since=before, operation="download")
    assert (logged.status, logged.refs, logged.user) == (206, ("model.safetensors",), None)


def test_an_address_with_another_signature_or_method_is_refused(url: str) -> None:
    assert send(url[:-1] + ("0" if url[-1] != "0" else "1")).status == 403
    assert send(url, "PUT", body=b"mine now").status == 403
    assert b"SignatureDoesNotMatch" in send(url.partition("?")[0]).body


def test_an_address_that_has_expired_is_403_and_a_new_one_holds(
    standin: StandIn, admin: Admin, url: str, collection: str
) -> None:
    admin.expire_urls()

    answer = send(url)

    assert answer.status == 403
    assert b"Request has expired" in answer.body
    assert send(file_urls(standin.url, f"acme-ml/llm/{collection}:v0")["model.safetensors"]).status == 200


def test_addresses_can_be_made_to_expire_at_once(standin: StandIn, admin: Admin, url: str, collection: str) -> None:
    admin.configure(url_expiry_seconds=0)

    assert send(file_urls(standin.url, f"acme-ml/llm/{collection}:v0")["model.safetensors"]).status == 403


def test_addresses_lead_back_by_the_way_the_client_came(standin: StandIn, url: str, collection: str) -> None:
    by_name = standin.url.replace("127.0.0.1", "localhost")

    found = file_urls(by_name, f"acme-ml/llm/{collection}:v0")["model.safetensors"]

    assert found.startswith(f"{by_name}/")
    assert send(found).body == CONTENT


def test_the_sdks_fallback_address_takes_the_key(standin: StandIn, admin: Admin, url: str, collection: str) -> None:
    manifest = json.loads(send(file_urls(standin.url, f"acme-ml/llm/{collection}:v0")["wandb_manifest.json"]).body)
    entry = manifest["contents"]["model.safetensors"]
    digest = base64.b64decode(entry["digest"]).hex()
    path = f"/artifactsV2/default/acme-ml/llm/{collection}/{quote(entry['birthArtifactID'])}/{digest}/model.safetensors"
    key = base64.b64encode(f"api:{standin.api_key}".encode()).decode()

    assert send(standin.url + path, headers={"Authorization": f"Basic {key}"}).body == CONTENT
    assert send(standin.url + path).status == 403
    for wrong in (path.replace(digest, "f" * 32), path.replace(digest, "no-hex")):
        assert send(standin.url + wrong, headers={"Authorization": f"Basic {key}"}).status == 404


def test_a_large_file_is_uploaded_in_parts(standin: StandIn, admin: Admin, collection: str) -> None:
    parts = [b"a" * 1000, b"b" * 1000, b"c" * 10]
    whole = b"".join(parts)
    artifact_id = create_artifact(standin, collection, {"big.safetensors": whole})
    spec = {
        "artifactID": artifact_id,
        "name": "big.safetensors",
        "md5": content_md5(whole),
        "uploadPartsInput": [
            {"partNumber": n, "hexMD5": hashlib.md5(p, usedforsecurity=False).hexdigest()}
            for n, p in enumerate(parts, 1)
        ],
    }
    node = create_files(standin, [spec])[0]
    done = []
    for part, target in zip(parts, node["uploadMultipartUrls"]["uploadUrlParts"], strict=True):
        answer = send(target["uploadUrl"], "PUT", {"Content-MD5": content_md5(part)}, part)
        done.append({"partNumber": target["partNumber"], "hexMD5": answer.headers["ETag"]})
    complete = """mutation C($a: ID!, $s: String!, $u: String!, $p: [UploadPartsInput!]!) {
        completeMultipartUploadArtifact(input: {completeMultipartAction: Complete, artifactID: $a, storagePath: $s,
            uploadID: $u, completedParts: $p}) { digest } }"""
    upload_id = node["uploadMultipartUrls"]["uploadID"]
    answer = graphql(standin.url, complete, a=artifact_id, s=node["storagePath"], u=upload_id, p=list(reversed(done)))
    assert answer.json["data"]["completeMultipartUploadArtifact"]["digest"] == content_md5(whole)

    commit(standin, artifact_id, {"big.safetensors": (whole, node["artifact"]["id"])})

    assert send(file_urls(standin.url, f"acme-ml/llm/{collection}:v0")["big.safetensors"]).body == whole


def test_an_upload_that_does_not_match_its_md5_is_refused(standin: StandIn, collection: str) -> None:
    artifact_id = create_artifact(standin, collection, {"a": b"right"})
    spec = {"artifactID": artifact_id, "name": "a", "md5": content_md5(b"right")}
    (node,) = create_files(standin, [spec])

    answer = send(node["uploadUrl"], "PUT", {"Content-MD5": content_md5(b"right")}, b"wrong")

    assert answer.status == 400
    assert b"BadDigest" in answer.body


def test_a_version_whose_files_were_not_uploaded_is_not_committed(standin: StandIn, collection: str) -> None:
    artifact_id = create_artifact(standin, collection, {"a": b"never sent"})

    answer = commit(standin, artifact_id, {"a": (b"never sent", artifact_id)})

    assert (answer["errors"][0]["message"]) == "cannot commit: file 'a' of the manifest was not uploaded"


def create_artifact(standin: StandIn, collection: str, files: dict[str, bytes]) -> str:
    lines = "".join(f"{n}:{content_md5(c)}\n" for n, c in sorted(files.items()))
    digest = hashlib.md5(f"wandb-artifact-manifest-v1\n{lines}".encode(), usedforsecurity=False).hexdigest()
    mutation = "mutation A($i: CreateArtifactInput!) { createArtifact(input: $i) { artifact { id state } } }"
    created = graphql(
        standin.url,
        mutation,
        i={
            "entityName": "acme-ml",
            "projectName": "llm",
            "artifactTypeName": "model",
            "artifactCollectionName": collection,
            "digest": digest,
            "digestAlgorithm": "MANIFEST_MD5",
        },
    ).json["data"]["createArtifact"]["artifact"]
    assert created["state"] == "PENDING"
    return str(created["id"])


def create_files(standin: StandIn, specs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    mutation = """mutation F($i: CreateArtifactFilesInput!) { createArtifactFiles(input: $i) { files { edges { node {
        storagePath uploadUrl uploadHeaders artifact { id }
        uploadMultipartUrls { uploadID uploadUrlParts { partNumber uploadUrl } } } } } } }"""
    answer = graphql(standin.url, mutation, i={"artifactFiles": specs, "storageLayout": "V2"}).json
    return [edge["node"] for edge in answer["data"]["createArtifactFiles"]["files"]["edges"]]


def commit(standin: StandIn, artifact_id: str, files: dict[str, tuple[bytes, str]]) -> dict[str, Any]:
    contents = {
        name: {"digest": content_md5(content), "size": len(content), "birthArtifactID": birth}
        for name, (content, birth) in files.items()
    }
    document = json.dumps({"version": 1, "storagePolicy": "wandb-storage-policy-v1", "contents": contents}).encode()
    mutation = """mutation M($a: ID!, $d: String!) { createArtifactManifest(input: {artifactID: $a, digest: $d,
        name: "wandb_manifest.json", entityName: "acme-ml", projectName: "llm", runName: "r", type: FULL}) {
        artifactManifest { file { uploadUrl } } } }"""
    made = graphql(standin.url, mutation, a=artifact_id, d=content_md5(document)).json
    send(made["data"]["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"], "PUT", body=document)
    commit_it = "mutation C($a: ID!) { commitArtifact(input: {artifactID: $a}) { artifact { id state } } }"
    answer: dict[str, Any] = graphql(standin.url, commit_it, a=artifact_id).json
    return answer
