"""A server cuts lists into pages: a hold is seen on each page, and what was not read to its end is not called clear."""

from collections.abc import Iterator

import pytest

from integration.registry.conftest import Project, Requests
from integration.registry.test_resolver import HOLD, read
from modelsync.api.hold import HoldSource
from modelsync.api.model_ref import CollectionRef, ModelRef
from modelsync.registry.holds import HoldRead, hold_reads
from modelsync.registry.model import Question, ServedVersion
from modelsync.registry.resolver import Resolver
from modelsync.registry.store import answers_of
from wandb_standin import Admin, StandIn
from wandb_standin.admin import Version

OLD_TAGS = ("TagConnection.pageInfo", "ArtifactCollection.tags(first)")
OLD_LINKS = ("ArtifactCollectionMembershipConnection.pageInfo", "Artifact.artifactMemberships(first)")
PUBLISHED = ("Artifact.artifactMemberships(first)", "Artifact.artifactMemberships(after)")
"""What W&B's published types do not have."""


@pytest.fixture(autouse=True)
def usual_pages(admin: Admin) -> Iterator[None]:
    yield
    admin.configure(page_sizes=(50, 10_000), lacking=[])


async def hold(
    standin: StandIn, ref: ModelRef, *, served: ServedVersion | None = None, resolver: Resolver | None = None
) -> HoldRead | None:
    """What is known of the holds on what `ref` names; None if that is unknown."""
    versions = frozenset({served} if served else ())
    reading = await read(standin, ref, served=versions, resolver=resolver)
    question = Question(refs=frozenset({ref}), served=versions, hold=HOLD)
    found = list(hold_reads(answers_of(reading), question).values())
    assert len(found) <= 1
    return found[0] if found else None


def linked(admin: Admin, version: Version, registry: str, count: int) -> list[str]:
    """Link `version` into `count` collections of the registry; return their paths."""
    paths = [f"{registry}/collection-{number:03}" for number in range(count)]
    for path in paths:
        admin.link(version, path)
    return paths


def tagged(admin: Admin, collection: str, count: int) -> None:
    for number in range(count):
        admin.add_collection_tag(collection, f"approved v{number}")


async def test_a_hold_on_the_sixtieth_link_is_seen(
    standin: StandIn, admin: Admin, project: Project, registry: str
) -> None:
    version = project.log(aliases=["production"])
    paths = linked(admin, version, registry, 60)
    admin.add_collection_tag(paths[-1], "regulatory-hold")
    admin.configure(page_sizes=(50, 50))
    found = await hold(standin, project.ref("production"))
    assert found is not None
    assert [(mark.via, mark.collection) for mark in found.marks] == [(HoldSource.COLLECTION_TAG, paths[-1])]


async def test_a_hold_that_is_the_61st_tag_of_the_collection_is_seen(
    standin: StandIn, admin: Admin, project: Project
) -> None:
    project.log(aliases=["production"])
    tagged(admin, str(project.home()), 60)
    admin.add_collection_tag(str(project.home()), "regulatory-hold")
    admin.configure(page_sizes=(50, 50))
    found = await hold(standin, project.ref("production"))
    assert found is not None
    assert [mark.via for mark in found.marks] == [HoldSource.COLLECTION_TAG]


async def test_a_hold_at_the_end_of_the_tags_of_the_last_link_is_seen(
    standin: StandIn, admin: Admin, project: Project, registry: str
) -> None:
    version = project.log(aliases=["production"])
    paths = linked(admin, version, registry, 5)
    tagged(admin, paths[-1], 5)
    admin.add_collection_tag(paths[-1], "Regulatory-Hold")
    admin.configure(page_sizes=(2, 2))
    found = await hold(standin, project.ref("production"))
    assert found is not None
    assert [(mark.via, mark.collection) for mark in found.marks] == [(HoldSource.COLLECTION_TAG, paths[-1])]


async def test_a_hold_alias_on_the_last_link_of_an_unlinked_version_is_seen(
    standin: StandIn, admin: Admin, project: Project, registry: str
) -> None:
    version = project.log(aliases=["production"])
    linked(admin, version, registry, 5)
    last = admin.link(version, f"{registry}/last", aliases=["regulatory-hold"])
    served = ServedVersion(CollectionRef.parse(f"{registry}/gone"), "v3", version.artifact_id, version.digest)
    admin.configure(page_sizes=(2, 2))
    question = Question(refs=frozenset(), served=frozenset({served}), hold=HOLD)
    reading = await read(standin, served=[served])
    [mark] = hold_reads(answers_of(reading), question)[version.digest].marks
    assert (mark.via, mark.collection) == (HoldSource.ALIAS, last.path.rpartition(":")[0])


async def test_lists_that_are_read_to_their_ends_show_that_there_is_no_hold(
    standin: StandIn, admin: Admin, project: Project, registry: str
) -> None:
    version = project.log(aliases=["production", "a", "b", "c"])
    linked(admin, version, registry, 4)
    tagged(admin, str(project.home()), 4)
    admin.configure(page_sizes=(2, 2))
    found = await hold(standin, project.ref("production"))
    assert found is not None
    assert found.marks == frozenset()


async def test_an_ordinary_read_is_one_small_request(
    standin: StandIn, admin: Admin, project: Project, registry: str
) -> None:
    version = project.log(aliases=["production"])
    linked(admin, version, registry, 30)
    tagged(admin, str(project.home()), 30)
    asked = Requests(admin)
    assert await hold(standin, project.ref("production")) is not None
    assert len(asked()) == 1


