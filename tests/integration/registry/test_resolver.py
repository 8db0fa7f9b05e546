"""The resolver against a server with W&B's protocol: few requests, and one outcome for each query."""

from collections.abc import AsyncIterator, Iterable

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from integration.registry.conftest import ENTITY, Project, Requests
from modelsync.api.hold import HoldSource
from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.registry.credential import Credential
from modelsync.registry.exchange import BATCH
from modelsync.registry.graphql import GraphQL
from modelsync.registry.holds import hold_reads
from modelsync.registry.model import (
    CollectionRead,
    Denied,
    HoldNames,
    Missing,
    Question,
    Reading,
    Resolved,
    ServedVersion,
    Throttled,
    Unreachable,
)
from modelsync.registry.resolver import Resolver
from modelsync.registry.store import answers_of
from wandb_standin import Admin, StandIn

HOLD = HoldNames(tags=frozenset({"regulatory-hold"}), aliases=frozenset({"regulatory-hold", "regulatory-hold-*"}))


async def read(
    standin: StandIn,
    *refs: ModelRef,
    served: Iterable[ServedVersion] = (),
    resolver: Resolver | None = None,
    key: str = "",
) -> Reading:
    question = Question(refs=frozenset(refs), served=frozenset(served), hold=HOLD)
    async with GraphQL(standin.url, Credential(key or standin.api_key)) as api:
        return await (resolver or Resolver()).read(api, [question])


async def test_a_reference_resolves_to_all_that_is_known_of_its_version(standin: StandIn, project: Project) -> None:
    logged = project.log(aliases=["production"], tags=["approved"], metadata={"accuracy": 0.9})
    ref = project.ref("production")
    found = (await read(standin, ref)).refs[ref]
    assert isinstance(found, Resolved)
    assert found.artifact_id == logged.artifact_id
    assert (found.version, found.source_version, found.digest) == ("v0", "v0", logged.digest)
    assert (found.size, found.file_count, found.state, found.type) == (logged.size, 1, "COMMITTED", "model")
    assert found.aliases == {"production", "latest"}
    assert found.tags == {"approved"}
    assert found.metadata == '{"accuracy": 0.9}'


async def test_a_registry_counts_its_own_versions_and_shares_the_tags_of_the_source(
    standin: StandIn, admin: Admin, project: Project, registry: str
) -> None:
    project.log()
    source = project.log(tags=["approved"])
    target = f"{registry}/chat llm"
    admin.link(source, target, aliases=["production"])
    admin.add_collection_tag(target, "gold")
    ref = CollectionRef.parse(target).at("production")
    found = (await read(standin, ref)).refs[ref]
    assert isinstance(found, Resolved)
    assert (found.version, found.source_version) == ("v0", "v1")
    assert str(found.artifact.source) == f"{ENTITY}/{project.name}/chat"
    assert (found.tags, found.collection_tags) == (frozenset({"approved"}), frozenset({"gold"}))
    assert {str(link.collection) for link in found.artifact.links} == {target, f"{ENTITY}/{project.name}/chat"}


async def test_an_organization_may_be_written_by_its_display_name_as_for_wandb(
    standin: StandIn, admin: Admin, project: Project, registry: str
) -> None:
    linked = admin.link(project.log(), f"{registry}/chat", aliases=["production"])
    ref = ModelRef.parse(f"Acme/{registry.partition('/')[2]}/chat:production")
    resolver = Resolver()
    found = (await read(standin, ref, resolver=resolver)).refs[ref]
    assert isinstance(found, Resolved)
    assert (found.ref, found.entity, found.artifact_id) == (ref, "acme", linked.artifact_id)
    asked = Requests(admin)
    assert isinstance((await read(standin, ref, resolver=resolver)).refs[ref], Resolved)
    assert len(asked()) == 1


async def test_twenty_references_are_one_request(standin: StandIn, admin: Admin, project: Project) -> None:
    for number in range(BATCH):
        project.log(f"model-{number}", aliases=["production"])
    refs = [project.ref("production", f"model-{number}") for number in range(BATCH)]
    asked = Requests(admin)
    found = (await read(standin, *refs)).refs
    assert all(isinstance(found[ref], Resolved) for ref in refs)
    assert len(asked()) == 1


async def test_a_server_that_refuses_batches_is_asked_for_each_by_itself(
    standin: StandIn, admin: Admin, project: Project
) -> None:
    project.log(aliases=["a", "b", "c", "d"])
    refs = [project.ref(alias) for alias in "abcd"]
    admin.add_fault("refuse-batch", limit=1)
    resolver = Resolver()
    found = (await read(standin, *refs, resolver=resolver)).refs
    assert all(isinstance(found[ref], Resolved) for ref in refs)
    asked = Requests(admin)
    await read(standin, *refs, resolver=resolver)
    assert [entry.status for entry in asked()] == [200] * 4, "what was learned was forgotten"


