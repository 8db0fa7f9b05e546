"""`status` prints the progress of the rollout, and its exit code reflects the outcome."""

from unit.kubectl.conftest import Golden, Shell


def test_it_waits_until_the_wanted_version_serves(in_canary: Shell, golden: Golden) -> None:
    in_canary("promote --full chat")
    golden("status", in_canary("status chat"))


def test_a_pause_for_promotion_is_reported_with_the_command(in_canary: Shell) -> None:
    output = in_canary("status chat --watch=false")
    assert output == (
        "Waiting for chat: v2 (v2-22222222) at 10 %, step 2 of 4, 1 of 1 pods ready; waits for a person's promote: "
        "kubectl modelsync promote chat -n prod\n"
    )


def test_a_version_that_failed_ends_it(in_canary: Shell) -> None:
    in_canary("abort chat")
    output = in_canary("status chat", code=3)
    assert "v2 (v2-22222222) failed and is not tried again" in output
    assert output.endswith("; next: kubectl modelsync retry chat -n prod\n")


def test_a_hold_ends_it(in_canary: Shell) -> None:
    in_canary.world.hold("v2")
    in_canary.world.run(seconds=2)
    output = in_canary("status chat", code=4)
    assert "must not serve: hold 'regulatory-hold'" in output
    assert output.endswith("; next: kubectl modelsync hold chat -n prod\n")


def test_the_timeout_ends_it_and_reports_the_wait(in_canary: Shell) -> None:
    output = in_canary("status chat --timeout=1ms", code=5)
    assert "not finished within --timeout=1ms" in output
    assert "--timeout" in in_canary("status chat --timeout=soon", code=2)


def test_a_revision_that_does_not_serve_yet_is_waited_for(shell: Shell) -> None:
    shell.world.move_alias("v1")
    shell.world.run(minutes=5)
    shell.world.move_alias("v2")
    shell.world.change_spec(steps=())
    assert "v2 (v2-22222222) serves" in shell("status chat --revision v2")
    assert "v1-11111111" not in shell("status chat --revision v2-22222222")


def test_a_change_that_the_operator_has_not_seen_is_waited_for(in_canary: Shell) -> None:
    in_canary.world.generation += 1
    output = in_canary("status chat --watch=false")
    assert output == "Waiting for chat: the operator has not seen the latest change to its spec yet\n"


def test_a_missing_object_is_reported(in_canary: Shell) -> None:
    output = in_canary("status nope", code=1)
    assert output == 'error: modeldeployments.modelsync.dev "nope" not found in namespace prod; found there: chat\n'


def test_a_registry_outage_is_reported_as_the_wait(in_canary: Shell) -> None:
    in_canary.world.registry(reachable=False)
    in_canary.world.run(minutes=2)
    output = in_canary("status chat --watch=false")
    assert output.endswith("pods ready; waits for the registry to answer again; nothing moves forward meanwhile\n")


def test_a_suspended_one_is_reported_with_the_command(in_canary: Shell) -> None:
    in_canary("pause chat")
    in_canary.world.run(seconds=5)
    output = in_canary("status chat --watch=false")
    assert output.endswith("set it to false to go on: kubectl modelsync resume chat -n prod\n")
