"""The API server and the operator agree: the operator can read exactly the specs that the API server accepts."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apiserver import ApiServer, RefusedError
from modelsync.api import names
from modelsync.api.problems import SpecError
from modelsync.policy.validation import read_spec

TEXT = st.text(alphabet="aZ9-_./:@ *ä\n$[", max_size=8)
DURATIONS = st.one_of(
    st.sampled_from(["0s", "1s", "999ms", "1h", "1h1s", "60s", "1m30s", "24h", "720h1s", "8760h"]),
    st.sampled_from(["", "5", "1d", "-1s", "5s\n", "1.5h", "1s500ms", "1000ms", "00060s"]),
    st.from_regex(r"([0-9]{1,6}(h|m|s|ms)){1,5}", fullmatch=True),
)  # fmt: skip
QUANTITIES = st.one_of(
    st.sampled_from(["1", "1.5", "500m", "1Gi", "1GB", "1e3", "1E3", "-1", "", " 1", "0.5Gi", "1k", "1K", 0, 7]),
    st.from_regex(r"[0-9]{1,3}(\.[0-9]{0,2})?(m|k|Ki|Mi|Gi|G|e[0-9]{1,3})?", fullmatch=True),
)
REFERENCES = st.one_of(
    st.sampled_from(["a/b/c:d", "a/b c/d e:f", "a/b/c", "a/b:c", "a/b/c:d:e", "a/b/c:d/e", "a//c:d", "a/b/c:", ":"]),
    TEXT,
    st.from_regex(r"[a-c ]{0,3}/[a-c ]{0,3}/[a-c ]{0,3}:[a-c ]{0,3}", fullmatch=True),
)  # fmt: skip
URLS = st.one_of(
    st.sampled_from(
        ["https://w", "http://w:8080", "https://w/b", "ftp://w", "https://", "https://w?q", "https://[::1]:8"]
    ),
    TEXT.map(lambda text: f"https://{text}"),
)
HOSTS = st.one_of(st.sampled_from(["a.example", "*.a", "A.b", "a:1", "*", "a..b", "a.", "-a", ""]), TEXT)
PAUSES: st.SearchStrategy[dict[str, str]] = st.just({}) | DURATIONS.map(lambda text: {"duration": text})
HEADERS = st.sampled_from(["x-group", "X_1", "a b", "a:b", "", "x`y"])
VALUES = st.sampled_from(["internal", "a b", " a", "a`b", "ä", "", "^a.*$", "^a", "a$", "^$", "^a`$"]) | TEXT
MATCHES = st.lists(
    st.fixed_dictionaries(
        {
            "headerName": HEADERS,
            "headerValue": st.fixed_dictionaries({}, optional={"exact": VALUES, "regex": VALUES}),
        }
    ),
    max_size=2,
)
STEPS = st.lists(
    st.fixed_dictionaries({}, optional={"setWeight": st.integers(-1, 102), "pause": PAUSES, "match": MATCHES}),
    max_size=3,
)  # fmt: skip
GATEWAY = st.fixed_dictionaries(
    {
        "parentRefs": st.lists(
            st.fixed_dictionaries({"name": st.just("models")}, optional={"port": st.sampled_from([0, 1, 443, 65536])}),
            max_size=2,
        )
    },
    optional={
        "hostnames": st.lists(HOSTS, max_size=2),
        "paths": st.lists(st.sampled_from(["/v1", "/", "v1", "/v1/", "/a b", "/score", "/v1/chat", "//"]), max_size=2),
        "requestTimeout": DURATIONS,
    },
)
ENV = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["A", "B", "1A", "A-B", "_", "ä"]), "value": st.just("")}),
    max_size=3,
)
SPECS = st.fixed_dictionaries(
    {
        "modelRef": REFERENCES,
        "registry": st.fixed_dictionaries(
            {"baseURL": URLS, "auth": st.just({"secretKeyRef": {"name": "w", "key": "k"}})},
            optional={"pollInterval": DURATIONS},
        ),
    },
    optional={
        "replicas": st.integers(-1, 1001),
        "suspend": st.booleans(),
        "hold": st.fixed_dictionaries(
            {},
            optional={
                "tags": st.lists(TEXT, max_size=2),
                "aliases": st.lists(TEXT, max_size=2),
                "action": st.sampled_from(["Fallback", "Block", "KeepServing"]),
                "maxStaleness": DURATIONS,
            },
        ),
        "serving": st.fixed_dictionaries(
            {},
            optional={
                "artifacts": st.lists(
                    st.fixed_dictionaries(
                        {"name": st.sampled_from(["a", "b", "A", "a_b", "-", ""]), "modelRef": REFERENCES}
                    ),
                    max_size=2,
                ),
                "adapters": st.lists(
                    st.fixed_dictionaries(
                        {"name": st.sampled_from(["a", "b", "a-base", "a@b", "-", ""]), "modelRef": REFERENCES}
                    ),
                    max_size=2,
                ),
                "baseModelRef": REFERENCES,
                "exposeBase": st.booleans(),
                "env": ENV,
                "servedModelName": TEXT | st.just("a"),
                "sharedMemory": QUANTITIES,
                "shutdownTimeout": DURATIONS,
                "storage": st.fixed_dictionaries(
                    {"type": st.sampled_from(["EmptyDir", "PersistentVolumeClaim"])},
                    optional={"size": QUANTITIES, "claimName": st.just("models"), "compileCache": st.booleans()},
                ),
            },
        ),
        "rollout": st.fixed_dictionaries({}, optional={"steps": STEPS, "progressDeadline": DURATIONS}),
        "traffic": st.fixed_dictionaries(
            {},
            optional={
                "gateway": GATEWAY,
                "settle": DURATIONS,
                "testHeader": HEADERS,
                "sessionAffinity": st.fixed_dictionaries({}, optional={"maxAge": DURATIONS}),
            },
        ),
    },
)
"""Specs of which each part is valid about half of the time."""

FINE: dict[str, Any] = {
    "modelRef": "a/b/c:d",
    "registry": {"baseURL": "https://w", "auth": {"secretKeyRef": {"name": "w", "key": "k"}}},
}


def operator_takes(spec: dict[str, Any]) -> str | None:
    try:
        read_spec({"spec": spec})
    except SpecError as error:
        return str(error)
    return None


def apiserver_takes(api: ApiServer, namespace: str, spec: dict[str, Any]) -> str | None:
    body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "probe"}, "spec": spec}
    try:
        api.create(namespace, body, dry_run=True)
    except RefusedError as error:
        if error.status not in (400, 422):
            raise
        return error.message
    return None


@pytest.mark.usefixtures("definition")
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spec=SPECS,
    part=st.sampled_from(["modelRef", "registry", "hold", "serving", "rollout", "traffic", "replicas", None]),
)
def test_both_take_and_refuse_the_same(api: ApiServer, namespace: str, spec: dict[str, Any], part: str | None) -> None:
    # One part at a time, so that a mistake elsewhere does not hide the result; sometimes all together.
    if part is not None:
        spec = FINE | ({part: spec[part]} if part in spec else {})
    by_operator, by_apiserver = operator_takes(spec), apiserver_takes(api, namespace, spec)
    assert (by_operator is None) == (by_apiserver is None), f"operator: {by_operator}\nAPI server: {by_apiserver}"
