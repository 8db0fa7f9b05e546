"""Requests name the revision and the user, wait for the operator's answer, and are refused when they cannot apply."""

from modelsync.api.requests import ABORT, PROMOTE
from modelsync.rollout.model import SetWeight
from unit.kubectl.conftest import Shell
from unit.kubectl.fake import ALICE


def asked(shell: Shell, annotation: str) -> str:
    """The value that the last patch wrote."""
    return str(shell.cluster.patches[-1]["metadata"]["annotations"][annotation])


def test_promote_ends_the_pause_and_prints_the_next_step(in_canary: Shell) -> None:
    assert in_canary("promote chat") == (
        "modeldeployment.modelsync.dev/chat continues: v2-22222222 is at step 3 of 4, setWeight 50\n"
    )
    revision, _, by = asked(in_canary, PROMOTE.annotation).split("/")
    assert (revision, by) == ("v2-22222222", ALICE)


def test_a_second_promote_of_the_same_canary_is_another_request(in_canary: Shell) -> None:
    in_canary("promote chat")
    in_canary.world.run(minutes=5)
    assert "its steps" not in in_canary("promote mdep/chat")
    in_canary.world.run(minutes=5)
    assert in_canary.world.status.promoted[-1] == "v2-22222222"


def test_promote_full_skips_the_remaining_steps_and_the_status_names_the_user(in_canary: Shell) -> None:
    assert "the remaining steps of v2-22222222 are skipped" in in_canary("promote --full chat")
    canary = in_canary.world.status.canary
    assert canary is not None
    assert canary.promoted_by == ALICE


def test_promote_waits_for_a_pause_that_is_still_to_come(in_canary: Shell) -> None:
    in_canary.world.move_alias("v3")
    in_canary.world.run(seconds=1)
    in_canary.cluster.step *= 5
    assert "v3-33333333 is at step 3 of 4" in in_canary("promote chat --timeout 0")


def test_abort_aborts_the_canary_and_prints_what_serves(in_canary: Shell) -> None:
    assert in_canary("abort chat") == (
        "modeldeployment.modelsync.dev/chat aborted: v2-22222222 loses its traffic, v1-11111111 serves\n"
    )
    assert in_canary.world.status.failed[0].message == f"{ALICE} said abort"


def test_retry_tries_the_aborted_version_again(in_canary: Shell) -> None:
    in_canary("abort chat")
    assert "retried: v2-22222222 is tried again" in in_canary("retry chat")
    assert in_canary.world.status.failed == ()


def test_refresh_makes_the_operator_ask(in_canary: Shell) -> None:
    asked_at = in_canary.world.asked_at
    in_canary("refresh chat")
    in_canary.world.run(seconds=1)
    assert asked_at is not None
    assert in_canary.world.asked_at is not None
    assert in_canary.world.asked_at > asked_at


def test_a_request_that_cannot_apply_is_refused_before_anything_is_written(in_canary: Shell) -> None:
    in_canary("promote --full chat")
    in_canary.world.run(minutes=5)
    count = len(in_canary.cluster.patches)
    state = "v2-22222222 serves and no rollout is in progress"
    assert in_canary("promote chat", code=1) == f"error: nothing to promote: {state}\n"
    assert f"nothing to abort: {state}; to serve another version, move the alias" in in_canary("abort chat", code=1)
    assert in_canary("retry chat", code=1) == f"error: nothing to retry: {state}\n"
    assert len(in_canary.cluster.patches) == count


def test_a_failed_version_that_the_alias_has_left_is_not_retried(in_canary: Shell) -> None:
    in_canary("abort chat")
    output = in_canary("promote chat", code=1)
    assert output == "error: nothing to promote: v2-22222222 has failed (Aborted), v1-11111111 serves\n"


def test_promote_of_a_suspended_one_points_to_resume(in_canary: Shell) -> None:
    in_canary("pause chat")
    assert "first: kubectl modelsync resume chat -n prod" in in_canary("promote chat", code=1)


def test_promote_without_a_pause_ahead_points_to_full(in_canary: Shell) -> None:
    in_canary.world.change_spec(steps=(SetWeight(10),))
    in_canary.world.move_alias("v3")
    in_canary.world.run(seconds=3)
    assert "has no pause ahead of it; --full skips" in in_canary("promote chat", code=1)


