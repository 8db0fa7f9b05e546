"""Older claims are found where they can stand, as if every claim were compared, and others' claims cost nothing."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsync.api.kinds import HTTP_ROUTE, MODEL_DEPLOYMENT, Key, Kind
from modelsync.cluster import claim_index
from modelsync.cluster.claim_index import ClaimIndex
from modelsync.observe.claims import Claim, Parent, Path
from modelsync.observe.conflicts import taken_by

CHAT = Key("prod", "chat")
MODELS = Parent("gateways", "models")


def claim(
    kind: Kind = MODEL_DEPLOYMENT,
    namespace: str = "prod",
    name: str = "chat",
    *hosts: str,
    created: str = "2026-06-01T00:00:00Z",
    **parts: Any,
) -> Claim:
    return Claim(
        kind=kind,
        namespace=namespace,
        name=name,
        created=created,
        **{
            "owner_uid": f"uid-{namespace}-{name}",
            "of_model": True,
            "parents": (MODELS,),
            "paths": (Path("/v1"),),
            "hosts": hosts or ("chat.example.com",),
            **parts,
        },
    )


def filled(*claims: Claim) -> ClaimIndex:
    index = ClaimIndex()
    for each in claims:
        index.put(each.place, each)
    return index


def test_an_older_wildcard_is_found_and_its_end_is_waited_for() -> None:
    wildcard = claim(HTTP_ROUTE, "shop", "all", "*.example.com")
    index = filled(claim(), wildcard)
    assert index.older(CHAT) == [wildcard.place]
    assert index.put(wildcard.place, None) == {CHAT}
    assert index.older(CHAT) == []
    assert index.put(wildcard.place, replace(wildcard, hosts=("*.com",))) == set(), "nobody waits, and no host is equal"


def test_a_change_that_frees_the_host_is_waited_for() -> None:
    wildcard = claim(HTTP_ROUTE, "shop", "all", "*.example.com")
    index = filled(claim(), wildcard)
    assert index.older(CHAT) == [wildcard.place]
    assert index.put(wildcard.place, replace(wildcard, hosts=("*.example.org",))) == {CHAT}
    assert index.older(CHAT) == []


def test_who_goes_waits_for_nothing() -> None:
    wildcard = claim(HTTP_ROUTE, "shop", "all", "*.example.com")
    index = filled(claim(), wildcard)
    index.older(CHAT)
    index.put((MODEL_DEPLOYMENT, CHAT), None)
    assert index.put(wildcard.place, None) == set()


def test_somebody_elses_route_of_our_name_does_not_make_us_older() -> None:
    foreign = claim(HTTP_ROUTE, created="2026-01-01T00:00:00Z", owner_uid=None)
    theirs = claim(HTTP_ROUTE, "shop", "old", created="2026-03-01T00:00:00Z")
    assert filled(claim(), foreign, theirs).older(CHAT) == [foreign.place, theirs.place]


def test_a_thousand_routes_of_a_hostile_tenant_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Claim] = []

    def counted(ours: Claim, live: Claim | None, rival: Claim) -> Any:
        compared.append(rival)
        return taken_by(ours, live, rival)

    monkeypatch.setattr(claim_index, "taken_by", counted)
    live = claim(HTTP_ROUTE)
    older = claim(HTTP_ROUTE, "shop", "old", "*.example.com", created="2026-01-01T00:00:00Z")
    hostile = [
        claim(HTTP_ROUTE, "evil", f"r{number}", host, created=created)
        for number, (host, created) in enumerate(
            250
            * [
                ("chat.example.com", "2026-07-01T00:00:00Z"),
                ("*.example.com", "2026-07-01T00:00:00Z"),
                ("deep.chat.example.com", "2026-01-01T00:00:00Z"),
                ("*.example.org", "2026-01-01T00:00:00Z"),
            ]
        )
    ]
    index = filled(claim(), live, older, *hostile)
    assert index.older(CHAT) == [older.place]
    assert compared == [older]


def test_only_some_of_many_older_claims_are_waited_for() -> None:
    older = [claim(HTTP_ROUTE, "shop", f"r{number:03}", created="2026-01-01T00:00:00Z") for number in range(100)]
    index = filled(claim(), *(replace(each, hosts=("*.example.com",)) for each in older))
    assert index.older(CHAT) == [each.place for each in older]
    woken = [bool(index.put(each.place, None)) for each in older]
    assert woken == [True] * claim_index.AWAITED + [False] * (100 - claim_index.AWAITED)


HOSTS = st.sampled_from(["*", "a", "b.a", "a.b.a", "*.a", "*.b.a"])
PARENTS = st.sampled_from([MODELS, Parent("gateways", "models", "https"), Parent("prod", "web"), Parent("shop", "web")])
CLAIMS = st.builds(
    claim,
    st.sampled_from([HTTP_ROUTE, MODEL_DEPLOYMENT]),
    st.sampled_from(["prod", "shop", "evil"]),
    st.sampled_from(["chat", "score"]),
    created=st.sampled_from(["2026-01-01T00:00:00Z", "2026-06-01T00:00:00Z"]),
    hosts=st.lists(HOSTS, min_size=1, max_size=2, unique=True).map(tuple),
    paths=st.lists(st.sampled_from([Path(""), Path("/v1"), Path("/v1/chat")]), min_size=1, unique=True).map(tuple),
    parents=st.lists(PARENTS, min_size=1, max_size=2, unique=True).map(tuple),
    of_model=st.booleans(),
)


@settings(deadline=None)
@given(st.lists(st.tuples(CLAIMS, st.booleans()), max_size=12))
def test_the_index_finds_what_a_comparison_with_everything_finds(changes: list[tuple[Claim, bool]]) -> None:
    index, kept = ClaimIndex(), dict[Any, Claim]()
    for each, goes in changes:
        index.put(each.place, None if goes else each)
        kept.pop(each.place, None)
        if not goes:
            kept[each.place] = each
        for (kind, key), ours in list(kept.items()):
            if kind == MODEL_DEPLOYMENT:
                live = kept.get((HTTP_ROUTE, key))
                older = [rival for rival in kept.values() if taken_by(ours, live, rival) is not None]
                assert index.older(key) == [rival.place for rival in sorted(older, key=lambda rival: rival.age)]
