"""GraphQL as seen by a client with its own queries: batches, nulls, errors with paths, refusals, visibility."""

from __future__ import annotations

import itertools

import pytest

from integration.wandb_standin.wire import FILES, graphql, resolve
from wandb_standin import Admin, StandIn

_users = itertools.count(1)


@pytest.fixture
def source(admin: Admin, collection: str) -> str:
    """A version, linked as `production` into a registry collection of the same name."""
    logged = admin.log_artifact(
        "acme-ml", "llm", collection, {"config.json": b"{}", "model.safetensors": b"weights"}, metadata={"a": 1}
    )
    admin.link(logged, f"acme/wandb-registry-model/{collection}", aliases=["production"])
    return logged.path


def key_of(admin: Admin, **roles: str) -> str:
    """The key of a new user with these roles; in the names of places, `__` means `/` and `_` means `-`."""
    number = next(_users)
    key = f"{number:040x}"
    admin.add_user(f"user-{number}", key, roles={k.replace("__", "/").replace("_", "-"): v for k, v in roles.items()})
    return key


def test_a_batch_answers_each_reference_under_its_own_name(
    standin: StandIn, admin: Admin, source: str, collection: str
) -> None:
    refs = [f"acme/wandb-registry-model/{collection}:production", f"acme-ml/llm/{collection}:v0"] * 20

    answer = resolve(standin.url, *refs)

    assert answer.status == 200
    assert "errors" not in answer.json
    assert len(answer.json["data"]) == 40
    linked = answer.json["data"]["r0"]["artifactCollectionMembership"]
    born = answer.json["data"]["r1"]["artifactCollectionMembership"]
    assert linked["artifact"] == born["artifact"]
    assert linked["artifactCollection"]["__typename"] == "ArtifactPortfolio"
    assert born["artifactCollection"]["__typename"] == "ArtifactSequence"
    assert {a["alias"] for a in linked["aliases"]} == {"v0", "latest", "production"}


def test_missing_objects_are_null_and_the_rest_is_answered(standin: StandIn, source: str, collection: str) -> None:
    answer = resolve(
        standin.url,
        f"acme-ml/llm/{collection}:latest",
        f"acme-ml/llm/{collection}:gone",
        "acme-ml/llm/no such collection:latest",
        "acme-ml/nowhere/x:latest",
        "nobody/nowhere/x:latest",
    )

    data = answer.json["data"]
    assert answer.status == 200
    assert data["r0"]["artifactCollectionMembership"]["artifact"]["state"] == "COMMITTED"
    assert data["r1"] == data["r2"] == {"artifactCollectionMembership": None}
    assert data["r3"] is None
    assert data["r4"] is None


def test_an_error_for_one_reference_names_its_path_and_leaves_the_others(
    standin: StandIn, admin: Admin, source: str, collection: str
) -> None:
    admin.add_fault("error", ref=f"acme-ml/llm/{collection}:bad", status=403)

    answer = resolve(standin.url, f"acme-ml/llm/{collection}:v0", f"acme-ml/llm/{collection}:bad")

    assert answer.status == 403
    assert answer.json["data"]["r0"]["artifactCollectionMembership"] is not None
    assert answer.json["data"]["r1"]["artifactCollectionMembership"] is None
    assert answer.json["errors"] == [
        {
            "message": "permission denied",
            "extensions": {"code": "PERMISSION_ERROR"},
            "path": ["r1", "artifactCollectionMembership"],
        }
    ]


def test_an_unknown_field_is_refused_before_anything_runs(standin: StandIn) -> None:
    answer = graphql(standin.url, "{ viewer { username nickname } }")

    assert answer.status == 400
    assert "Cannot query field 'nickname' on type 'User'." in answer.json["errors"][0]["message"]
    assert "data" not in answer.json


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{ viewer {", "Syntax Error"),
        ("query Q($n: String!) { project(name: $n) { id } }", "$n"),
        ("{ artifact { id } }", "of type 'ID!' is required"),
    ],
)
def test_a_bad_request_is_answered_with_the_problem(standin: StandIn, query: str, message: str) -> None:
    answer = graphql(standin.url, query)

    assert answer.status == 400
    assert message in answer.json["errors"][0]["message"]