def test_a_missing_answer_of_the_operator_is_reported_after_the_timeout(in_canary: Shell) -> None:
    in_canary.cluster.operator_runs = False
    output = in_canary("abort chat --timeout 1ms", code=5)
    assert "abort: no answer within 1ms: chat waits for a person's promote; the request is kept and acted on" in output


def test_without_waiting_only_the_annotation_is_reported(in_canary: Shell) -> None:
    in_canary.cluster.operator_runs = False
    output = in_canary("promote chat --wait=false")
    assert output == "modeldeployment.modelsync.dev/chat annotated: promote v2-22222222\n"


def test_a_late_request_is_reported_as_ignored(in_canary: Shell) -> None:
    class Late(type(in_canary.cluster)):  # type: ignore[misc]
        def patch(self, namespace: str, name: str, patch: dict[str, object]) -> object:
            self.world.move_alias("v3")
            self.world.run(seconds=2)
            return super().patch(namespace, name, patch)

    in_canary.cluster.__class__ = Late
    output = in_canary("promote chat", code=1)
    assert "promote was ignored: v2-22222222 is no longer the canary" in output


def test_a_user_whose_name_cannot_be_asked_for_is_not_named(in_canary: Shell) -> None:
    in_canary.cluster.refused.add("selfsubjectreviews")
    in_canary("abort chat")
    assert asked(in_canary, ABORT.annotation).count("/") == 1


def test_a_user_name_that_does_not_fit_is_refused(in_canary: Shell) -> None:
    in_canary.cluster.user = "x" * 300
    assert "your user name is too long: a request may have 256 characters" in in_canary("abort chat", code=1)


def test_pause_and_resume_set_the_spec_once(in_canary: Shell) -> None:
    assert "paused: nothing moves forward until `resume`" in in_canary("pause chat")
    assert in_canary.cluster.patches == [{"spec": {"suspend": True}}]
    assert "is already paused" in in_canary("pause chat")
    assert "resumed" in in_canary("resume chat")
    assert "is not paused" in in_canary("resume chat")
    assert len(in_canary.cluster.patches) == 2


def test_an_unknown_name_is_reported_like_by_the_api_server(in_canary: Shell) -> None:
    output = in_canary("abort chatt", code=1)
    assert output == 'error: modeldeployments.modelsync.dev "chatt" not found in namespace prod; did you mean chat?\n'
    assert "give its name, such as `chat`" in in_canary("abort deployment/chat", code=2)


def test_a_missing_steering_right_is_reported_with_the_command_that_grants_it(in_canary: Shell) -> None:
    refusal = (
        f'modeldeployments.modelsync.dev "chat" is forbidden: User "{ALICE}" cannot patch resource '
        '"modeldeployments" in API group "modelsync.dev" in the namespace "prod"'
    )
    in_canary.cluster.policy = refusal
    hint = "an administrator of namespace prod can grant the right to {} with: kubectl create rolebinding NAME"
    for command, verb, role in (
        ("promote", "promote", "approver"),
        ("promote --full", "promote-full", "approver"),
        ("abort", "abort", "responder"),
        ("refresh", "refresh", "responder"),
        ("pause", "suspend", "responder"),
    ):
        output = in_canary(f"{command} chat", code=1)
        assert output == (
            f"error: {refusal}; {hint.format(verb)} --clusterrole=modelsync-{role} --namespace=prod --user={ALICE}\n"
        )
    in_canary.cluster.policy = refusal.replace(ALICE, "system:serviceaccount:ci:deploy")
    assert "--serviceaccount=ci:deploy\n" in in_canary("abort chat", code=1)
    in_canary.cluster.policy = "a webhook does not like it"
    assert in_canary("abort chat", code=1) == "error: a webhook does not like it\n"


def test_a_blocked_version_is_not_reported_as_serving(shell: Shell) -> None:
    shell.world.move_alias("v1")
    shell.world.run(minutes=5)
    shell.world.hold("v1")
    shell.world.run(minutes=1)
    assert "nothing to promote: nothing serves, clients get 503: hold 'regulatory-hold' on" in shell(
        "promote chat", code=1
    )
