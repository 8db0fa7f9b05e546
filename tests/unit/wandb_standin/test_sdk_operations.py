"""Every operation that the SDK ships is either valid against the stand-in's schema or listed here as out of scope."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from graphql import parse, print_ast, validate
from graphql.language import OperationDefinitionNode

from wandb_standin.graphql_endpoint import build

BEYOND = {
    # sweeps
    "GetAgentRuns",
    "GetSweep",
    "GetSweepAgent",
    "GetSweepAgents",
    "GetSweepLegacy",
    "GetSweeps",
    # administration of users and registries
    "CreateInvite",
    "CreateRegistryMembers",
    "CreateServiceAccount",
    "CreateTeam",
    "CreateUserFromAdmin",
    "DeleteApiKey",
    "DeleteInvite",
    "DeleteRegistry",
    "DeleteRegistryMembers",
    "GenerateApiKey",
    "GetTeamEntity",
    "RegistryTeamMembers",
    "RegistryUserMembers",
    "RenameRegistry",
    "UpdateTeamRegistryRole",
    "UpdateUserRegistryRole",
    # moving a sequence to another type
    "UpdateArtifactSequenceType",
}


def sdk_operations() -> dict[str, str]:
    """The SDK's generated operations as text, by name; the SDK is not imported."""
    found = {}
    for package in ("apis", "automations", "sdk/artifacts", "sdk/internal"):
        source = resources.files("wandb").joinpath(package, "_generated", "operations.py").read_text()
        for text in re.findall(r'_GQL = """\n(.*?)"""', source, re.DOTALL):
            document = parse(text)
            (name,) = [d.name.value for d in document.definitions if isinstance(d, OperationDefinitionNode) and d.name]
            found[name] = print_ast(document)
    return found


OPERATIONS = sdk_operations()


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - BEYOND))
def test_the_schema_takes_the_sdks_operation(name: str) -> None:
    # ARIA is an action that the SDK omits if the server does not support it (omit_automation_fragments)
    text = re.sub(r"\n *\.\.\.AriaActionFields\b|\nfragment AriaActionFields [^}]*}", "", OPERATIONS[name])

    assert [error.message for error in validate(build(), parse(text))] == []


@pytest.mark.parametrize("name", sorted(BEYOND))
def test_operations_out_of_scope_are_refused(name: str) -> None:
    assert validate(build(), parse(OPERATIONS[name]))