def test_a_wrong_key_is_401_even_for_public_queries(standin: StandIn) -> None:
    answer = graphql(standin.url, "{ serverInfo { features { name } } }", "0" * 40)

    assert (answer.status, answer.json["errors"][0]["message"]) == (401, "user is not logged in")


def test_without_a_key_there_is_no_viewer_and_no_project(standin: StandIn, source: str, collection: str) -> None:
    assert graphql(standin.url, "{ viewer { username } }", None).json == {"data": {"viewer": None}}
    assert resolve(standin.url, f"acme-ml/llm/{collection}:v0", key=None).json == {"data": {"r0": None}}


def test_a_project_that_may_not_be_seen_is_null(standin: StandIn, admin: Admin, source: str, collection: str) -> None:
    outsider = key_of(admin, acme="viewer")

    assert resolve(standin.url, f"acme-ml/llm/{collection}:v0", key=outsider).json == {"data": {"r0": None}}


def test_a_registry_reader_sees_the_link_but_not_where_it_was_born(
    standin: StandIn, admin: Admin, source: str, collection: str
) -> None:
    reader = key_of(admin, acme="viewer")

    answer = resolve(standin.url, f"acme/wandb-registry-model/{collection}:production", key=reader)

    artifact = answer.json["data"]["r0"]["artifactCollectionMembership"]["artifact"]
    assert artifact["artifactSequence"] == {"name": collection, "project": None}


def test_a_restricted_viewer_sees_details_and_gets_no_addresses(
    standin: StandIn, admin: Admin, source: str, collection: str
) -> None:
    restricted = key_of(admin, acme="restricted")
    ref = f"acme/wandb-registry-model/{collection}:production"
    assert resolve(standin.url, ref, key=restricted).status == 200

    entity, project, name = ref.split("/")
    answer = graphql(standin.url, FILES, restricted, e=entity, p=project, n=name)

    assert answer.status == 403
    assert answer.json["errors"][0]["message"] == "permission denied"


def test_a_registry_member_may_not_tag_a_version_of_a_project_that_they_only_read(
    standin: StandIn, admin: Admin, source: str, collection: str
) -> None:
    member = key_of(admin, acme="member", acme_ml="viewer")
    mutation = "mutation T($i: UpdateArtifactInput!) { updateArtifact(input: $i) { artifact { id } } }"
    tag = {"artifactID": admin.show(source).artifact_id, "tagsToAdd": [{"tagName": "regulatory-hold"}]}

    answer = graphql(standin.url, mutation, member, i=tag)

    assert (answer.status, answer.json["errors"][0]["message"]) == (403, "permission denied")
    assert admin.show(source).tags == ()


def test_only_an_admin_moves_a_protected_alias(standin: StandIn, admin: Admin, source: str, collection: str) -> None:
    admin.protect_alias("acme", "wandb-registry-model", f"protected-{collection}")
    mutation = "mutation A($i: AddAliasesInput!) { addAliases(input: $i) { success } }"
    where = {"entityName": "acme", "projectName": "wandb-registry-model", "artifactCollectionName": collection}
    alias = {
        "artifactID": admin.show(source).artifact_id,
        "aliases": [where | {"alias": f"protected-{collection}"}],
    }

    assert graphql(standin.url, mutation, key_of(admin, acme="member"), i=alias).status == 403
    assert graphql(standin.url, mutation, key_of(admin, acme="admin"), i=alias).json["data"]["addAliases"]["success"]