@pytest.mark.parametrize(("status", "kind"), [(403, Denied), (404, Missing), (500, Unreachable)])
async def test_an_error_about_one_reference_is_put_down_to_it_alone(
    standin: StandIn, admin: Admin, project: Project, status: int, kind: type
) -> None:
    project.log(aliases=["good", "bad"])
    good, bad = project.ref("good"), project.ref("bad")
    admin.add_fault("error", ref=str(bad), status=status)
    found = (await read(standin, good, bad)).refs
    assert isinstance(found[good], Resolved)
    assert type(found[bad]) is kind


async def test_an_error_about_a_whole_project_needs_no_second_request(
    standin: StandIn, admin: Admin, project: Project
) -> None:
    refs = [project.ref(alias) for alias in "abc"]
    admin.add_fault("error", ref=f"{ENTITY}/{project.name}", status=403)
    asked = Requests(admin)
    found = (await read(standin, *refs)).refs
    assert {type(outcome) for outcome in found.values()} == {Denied}
    assert [entry.status for entry in asked()] == [403]


@pytest_asyncio.fixture
async def spoiling(standin: StandIn) -> AsyncIterator[str]:
    """A server that returns null for a whole project in each batch, because of an error in one field."""

    async def spoil(request: web.Request) -> web.Response:
        body = await request.json()
        headers = {"Authorization": request.headers["Authorization"]}
        url = f"{standin.url}/graphql"
        async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as response:
            answer = await response.json()
        if body["query"].count("artifactCollectionMembership(") > 1:
            answer["data"]["p0"] = None
            answer["errors"] = [{"message": "digest: cannot be null", "path": ["p0", "f0", "artifact", "digest"]}]
        return web.json_response(answer)

    app = web.Application()
    app.router.add_post("/graphql", spoil)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_what_another_one_s_error_made_null_is_asked_for_again(
    spoiling: str, credential: Credential, project: Project
) -> None:
    project.log(aliases=["a", "b", "c"])
    refs = frozenset(project.ref(alias) for alias in "abc")
    async with GraphQL(spoiling, credential) as api:
        reading = await Resolver().read(api, [Question(refs=refs)])
    kinds = [type(reading.refs[ref]) for ref in sorted(refs)]
    assert kinds == [Unreachable, Resolved, Resolved], "only the one that the error names has no answer"
    assert isinstance(reading.collections[project.home()], CollectionRead)


async def test_each_missing_part_is_named(standin: StandIn, project: Project) -> None:
    project.log(aliases=["production"])
    wanted = {
        "project": ModelRef(ENTITY, f"{project.name}-none", "chat", "production"),
        "collection": project.ref("production", "none"),
        "alias": project.ref("none"),
        "version": project.ref("v9"),
    }
    found = (await read(standin, *wanted.values(), project.ref("production"))).refs
    assert isinstance(found[project.ref("production")], Resolved)
    for what, ref in wanted.items():
        outcome = found[ref]
        assert isinstance(outcome, Missing)
        assert (outcome.what, outcome.subject) == (what, ref)


async def test_what_a_key_may_not_see_is_missing_for_it(standin: StandIn, admin: Admin, project: Project) -> None:
    key = "b0b" + "0" * 37
    admin.add_user("bob", key, roles={"acme": "viewer"})
    project.log(aliases=["production"])
    ref = project.ref("production")
    found = (await read(standin, ref, key=key)).refs[ref]
    assert isinstance(found, Missing)
    assert "cannot see it" in found.message


async def test_a_wrong_key_costs_one_request_however_much_is_asked(
    standin: StandIn, admin: Admin, project: Project
) -> None:
    refs = [project.ref(f"v{number}") for number in range(5 * BATCH)]
    asked = Requests(admin)
    found = await read(standin, *refs, key="x" * 40)
    assert {type(outcome) for outcome in found.refs.values()} == {Denied}
    assert len(asked()) == 1
    assert not found.silent


async def test_a_throttled_server_gets_no_further_request_before_its_time(
    standin: StandIn, admin: Admin, project: Project
) -> None:
    project.log(aliases=["production"])
    refs = [project.ref(f"v{number}") for number in range(5 * BATCH)]
    resolver = Resolver()
    admin.add_fault("status", status=429, reset=120, times=1)
    asked = Requests(admin)
    for _ in range(3):
        found = (await read(standin, *refs, resolver=resolver)).refs
        assert {type(outcome) for outcome in found.values()} == {Throttled}
    assert len(asked()) == 1


@pytest.mark.parametrize("fault", [{"kind": "reset"}, {"kind": "html"}, {"kind": "status", "status": 502}])
async def test_a_server_that_is_down_is_given_up_after_a_few_requests(
    standin: StandIn, admin: Admin, project: Project, fault: dict[str, object]
) -> None:
    refs = [project.ref(f"v{number}") for number in range(5 * BATCH)]
    settings = dict(fault)
    admin.add_fault(str(settings.pop("kind")), operation="ModelsyncResolve", **settings)
    asked = Requests(admin)
    found = await read(standin, *refs)
    assert {type(outcome) for outcome in found.refs.values()} == {Unreachable}
    assert found.silent
    assert len(asked()) <= 3


