"""An object that is not of its kind's shape loses what is not, and nothing else."""

from typing import Any

import pytest

from modelsync.api.kinds import DEPLOYMENT, HTTP_ROUTE, MODEL_DEPLOYMENT, POD, SERVICE, Kind
from modelsync.observe.shape import all_shaped, shaped

METADATA = {"name": "x", "namespace": "n", "uid": "u"}


def cut(kind: Kind, **parts: Any) -> dict[str, Any]:
    found = shaped(kind, {"metadata": METADATA, **parts})
    assert found is not None
    return {name: value for name, value in found.items() if name != "metadata"}


def test_a_well_formed_object_is_passed_on_as_it_is() -> None:
    pod = {"metadata": METADATA, "spec": {"nodeName": "a", "unknown": [1]}, "status": {"phase": "Running"}}
    assert shaped(POD, pod) is pod


@pytest.mark.parametrize("value", ["5", True, -1, 1 << 31, 1.0, float("nan"), [5]])
def test_what_is_no_count_is_not_there(value: Any) -> None:
    assert cut(DEPLOYMENT, spec={"replicas": value, "paused": True}) == {"spec": {"paused": True}}


def test_a_value_that_is_not_set_stays_so() -> None:
    assert cut(DEPLOYMENT, spec={"replicas": None}, status=None) == {"spec": {"replicas": None}, "status": None}


def test_of_a_map_and_of_a_list_only_what_does_not_fit_is_lost() -> None:
    assert cut(SERVICE, spec={"selector": {"a": "b", "c": 1}}) == {"spec": {"selector": {"a": "b"}}}
    rules = [{"backendRefs": [{"name": "a", "weight": 1}, "x", {"name": 5, "weight": 2}]}, None, 7]
    assert cut(HTTP_ROUTE, spec={"rules": rules}) == {
        "spec": {"rules": [{"backendRefs": [{"name": "a", "weight": 1}, {"weight": 2}]}]}
    }


def test_half_a_character_is_no_text() -> None:
    assert cut(POD, spec={"nodeName": "\ud800"}) == {"spec": {}}
    assert cut(POD, spec={"nodeName": "ü"}) == {"spec": {"nodeName": "ü"}}


def test_a_spec_of_ours_is_left_to_its_reader() -> None:
    assert cut(MODEL_DEPLOYMENT, spec=5, status=5) == {"spec": 5}


@pytest.mark.parametrize("obj", [None, [], {}, {"metadata": 5}, {"metadata": {"name": "x", "uid": "u"}}])
def test_what_has_no_identity_is_no_object(obj: Any) -> None:
    assert shaped(POD, obj) is None
    assert all_shaped(POD, [obj, {"metadata": METADATA}]) == [{"metadata": METADATA}]
