"""Waiting for a definition also works while it has no conditions yet."""

from datetime import timedelta

import pytest

from localcluster.definitions import wait_established
from localcluster.errors import ClusterError

NO_CONDITIONS = "error: .status.conditions accessor error: <nil> is of the type <nil>, expected []interface{}"


class Kubectl:
    """Fails with each of `errors` in turn."""

    def __init__(self, *errors: str) -> None:
        self.errors = list(errors)
        self.called: list[tuple[object, ...]] = []

    def __call__(self, *arguments: object) -> str:
        self.called.append(arguments)
        if self.errors:
            raise ClusterError(self.errors.pop(0))
        return ""


def test_a_definition_without_conditions_is_asked_for_again() -> None:
    kubectl = Kubectl(NO_CONDITIONS, NO_CONDITIONS)

    wait_established(kubectl, "crd/a", "crd/b")

    assert kubectl.called == [("wait", "--for=condition=Established", "--timeout=30s", "crd/a", "crd/b")] * 3


def test_any_other_failure_is_raised_at_once() -> None:
    kubectl = Kubectl("timed out waiting for the condition")

    with pytest.raises(ClusterError, match="timed out"):
        wait_established(kubectl, "crd/a")
    assert len(kubectl.called) == 1


def test_the_waiting_ends() -> None:
    with pytest.raises(ClusterError, match="accessor error"):
        wait_established(Kubectl(*[NO_CONDITIONS] * 9), "crd/a", patience=timedelta(seconds=-1))
