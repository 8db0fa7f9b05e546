"""Each fault has its effect on the selected requests, as often as configured, until it is lifted."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead, RemoteDisconnected
from urllib.parse import urlsplit

import pytest

from integration.wandb_standin.wire import file_urls, graphql, resolve, send
from wandb_standin import Admin, AdminError, StandIn

CONTENT = bytes(1000)
VIEWER = "query Who { viewer { username } }"


@pytest.fixture
def urls(standin: StandIn, admin: Admin, collection: str) -> dict[str, str]:
    admin.log_artifact("acme-ml", "llm", collection, {"model.safetensors": CONTENT, "other": b"other"})
    return file_urls(standin.url, f"acme-ml/llm/{collection}:v0")


@pytest.mark.parametrize("status", [401, 403, 404, 500, 502, 503])
def test_a_chosen_operation_answers_with_a_status(standin: StandIn, admin: Admin, status: int) -> None:
    admin.add_fault("status", operation="Who", status=status)

    answer = graphql(standin.url, VIEWER)

    assert answer.status == status
    assert answer.json["errors"][0]["message"]
    assert graphql(standin.url, "query Other { viewer { username } }").status == 200


def test_throttling_returns_when_to_retry(standin: StandIn, admin: Admin) -> None:
    admin.add_fault("status", status=429, retry_after=3, reset=8, operation="Who")

    answer = graphql(standin.url, VIEWER)

    assert answer.status == 429
    assert (answer.headers["Retry-After"], answer.headers["RateLimit-Reset"]) == ("3", "8")
    assert answer.headers["RateLimit-Remaining"] == "0"


def test_a_proxy_page_is_html_with_200(standin: StandIn, admin: Admin) -> None:
    admin.add_fault("html", operation="Who")

    answer = graphql(standin.url, VIEWER)

    assert (answer.status, answer.headers.get_content_type()) == (200, "text/html")


def test_an_answer_can_be_slow(standin: StandIn, admin: Admin) -> None:
    admin.add_fault("slow", operation="Who", delay=0.3)
    began = time.monotonic()

    assert graphql(standin.url, VIEWER).status == 200
    assert time.monotonic() - began >= 0.3


def test_a_slow_answer_comes_when_the_fault_is_lifted(standin: StandIn, admin: Admin) -> None:
    fault = admin.add_fault("slow", operation="Who", delay=3600, times=1)
    with ThreadPoolExecutor(1) as asking:
        answer = asking.submit(graphql, standin.url, VIEWER)
        while admin.faults():
            assert not answer.done(), answer.result()
        admin.lift_fault(fault)
        assert answer.result(timeout=60).status == 200


def test_a_graphql_error_can_come_with_200(standin: StandIn, admin: Admin, urls: object, collection: str) -> None:
    admin.add_fault("error", ref="acme-ml/llm/*", message="internal")

    answer = resolve(standin.url, f"acme-ml/llm/{collection}:v0")

    assert answer.status == 200
    assert answer.json["errors"] == [{"message": "internal", "path": ["r0", "artifactCollectionMembership"]}]


def test_a_large_batch_can_be_refused(standin: StandIn, admin: Admin, urls: object, collection: str) -> None:
    admin.add_fault("refuse-batch", limit=2)
    ref = f"acme-ml/llm/{collection}:v0"

    assert resolve(standin.url, ref, ref).status == 200
    refused = resolve(standin.url, ref, ref, ref)

    assert refused.status == 400
    assert refused.json["errors"][0]["message"] == "query is too complex: 3 lookups, at most 2"


def test_a_fault_applies_the_configured_number_of_times(standin: StandIn, admin: Admin) -> None:
    admin.add_fault("status", operation="Who", status=500, times=2)

    assert [graphql(standin.url, VIEWER).status for _ in range(3)] == [500, 500, 200]
    assert admin.faults() == []


def test_a_fault_ends_with_its_time(standin: StandIn, admin: Admin) -> None:
    admin.add_fault("status", operation="Who", status=500, seconds=1.0)
    assert graphql(standin.url, VIEWER).status == 500

    deadline = time.monotonic() + 20
    while graphql(standin.url, VIEWER).status != 200:
        assert time.monotonic() < deadline


def test_a_fault_for_one_user_spares_the_others(standin: StandIn, admin: Admin) -> None:
    admin.add_user("fault-bystander", "e" * 40, roles={})
    admin.add_fault("status", user="alice", status=403)

    assert graphql(standin.url, VIEWER).status == 403
    assert graphql(standin.url, VIEWER, "e" * 40).status == 200


def test_a_lifted_fault_is_gone(standin: StandIn, admin: Admin) -> None:
    with admin.fault("status", operation="Who", status=500):
        assert graphql(standin.url, VIEWER).status == 500
    assert graphql(standin.url, VIEWER).status == 200
    with pytest.raises(AdminError, match="no fault 'fault-0'"):
        admin.lift_fault("fault-0")


def test_a_server_that_is_down_resets_connections(standin: StandIn, admin: Admin) -> None:
    before = admin.last_request()
    fault = admin.down("reset")

    with pytest.raises((ConnectionResetError, RemoteDisconnected)):
        graphql(standin.url, VIEWER)
    assert [(r.operation, r.status, r.faults) for r in admin.requests(since=before)] == [("Who", None, (fault,))]
    admin.lift_fault(fault or "")
    assert graphql(standin.url, VIEWER).status == 200


def test_a_server_that_is_down_may_answer_503(standin: StandIn, admin: Admin, urls: dict[str, str]) -> None:
    admin.down("unavailable")

    assert graphql(standin.url, VIEWER).status == 503
    assert send(urls["other"]).status == 503


def test_a_server_that_is_down_may_refuse_connections_for_a_time() -> None:
    with StandIn() as standin:
        address = (urlsplit(standin.url).hostname, urlsplit(standin.url).port)
        with socket.create_connection(address, timeout=5) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(100)
            standin.admin.down("refused", seconds=1.5)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=5)
        deadline = time.monotonic() + 20
        while True:
            try:
                assert graphql(standin.url, VIEWER).status == 200
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
            else:
                break


def test_down_refused_needs_a_time_because_it_could_not_be_lifted(admin: Admin) -> None:
    with pytest.raises(AdminError, match="needs seconds"):
        admin.down("refused")


def test_a_server_that_was_restarted_knows_no_version() -> None:
    with StandIn() as standin:
        standin.admin.log_artifact("acme-ml", "llm", "chat", {"a": b"1"})
        url = standin.url
        standin.restart()

        assert standin.url == url
        assert resolve(url, "acme-ml/llm/chat:v0").json["data"]["r0"] is None


def test_one_byte_of_a_chosen_file_is_wrong(admin: Admin, urls: dict[str, str]) -> None:
    admin.add_fault("corrupt", file="model.safetensors", offset=10)

    answer = send(urls["model.safetensors"])

    assert answer.headers["Content-Length"] == "1000"
    assert [i for i, byte in enumerate(answer.body) if byte != CONTENT[i]] == [10]
    assert send(urls["model.safetensors"], headers={"Range": "bytes=8-11"}).body == b"\0\0\xff\0"
    assert send(urls["other"]).body == b"other"


def test_a_body_can_end_early(admin: Admin, urls: dict[str, str]) -> None:
    admin.add_fault("truncate", file="model.safetensors", offset=100)

    with pytest.raises(IncompleteRead) as caught:
        send(urls["model.safetensors"])
    assert len(caught.value.partial) == 100


@pytest.mark.parametrize(("change", "size"), [(-1, 999), (1, 1001)])
def test_a_file_can_be_of_another_size(admin: Admin, urls: dict[str, str], change: int, size: int) -> None:
    admin.add_fault("resize", file="model.safetensors", offset=change)

    answer = send(urls["model.safetensors"])

    assert (answer.status, answer.headers["Content-Length"], len(answer.body)) == (200, str(size), size)


def test_a_download_can_be_throttled(admin: Admin, urls: dict[str, str]) -> None:
    admin.add_fault("throttle", file="model.safetensors", rate=4000)
    began = time.monotonic()

    assert send(urls["model.safetensors"]).body == CONTENT
    assert time.monotonic() - began >= 0.2


def test_the_address_of_a_chosen_file_can_have_expired_once(admin: Admin, urls: dict[str, str]) -> None:
    admin.add_fault("expired", file="model.safetensors", times=1)

    assert send(urls["model.safetensors"]).status == 403
    assert send(urls["model.safetensors"]).status == 200


def test_a_manifest_can_be_another_than_the_artifacts(admin: Admin, urls: dict[str, str], collection: str) -> None:
    right = json.loads(send(urls["wandb_manifest.json"]).body)
    admin.add_fault("manifest", ref=f"acme-ml/llm/{collection}:v0")

    wrong = json.loads(send(urls["wandb_manifest.json"]).body)

    assert wrong["contents"].keys() == right["contents"].keys()
    assert wrong["contents"]["model.safetensors"]["digest"] != right["contents"]["model.safetensors"]["digest"]


def test_downloads_of_a_chosen_file_can_fail(admin: Admin, urls: dict[str, str]) -> None:
    admin.add_fault("status", operation="download", file="model*", status=500, times=1)

    assert [send(urls["model.safetensors"]).status for _ in range(2)] == [500, 200]


def test_an_unknown_kind_or_field_of_a_fault_is_reported_with_the_valid_ones(admin: Admin) -> None:
    with pytest.raises(AdminError, match="no fault of kind 'explode'; there are status, html, reset"):
        admin.add_fault("explode")
    with pytest.raises(AdminError, match="a fault has no field 'colour'; it has delay, file"):
        admin.add_fault("html", colour="red")


def test_the_admin_api_wants_its_own_key(standin: StandIn) -> None:
    with pytest.raises(AdminError, match="wants its own key"):
        Admin(standin.url, standin.api_key).last_request()


def test_the_admin_api_reports_the_arguments_of_a_command(standin: StandIn, admin: Admin) -> None:
    admin.log_artifact("acme-ml", "llm", "faulty", {"a": b""})
    with pytest.raises(AdminError, match="no version 'v9' in 'acme-ml/llm/faulty'; it has latest, v0"):
        admin.show("acme-ml/llm/faulty:v9")
    with pytest.raises(AdminError, match="'acme-ml/llm' is not entity/project/collection"):
        admin.show("acme-ml/llm")
