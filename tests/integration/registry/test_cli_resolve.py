"""`modelsync resolve`, as users and scripts call it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from integration.registry.conftest import Project
from modelsync.cli import main
from wandb_standin import Admin, StandIn

Resolve = Callable[..., Result]


@pytest.fixture
def resolve(standin: StandIn) -> Resolve:
    """Call the command with the environment of a W&B user; a value of None removes a variable."""

    def call(*arguments: str, **environment: str | None) -> Result:
        usual = {"WANDB_BASE_URL": standin.url, "WANDB_API_KEY": standin.api_key, "REQUESTS_CA_BUNDLE": None}
        result = CliRunner().invoke(main, ["resolve", *arguments], env=usual | environment)
        assert "Traceback" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert standin.api_key not in result.output
        return result

    return call


def test_a_person_reads_version_digest_tags_and_hold(resolve: Resolve, project: Project, admin: Admin) -> None:
    logged = project.log(aliases=["production"], tags=["approved", "regulatory-hold"])
    result = resolve(str(project.ref("production")))
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["version"] == f"v0  ({logged.source})"
    assert lines["digest"] == f"{logged.digest}  MANIFEST_MD5"
    assert lines["tags"] == "approved, regulatory-hold"
    assert lines["held"] == f"'regulatory-hold', a tag on the version {project.home()}:v0"


def test_a_script_gets_the_same_as_json(resolve: Resolve, project: Project) -> None:
    logged = project.log(aliases=["production"], metadata={"accuracy": 0.9})
    result = resolve(str(project.ref("production")), "-o", "json")
    assert result.exit_code == 0
    document: dict[str, Any] = json.loads(result.stdout)
    assert (document["outcome"], document["version"], document["digest"]) == ("Resolved", "v0", logged.digest)
    assert document["artifactID"] == logged.artifact_id
    assert document["metadata"] == {"accuracy": 0.9}
    assert (document["held"], document["holds"]) == (False, [])


def test_names_of_holds_are_given_by_options(resolve: Resolve, project: Project) -> None:
    project.log(aliases=["production", "frozen-eu"], tags=["regulatory-hold", "stop"])
    ref = str(project.ref("production"))
    document = json.loads(resolve(ref, "-o", "json", "--hold-tag", "stop", "--hold-alias", "frozen-*").stdout)
    assert [(hold["name"], hold["via"]) for hold in document["holds"]] == [
        ("frozen-eu", "Alias"),
        ("stop", "VersionTag"),
    ]


def test_what_is_missing_ends_with_1_and_the_nearest_name(resolve: Resolve, project: Project) -> None:
    project.log(aliases=["production"])
    result = resolve(str(project.ref("prodution")), "-o", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["what"] == "alias"
    assert "did you mean 'production'?" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["chat:production"], {}, "needs 3 names before the alias, but has 1"),
        (["acme/llms/chat"], {}, "add one, such as 'acme/llms/chat:production'"),
        ([], {}, "Missing argument 'REF'"),
        (["a/b/c:d"], {"WANDB_BASE_URL": None}, "set WANDB_BASE_URL or pass --base-url"),
        (["a/b/c:d"], {"WANDB_BASE_URL": "wandb.example.com"}, "allowed is https://host"),
        (["a/b/c:d"], {"WANDB_API_KEY": None}, "WANDB_API_KEY is not set"),
        (["a/b/c:d"], {"WANDB_API_KEY": "short"}, "must have 40 characters or more, has 5"),
        (["a/b/c:d", "--ca-file", "none.pem"], {}, "--ca-file (none.pem) cannot be used"),
        (["a/b/c:d", "--hold-tag", "a:b"], {}, "--hold-tag: 'a:b' is not a valid W&B tag"),
        (["a/b/c:d", "-o", "yaml"], {}, "'yaml' is not one of 'text', 'json'"),
    ],
)
def test_what_cannot_be_asked_ends_with_2_and_says_what_to_do(
    resolve: Resolve, arguments: list[str], environment: dict[str, str | None], says: str
) -> None:
    result = resolve(*arguments, **environment)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


def test_a_wrong_key_ends_with_3(resolve: Resolve, project: Project) -> None:
    result = resolve(str(project.ref("production")), WANDB_API_KEY="x" * 40)
    assert result.exit_code == 3
    assert "check the key" in result.stderr


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"kind": "status", "status": 429, "retry_after": 60}, "asks to wait until"),
        ({"kind": "status", "status": 502}, "answered 502"),
        ({"kind": "html"}, "is not a GraphQL response"),
        ({"kind": "reset"}, "cannot be reached"),
    ],
)
def test_a_server_without_an_answer_ends_with_4(
    resolve: Resolve, project: Project, admin: Admin, fault: dict[str, Any], says: str
) -> None:
    settings = dict(fault)
    admin.add_fault(settings.pop("kind"), operation="ModelsyncResolve", **settings)
    result = resolve(str(project.ref("production")))
    assert result.exit_code == 4
    assert says in result.stderr
    assert result.stdout == ""


def test_a_dead_server_ends_with_4(resolve: Resolve) -> None:
    result = resolve("a/b/c:d", WANDB_BASE_URL="http://127.0.0.1:1")
    assert result.exit_code == 4
    assert result.stderr == "error: http://127.0.0.1:1 cannot be reached: connection refused\n"


def test_a_name_from_the_server_cannot_steer_the_terminal(resolve: Resolve, project: Project) -> None:
    project.log(aliases=["production", "evil\x1b[31m"])
    result = resolve(str(project.ref("production")))
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


def test_the_help_lists_every_exit_code(resolve: Resolve) -> None:
    text = resolve("--help").stdout
    assert [line.split()[0] for line in text.partition("Exit codes:")[2].splitlines() if line.strip()] == [
        "0",
        "1",
        "2",
        "3",
        "4",
        "70",
    ]


def test_a_hold_beyond_the_first_page_of_tags_is_shown(resolve: Resolve, project: Project, admin: Admin) -> None:
    project.log(aliases=["production"])
    for number in range(60):
        admin.add_collection_tag(str(project.home()), f"approved v{number}")
    admin.add_collection_tag(str(project.home()), "regulatory-hold")
    admin.configure(page_sizes=(50, 50))
    try:
        assert json.loads(resolve(str(project.ref("production")), "-o", "json").stdout)["held"] is True
        admin.configure(lacking=["ArtifactCollection.tags(first)"])
        assert json.loads(resolve(str(project.ref("production")), "-o", "json").stdout)["held"] is None
        assert "unknown" in resolve(str(project.ref("production"))).stdout
    finally:
        admin.configure(page_sizes=(50, 10_000), lacking=[])