def test_files_come_in_pages(standin: StandIn, admin: Admin, collection: str) -> None:
    names = [f"part-{n:02}.safetensors" for n in range(7)]
    admin.log_artifact("acme-ml", "llm", collection, {n: n.encode() for n in names})
    seen, after = [], None
    while True:
        answer = graphql(standin.url, FILES, e="acme-ml", p="llm", n=f"{collection}:v0", after=after, first=3)
        page = answer.json["data"]["project"]["artifactCollectionMembership"]["files"]
        assert page["totalCount"] == 7
        seen += [edge["node"]["name"] for edge in page["edges"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]

    assert seen == names


LISTS = """query Lists($after: String) { project(entityName: "acme-ml", name: "lists") {
  artifactCollection(name: "chat") { tags(first: 3, after: $after) {
    pageInfo { hasNextPage endCursor } edges { node { name } } } } } }"""


def test_a_page_has_at_most_what_the_server_allows(standin: StandIn, admin: Admin) -> None:
    admin.log_artifact("acme-ml", "lists", "chat", {"a": b"1"})
    for name in "abcde":
        admin.add_collection_tag("acme-ml/lists/chat", name)
    admin.configure(page_sizes=(1, 2))
    try:
        names: list[str] = []
        after = None
        for _ in range(3):
            page = graphql(standin.url, LISTS, after=after).json["data"]["project"]["artifactCollection"]["tags"]
            names += [edge["node"]["name"] for edge in page["edges"]]
            after = page["pageInfo"]["endCursor"]
        assert names == [*"abcde"]
        assert page["pageInfo"]["hasNextPage"] is False
    finally:
        admin.configure(page_sizes=(50, 10_000))


def test_an_older_server_refuses_what_it_lacks_until_that_is_given_back(standin: StandIn, admin: Admin) -> None:
    admin.configure(lacking=["TagConnection.pageInfo"])
    refused = graphql(standin.url, LISTS)
    admin.configure(lacking=["ArtifactCollection.tags(first)"])
    refused_too = graphql(standin.url, LISTS)
    admin.configure(lacking=[])
    assert (refused.status, refused_too.status) == (400, 400)
    assert "TagConnection" in refused.json["errors"][0]["message"]
    assert "'first'" in refused_too.json["errors"][0]["message"]
    assert graphql(standin.url, LISTS).status == 200
    with pytest.raises(Exception, match=r"no Tag\.colour in the schema"):
        admin.configure(lacking=["Tag.colour"])


def test_a_version_is_found_by_its_id_after_the_alias_has_moved_on(
    standin: StandIn, admin: Admin, source: str, collection: str
) -> None:
    first = admin.show(source)
    admin.log_artifact("acme-ml", "llm", collection, {"a": b"next"})
    query = "query I($id: ID!) { artifact(id: $id) { digest state tags { name } currentManifest { digest } } }"
    admin.add_tag(source, "regulatory-hold")

    found = graphql(standin.url, query, id=first.artifact_id).json["data"]["artifact"]

    assert found["digest"] == first.digest
    assert found["tags"] == [{"name": "regulatory-hold"}]


def test_a_deleted_version_is_gone_by_name_and_deleted_by_id(
    standin: StandIn, admin: Admin, source: str, collection: str
) -> None:
    version = admin.show(source)
    admin.log_artifact("acme-ml", "llm", collection, {"a": b"other"})
    admin.delete_version(source)

    by_name = resolve(standin.url, f"acme-ml/llm/{collection}:v0", f"acme/wandb-registry-model/{collection}:v0").json
    assert by_name["data"]["r0"] == by_name["data"]["r1"] == {"artifactCollectionMembership": None}

    admin.delete_version(f"acme-ml/llm/{collection}:v1", keep_membership=True)
    kept = resolve(standin.url, f"acme-ml/llm/{collection}:v1").json["data"]["r0"]["artifactCollectionMembership"]
    assert kept["artifact"]["state"] == "DELETED"
    assert version.artifact_id != kept["artifact"]["id"]


def test_every_answer_carries_the_rate_limit(standin: StandIn) -> None:
    headers = graphql(standin.url, "{ viewer { id } }").headers

    assert (headers["RateLimit-Limit"], headers["RateLimit-Remaining"]) == ("1000", "1000")


def test_one_request_too_many_is_429_until_the_window_ends(standin: StandIn, admin: Admin) -> None:
    admin.rate_limit(2, window_seconds=60, send_retry_after=True)
    other = key_of(admin, acme="viewer")
    query = "{ viewer { id } }"

    answers = [graphql(standin.url, query) for _ in range(3)]

    assert [a.status for a in answers] == [200, 200, 429]
    assert answers[1].headers["RateLimit-Remaining"] == "0"
    assert answers[2].json["errors"][0]["message"] == "Rate limit exceeded"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60
    assert answers[2].headers["RateLimit-Reset"] == answers[2].headers["Retry-After"]
    assert graphql(standin.url, query, other).status == 200