async def test_a_long_list_takes_a_request_for_each_page_and_not_for_each_reference(
    standin: StandIn, admin: Admin, project: Project, registry: str
) -> None:
    version = project.log(aliases=["production", "canary", "best"])
    linked(admin, version, registry, 9)
    tagged(admin, str(project.home()), 9)
    admin.configure(page_sizes=(5, 5))
    asked = Requests(admin)
    await read(standin, *(project.ref(alias) for alias in ("production", "canary", "best", "v0")))
    assert len(asked()) == 2


@pytest.mark.parametrize("lacking", [OLD_TAGS, OLD_LINKS, OLD_TAGS + OLD_LINKS, PUBLISHED, OLD_TAGS[:1], OLD_LINKS[1:]])
async def test_a_server_without_the_means_to_page_is_asked_without_them_from_then_on(
    standin: StandIn, admin: Admin, project: Project, registry: str, lacking: tuple[str, ...]
) -> None:
    version = project.log(aliases=["production"])
    [path] = linked(admin, version, registry, 1)
    admin.add_collection_tag(path, "regulatory-hold")
    admin.configure(lacking=lacking)
    resolver, asked = Resolver(), Requests(admin)
    for _ in range(3):
        found = await hold(standin, project.ref("production"), resolver=resolver)
        assert found is not None
        assert [mark.collection for mark in found.marks] == [path]
    assert [entry.status for entry in asked()] == [400, 200, 200, 200]


async def test_a_list_of_all_links_without_arguments_is_whole(
    standin: StandIn, admin: Admin, project: Project, registry: str
) -> None:
    linked(admin, project.log(aliases=["production"]), registry, 60)
    admin.configure(lacking=PUBLISHED, page_sizes=(10_000, 10_000))
    found = await hold(standin, project.ref("production"))
    assert found is not None
    assert found.marks == frozenset()


@pytest.mark.parametrize("lacking", [OLD_LINKS, PUBLISHED])
async def test_links_that_were_cut_and_cannot_be_read_further_leave_the_hold_unknown(
    standin: StandIn, admin: Admin, project: Project, registry: str, lacking: tuple[str, ...]
) -> None:
    version = project.log(aliases=["production"])
    paths = linked(admin, version, registry, 60)
    admin.add_collection_tag(paths[-1], "regulatory-hold")
    admin.configure(lacking=lacking)
    assert await hold(standin, project.ref("production")) is None
    admin.add_collection_tag(paths[0], "regulatory-hold")
    found = await hold(standin, project.ref("production"))
    assert found is not None
    assert [mark.collection for mark in found.marks] == [paths[0]], "what was read counts"


@pytest.mark.parametrize("lacking", [OLD_TAGS, OLD_TAGS[:1], OLD_TAGS[1:]])
async def test_tags_that_were_cut_and_cannot_be_read_further_leave_the_hold_unknown(
    standin: StandIn, admin: Admin, project: Project, lacking: tuple[str, ...]
) -> None:
    version = project.log(aliases=["production"])
    tagged(admin, str(project.home()), 60)
    admin.add_collection_tag(str(project.home()), "regulatory-hold")
    admin.configure(lacking=lacking, page_sizes=(50, 50))
    served = ServedVersion(project.home(), "v0", version.artifact_id, version.digest)
    assert await hold(standin, project.ref("production"), served=served) is None
    admin.add_tag(version, "regulatory-hold")
    found = await hold(standin, project.ref("production"), served=served)
    assert found is not None
    assert [mark.via for mark in found.marks] == [HoldSource.VERSION_TAG], "what was read counts"


@pytest.mark.parametrize(("count", "known"), [(49, True), (50, False), (51, True), (100, False)])
async def test_without_page_info_a_list_as_long_as_a_page_is_not_called_whole(
    standin: StandIn, admin: Admin, project: Project, count: int, known: bool
) -> None:
    project.log(aliases=["production"])
    tagged(admin, str(project.home()), count)
    admin.configure(lacking=OLD_TAGS[:1])
    found = await hold(standin, project.ref("production"))
    assert (found is not None) is known


async def test_a_further_page_that_fails_leaves_the_hold_unknown_and_the_next_read_finds_it(
    standin: StandIn, admin: Admin, project: Project, registry: str
) -> None:
    version = project.log(aliases=["production"])
    paths = linked(admin, version, registry, 5)
    admin.add_collection_tag(paths[-1], "regulatory-hold")
    admin.configure(page_sizes=(3, 3))
    with admin.fault("error", ref=f"{project.home()}:v0", message="timeout"):  # the artifact by its id
        assert await hold(standin, project.ref("production")) is None
    found = await hold(standin, project.ref("production"))
    assert found is not None
    assert [mark.collection for mark in found.marks] == [paths[-1]]


async def test_an_answer_that_is_too_large_is_asked_for_in_parts(
    standin: StandIn, admin: Admin, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.log("large", aliases=["production"], metadata={"notes": "x" * 40_000})
    project.log("small", aliases=["production"], tags=["regulatory-hold"])
    large, small = project.ref("production", "large"), project.ref("production", "small")
    monkeypatch.setattr("modelsync.registry.graphql.MAX_ANSWER_BYTES", 20_000)
    reading = await read(standin, large, small)
    question = Question(refs=frozenset({large, small}), hold=HOLD)
    [found] = hold_reads(answers_of(reading), question).values()
    assert [mark.via for mark in found.marks] == [HoldSource.VERSION_TAG]
    assert "larger than" in getattr(reading.refs[large], "message", "")
