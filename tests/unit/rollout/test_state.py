"""Every intent survives the round trip through the status."""

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from modelsync.api.hold import HoldMark
from modelsync.api.requests import Requests
from modelsync.api.status import ModelDeploymentStatus
from modelsync.rollout.model import (
    Canary,
    Failure,
    Hold,
    MoveReason,
    Pause,
    Previous,
    SetWeight,
    State,
    Target,
)
from modelsync.rollout.state import dump, load

moments = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40)
revisions = st.from_regex(r"v[0-9]{1,5}-[0-9a-f]{8}", fullmatch=True)
durations = st.integers(0, 10**9).map(lambda number: timedelta(milliseconds=number))
steps = st.one_of(st.builds(SetWeight, st.integers(0, 100)), st.builds(Pause, durations), st.just(Pause()))
marks = st.builds(HoldMark, texts, texts, texts, st.sampled_from(["VersionTag", "CollectionTag", "Alias"]), texts)
states = st.builds(
    State,
    target=st.none() | st.builds(Target, revisions, st.sampled_from(MoveReason), moments),
    canary=st.none()
    | st.builds(
        Canary,
        revisions,
        st.integers(0, 9),
        st.integers(0, 100),
        st.lists(steps, max_size=6).map(tuple),
        moments,
        st.none() | moments,
        st.none() | moments,
        st.booleans(),
        st.none() | texts,
    ),
    promoted=st.lists(revisions, max_size=5, unique=True).map(tuple),
    failed=st.lists(st.builds(Failure, revisions, texts, moments, texts), max_size=3).map(tuple),
    holds=st.lists(st.builds(Hold, marks, moments), max_size=3, unique_by=lambda hold: hold.mark).map(tuple),
    previous=st.none() | st.builds(Previous, revisions, moments),
    handled=st.builds(Requests, *[st.none() | texts] * 5),
)


@given(states)
def test_what_is_intended_comes_back_from_the_status(state: State) -> None:
    wire = json.loads(json.dumps(ModelDeploymentStatus(**dump(state)).wire()))
    assert load(ModelDeploymentStatus.model_validate(wire)) == state


def test_an_empty_status_means_no_intent() -> None:
    assert load(ModelDeploymentStatus.model_validate({})) == State()


def test_fields_of_a_newer_operator_are_left_out() -> None:
    status = ModelDeploymentStatus.model_validate({"promoted": ["v1-11111111"], "analysis": [{"name": "errors"}]})
    assert load(status) == State(promoted=("v1-11111111",))
