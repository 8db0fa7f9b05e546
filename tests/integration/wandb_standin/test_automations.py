"""Webhooks: what fires them, what does not, and their payload. The receiver is a real HTTP server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from wandb_standin import Admin

PAYLOAD = {
    "event": "${event_type}",
    "collection": "${entity_name}/${project_name}/${artifact_collection_name}",
    "version": "${artifact_version_string}",
    "id": "${artifact_version}",
    "alias": "${alias}",
    "tag": "${tag}",
    "author": "${event_author}",
    "accuracy": "${artifact_metadata.accuracy}",
    "token": "${ACCESS_TOKEN}",
}


@dataclass
class Post:
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """Receives posts and returns them in order."""

    def __init__(self) -> None:
        self.posts: queue.Queue[Post] = queue.Queue()
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posts.put(Post(dict(self.headers), body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/webhook"

    def next(self) -> Post:
        return self.posts.get(timeout=10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def linked(admin: Admin, collection: str) -> str:
    """A registry collection with two versions, v0 and v1; the source collection has the same name."""
    target = f"acme/wandb-registry-model/{collection}"
    for number in range(2):
        made = admin.log_artifact(
            "acme-ml", "llm", collection, {"a": f"{collection}{number}".encode()}, metadata={"accuracy": 0.5 + number}
        )
        admin.link(made, target)
    return target


def test_an_alias_that_is_given_fires_with_the_users_payload(admin: Admin, receiver: Receiver, linked: str) -> None:
    admin.add_automation(
        "promote",
        url=receiver.url,
        scope=linked,
        event="ADD_ARTIFACT_ALIAS",
        filter={"$or": [{"$and": [{"alias": {"$eq": "production"}}]}]},
        payload=PAYLOAD,
        access_token="receiver-token",
        secret="signing-secret",
    )
    admin.set_alias(f"{linked}:v0", "other")
    shown = admin.set_alias(f"{linked}:v1", "production")

    post = receiver.next()

    assert post.json == {
        "event": "ADD_ARTIFACT_ALIAS",
        "collection": linked,
        "version": f"{linked}:v1",
        "id": f"wandb-artifact://_id/{shown.artifact_id}",
        "alias": "production",
        "tag": "${tag}",
        "author": "",
        "accuracy": "1.5",
        "token": "receiver-token",
    }
    assert post.headers["Authorization"] == "Bearer receiver-token"
    assert post.headers["Content-Type"] == "application/json"
    signed = hmac.new(b"signing-secret", post.body, hashlib.sha256).digest()
    assert post.headers["X-Wandb-Signature"] == base64.b64encode(signed).decode()


def test_without_a_payload_the_body_is_an_empty_object(admin: Admin, receiver: Receiver, linked: str) -> None:
    admin.add_automation("bare", url=receiver.url, scope=linked, event="ADD_ARTIFACT_ALIAS")
    admin.set_alias(f"{linked}:v0", "bare")

    post = receiver.next()

    assert post.body == b"{}"
    assert "Authorization" not in post.headers
    assert "X-Wandb-Signature" not in post.headers


def test_an_alias_that_is_taken_away_or_stays_fires_nothing(admin: Admin, receiver: Receiver, linked: str) -> None:
    admin.set_alias(f"{linked}:v0", "production")
    admin.add_automation("any", url=receiver.url, scope=linked, event="ADD_ARTIFACT_ALIAS", payload=PAYLOAD)

    admin.set_alias(f"{linked}:v0", "production")
    admin.remove_alias(linked, "production")
    admin.set_alias(f"{linked}:v0", "after")

    assert receiver.next().json["alias"] == "after"
    assert receiver.posts.empty()


def test_a_tag_of_a_version_fires_where_the_version_was_born(
    admin: Admin, receiver: Receiver, linked: str, collection: str
) -> None:
    for event in ("ADD_ARTIFACT_TAG", "REMOVE_ARTIFACT_TAG"):
        admin.add_automation(event, url=receiver.url, scope="acme-ml/llm", event=event, payload=PAYLOAD)

    admin.add_tag(f"{linked}:v1", "regulatory-hold")
    added = receiver.next().json
    admin.remove_tag(f"{linked}:v1", "regulatory-hold")
    removed = receiver.next().json

    assert (added["event"], added["tag"], added["version"]) == (
        "ADD_ARTIFACT_TAG",
        "regulatory-hold",
        f"acme-ml/llm/{collection}:v1",
    )
    assert (removed["event"], removed["tag"]) == ("REMOVE_ARTIFACT_TAG", "${tag}")


def test_a_registrys_automation_hears_of_version_tags_only_where_that_is_set(
    admin: Admin, receiver: Receiver, linked: str
) -> None:
    admin.add_automation("reg", url=receiver.url, scope=linked, event="ADD_ARTIFACT_TAG", payload=PAYLOAD)

    admin.add_tag(f"{linked}:v0", "unheard")
    admin.configure(registry_tag_events=True)
    admin.add_tag(f"{linked}:v0", "heard")

    assert receiver.next().json["tag"] == "heard"
    assert receiver.posts.empty()


def test_the_organizations_automation_hears_of_its_teams(admin: Admin, receiver: Receiver, linked: str) -> None:
    automation = admin.add_automation("org", url=receiver.url, scope="acme", event="ADD_ARTIFACT_TAG", payload=PAYLOAD)
    admin.add_tag(f"{linked}:v0", "org-wide")

    assert receiver.next().json["tag"] == "org-wide"
    admin.remove_automation(automation)


def test_a_tag_of_a_collection_fires(admin: Admin, receiver: Receiver, linked: str) -> None:
    for event in ("ADD_COLLECTION_TAG", "REMOVE_COLLECTION_TAG"):
        admin.add_automation(event, url=receiver.url, scope=linked, event=event, payload=PAYLOAD)

    admin.add_collection_tag(linked, "regulatory-hold v1")
    added = receiver.next().json
    admin.remove_collection_tag(linked, "regulatory-hold v1")

    assert (added["event"], added["tag"], added["collection"]) == ("ADD_COLLECTION_TAG", "regulatory-hold v1", linked)
    assert receiver.next().json["event"] == "REMOVE_COLLECTION_TAG"


def test_a_link_fires_link_artifact(admin: Admin, receiver: Receiver, linked: str, collection: str) -> None:
    admin.add_automation(
        "link", url=receiver.url, scope="acme/wandb-registry-model", event="LINK_ARTIFACT", payload=PAYLOAD
    )

    admin.link(admin.log_artifact("acme-ml", "llm", collection, {"a": b"new"}), linked)

    post = receiver.next().json
    assert (post["event"], post["version"]) == ("LINK_ARTIFACT", f"{linked}:v2")


def test_a_receiver_that_is_gone_is_shown_and_not_tried_again(admin: Admin, linked: str) -> None:
    gone = Receiver()
    gone.server.server_close()
    admin.add_automation("gone", url=gone.url, scope=linked, event="ADD_ARTIFACT_ALIAS")
    admin.set_alias(f"{linked}:v0", "lost")

    (delivery,) = admin.wait_for_deliveries("gone")

    assert delivery.status is None
    assert "ClientConnectorError" in (delivery.error or "")


def test_the_sdk_makes_an_automation_that_posts(
    admin: Admin, receiver: Receiver, api: Any, linked: str, collection: str
) -> None:
    from wandb.automations import ArtifactEvent, OnAddArtifactAlias, SendWebhook

    admin.add_automation("seed", url=receiver.url, scope=linked, event="CREATE_ARTIFACT")
    (hook,) = [i for i in api.webhook_integrations("acme") if i.name == "seed" and i.url_endpoint == receiver.url]
    scope = api.artifact_collection("model", linked)
    event = OnAddArtifactAlias(scope=scope, filter=ArtifactEvent.alias.eq("production"))

    made = api.create_automation(
        event >> SendWebhook.from_integration(hook, payload={"alias": "${alias}"}), name=f"sdk-{collection}"
    )
    admin.set_alias(f"{linked}:v1", "production")

    assert made.name == f"sdk-{collection}"
    assert receiver.next().json == {"alias": "production"}
    assert f"sdk-{collection}" in {a.name for a in api.automations(entity="acme")}
    api.delete_automation(made)
    assert f"sdk-{collection}" not in {a.name for a in api.automations(entity="acme")}
