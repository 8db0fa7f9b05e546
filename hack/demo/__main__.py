"""The story: rollout, a bad version taken back, the alias moved back, a hold, and the hold lifted.

Everything shown is read from the cluster or counted by the client; the story only moves aliases and tags.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

from rich.console import Console

from demo.screen import Screen
from localcluster import ClusterError, Progress, current_cluster
from stage import Deployment, Stage, StageError, model_deployment
from stage.stage import ENTITY, REGISTRY, condition, stable_version, weight_of

NAMESPACE = "demo"
COLLECTION = "Chat LLM"
PATH = f"{ENTITY}/{REGISTRY}/{COLLECTION}"
STEPS = (
    {"setWeight": 10},
    {"pause": {"duration": "5s"}},
    {"setWeight": 50},
    {"pause": {"duration": "5s"}},
)


ROLLOUT_PICTURE, HOLD_PICTURE = "demo-rollout.svg", "demo-hold.svg"
PICTURE_WIDTH = 112
"""Characters of a line in a picture."""


async def main(pictures: Path | None = None) -> int:
    """Play the story; 0 when it went as told and no request was lost.

    `pictures` is a folder for SVGs of what was shown, for the documentation.
    """
    # What a picture has is what was printed, without the frames of a live table.
    console = Console() if pictures is None else Console(record=True, force_terminal=False, width=PICTURE_WIDTH)
    started = time.monotonic()
    console.rule("[bold]modelsync: moving an alias in Weights & Biases is the deployment")
    stage = await Stage.open(current_cluster(), progress=Progress())
    try:
        await stage.namespace(NAMESPACE)
        known = _logged(stage)
        first = stage.log_version(COLLECTION, "Hello, I am the first version.").version
        if not known:
            stage.add_webhook(COLLECTION)
        _point(stage, first)
        manifest = model_deployment(
            NAMESPACE,
            "chat",
            f"{PATH}:production",
            server=stage.servers.registry_url,
            steps=STEPS,
            hostname="chat.example.com",
        )
        manifest["spec"]["traffic"]["settle"] = "3s"
        deployment = await stage.deploy(manifest)
        async with Screen(console, deployment) as screen:
            await _story(stage, deployment, screen, first, pictures)
        lost = screen.traffic.lost()
    except (StageError, TimeoutError) as problem:
        console.print(f"[red]The story stopped: {problem}")
        console.print(f"The operator's log: {stage.servers.operator_log}")
        return 1
    finally:
        await stage.close()
    _end(console, deployment, screen, time.monotonic() - started)
    return 1 if lost else 0


async def _story(stage: Stage, deployment: Deployment, screen: Screen, first: str, pictures: Path | None) -> None:
    screen.act(
        "A ModelDeployment names an alias", f"`{PATH}:production` is {first}; pods pull it, verify it, and serve it."
    )
    await deployment.until_serving(first, timeout=180)
    await screen.start_traffic()

    second = stage.log_version(COLLECTION, "Hello, I am the second version.").version
    screen.forget()
    screen.act(
        "Rollout", f"The alias moves to {second}: 10 %, then 50 %, then all. Watch the answers follow the weights."
    )
    _point(stage, second)
    await deployment.until_weight(second, 10)
    await deployment.until_weight(second, 50)
    if pictures is not None:
        await screen.watch(answers=60)
        screen.save(pictures / ROLLOUT_PICTURE, "make demo")
    await deployment.until_serving(second)

    bad = stage.log_version(COLLECTION, "I am broken.", faults={"crash_after_seconds": 1.5}).version
    screen.act("A bad version", f"The alias moves to {bad}, which dies soon after its load: it never gets a request.")
    _point(stage, bad)
    await deployment.until(f"{bad} is taken back", lambda s: condition(s, "RolledBack").get("status") == "True", 120)
    screen.say(
        f"{bad} has failed and is not tried again; {second} served all the time. The alias goes back to {second}."
    )
    _point(stage, second)
    await deployment.until_serving(second)

    screen.act("The alias moves back", f"Someone prefers {first}. It is kept warm, so going back needs no steps.")
    _point(stage, first)
    await deployment.until_serving(first)

    third = stage.log_version(COLLECTION, "Hello, I am the next version.").version
    screen.act("And forward again", f"The alias moves to {third}, by the steps.")
    _point(stage, third)
    await deployment.until_serving(third)

    screen.forget()
    screen.act(
        "A regulatory hold",
        f"The tag `regulatory-hold` is set on {third}: no byte of it from now on; {first} takes over.",
    )
    stage.registry.add_tag(f"{PATH}:{third}", "regulatory-hold")
    await deployment.until(
        f"{first} has all the traffic",
        lambda s: weight_of(s, first) == 100 and condition(s, "OnHold").get("status") == "True",
    )
    await screen.watch(answers=80)
    if pictures is not None:
        screen.save(pictures / HOLD_PICTURE, "make demo")

    screen.act("The hold is lifted", f"The tag is taken away: {third} comes back, by the steps.")
    stage.registry.remove_tag(f"{PATH}:{third}", "regulatory-hold")
    await deployment.until(
        f"{third} is the stable again", lambda s: stable_version(s) == third and not s.get("canary"), 120
    )
    await deployment.until_serving(third)


def _logged(stage: Stage) -> bool:
    return any(collection["path"] == PATH for collection in stage.registry.collections())


def _point(stage: Stage, version: str) -> None:
    stage.registry.set_alias(f"{PATH}:{version}", "production")


def _end(console: Console, deployment: Deployment, screen: Screen, seconds: float) -> None:
    lost = screen.traffic.lost()
    console.rule("[bold]the end")
    console.print(f"{len(screen.traffic.answers)} requests, [bold]{len(lost)} lost[/], in {seconds:.0f} s.")
    if lost:
        console.print(screen.traffic.explain(), style="red", highlight=False)
    console.print(
        "\nThe cluster goes on. What to try next:\n"
        "  make shell                              # kubectl and the rest, inside the cluster's network; there:\n"
        "    kubectl modelsync get chat -n demo -w\n"
        "    kubectl describe mdep chat -n demo\n"
        f"    python -m wandb_standin ctl --help    # move the aliases and set the tags of {PATH!r}\n"
        "  make demo-down                          # leaves nothing",
        highlight=False,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write SVGs of what is shown")
    try:
        sys.exit(asyncio.run(main(parser.parse_args().pictures)))
    except ClusterError as problem:
        sys.exit(f"demo: {problem}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted; `make demo-down` leaves nothing")