async def test_a_server_without_digest_algorithms_is_asked_without_them(
    standin: StandIn, admin: Admin, project: Project
) -> None:
    logged = project.log(aliases=["production"])
    ref = project.ref("production")
    admin.add_fault("status", status=400, message="Cannot query field 'digestAlgorithm' on type 'Artifact'.", times=1)
    resolver = Resolver()
    found = (await read(standin, ref, resolver=resolver)).refs[ref]
    assert isinstance(found, Resolved)
    assert found.digest == logged.digest
    assert found.digest_algorithm is None


async def test_all_aliases_of_a_collection_are_read_and_the_carrier_of_a_hold(
    standin: StandIn, admin: Admin, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelsync.registry.query.ALIASES_PAGE", 2)
    held = project.log(aliases=["a", "b", "c", "regulatory-hold-eu"])
    serving = project.log(aliases=["production"])
    reading = await read(standin, project.ref("production"))
    found = reading.collections[project.home()]
    assert isinstance(found, CollectionRead)
    assert found.aliases == {"a", "b", "c", "regulatory-hold-eu", "production", "latest"}
    assert [(each.alias, each.version, each.digest) for each in found.hold_aliases] == [
        ("regulatory-hold-eu", "v0", held.digest)
    ]
    question = Question(refs=frozenset({project.ref("production")}), hold=HOLD)
    judged = hold_reads(answers_of(reading), question)[serving.digest]
    assert judged.marks == frozenset()
    assert judged.alias_mark_elsewhere


async def test_a_hold_on_what_serves_is_seen_after_its_alias_has_moved_on(
    standin: StandIn, admin: Admin, project: Project
) -> None:
    old = project.log(aliases=["production"])
    new = project.log()
    admin.set_alias(new, "production")
    admin.add_tag(old, "regulatory-hold")
    served = ServedVersion(project.home(), "v0", old.artifact_id, old.digest)
    reading = await read(standin, project.ref("production"), served=[served])
    question = Question(refs=frozenset({project.ref("production")}), served=frozenset({served}), hold=HOLD)
    reads = hold_reads(answers_of(reading), question)
    assert [mark.via for mark in reads[old.digest].marks] == [HoldSource.VERSION_TAG]
    assert reads[new.digest].marks == frozenset()


@pytest.mark.parametrize("keep_membership", [False, True])
async def test_a_served_version_that_is_gone_from_its_collection_is_still_read(
    standin: StandIn, admin: Admin, project: Project, registry: str, keep_membership: bool
) -> None:
    source = project.log(tags=["regulatory-hold"])
    linked = admin.link(source, f"{registry}/chat")
    home = CollectionRef.parse(f"{registry}/chat")
    admin.link(project.log(), str(home), aliases=["production"])
    served = ServedVersion(home, linked.version, source.artifact_id, source.digest)
    if keep_membership:
        admin.delete_version(source, keep_membership=True)
    else:
        admin.unlink(linked)
    reading = await read(standin, home.at("production"), served=[served])
    question = Question(refs=frozenset({home.at("production")}), served=frozenset({served}), hold=HOLD)
    marks = hold_reads(answers_of(reading), question)[source.digest].marks
    assert [(mark.via, mark.name) for mark in marks] == [(HoldSource.VERSION_TAG, "regulatory-hold")]
    outcome = reading.refs[home.at(linked.version)]
    assert isinstance(outcome, Resolved if keep_membership else Missing)
    if isinstance(outcome, Resolved):
        assert outcome.state == "DELETED"


async def test_a_name_that_another_artifact_has_taken_is_not_taken_for_the_served_one(
    standin: StandIn, admin: Admin, project: Project
) -> None:
    old = project.log(aliases=["production"])
    admin.delete_collection(str(project.home()))
    new = project.log(aliases=["production"])
    assert (old.version, old.artifact_id) != (new.version, new.artifact_id)
    served = ServedVersion(project.home(), new.version, old.artifact_id, old.digest)
    reading = await read(standin, project.ref("production"), served=[served])
    assert reading.artifacts.keys() == {old.artifact_id}


async def test_a_hold_in_another_collection_that_links_the_same_version_counts(
    standin: StandIn, admin: Admin, project: Project, registry: str
) -> None:
    source = project.log(aliases=["production"])
    linked = admin.link(source, f"{registry}/chat")
    admin.add_collection_tag(f"{registry}/chat", f"regulatory-hold {linked.version}")
    reading = await read(standin, project.ref("production"))
    question = Question(refs=frozenset({project.ref("production")}), hold=HOLD)
    [mark] = hold_reads(answers_of(reading), question)[source.digest].marks
    assert (mark.via, mark.collection, mark.version) == (HoldSource.COLLECTION_TAG, f"{registry}/chat", linked.version)
