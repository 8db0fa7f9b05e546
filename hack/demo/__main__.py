"""The demo: a rollout, a bad version, a rollback, a hold, and the hold lifted.

Everything shown is read from the cluster or counted by the client; the demo itself only moves aliases and tags.
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
"""Width of a picture in characters."""


async def main(pictures: Path | None = None) -> int:
    """Play the demo; returns 0 if everything happened as planned and no request was lost.

    `pictures` is a folder for SVGs of the output, for the documentation.
    """
    # A recording must not be a terminal, or it would contain every frame of the live table.
    console = Console() if pictures is None else Console(record=True, force_terminal=False, width=PICTURE_WIDTH)
    started = time.monotonic()
    console.rule("[bold]modelsync: deploy a model by moving an alias in Weights & Biases")
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
        console.print(f"[red]The demo failed: {problem}")
        console.print(f"Operator log: {stage.servers.operator_log}")
        return 1
    finally:
        await stage.close()
    _end(console, deployment, screen, time.monotonic() - started)
    return 1 if lost else 0


async def _story(stage: Stage, deployment: Deployment, screen: Screen, first: str, pictures: Path | None) -> None:
    screen.act(
        "First deployment",
        f"A ModelDeployment names `{PATH}:production`, which is {first}. Pods pull, verify and serve it.",
    )
    await deployment.until_serving(first, timeout=180)
    await screen.start_traffic()

    second = stage.log_version(COLLECTION, "Hello, I am the second version.").version
    screen.clear_recording()
    screen.act(
        "Rollout",
        f"The alias moves to {second}, which gets 10 %, then 50 %, then all of the traffic. Watch the answers follow.",
    )
    _point(stage, second)
    await deployment.until_weight(second, 10)
    await deployment.until_weight(second, 50)
    if pictures is not None:
        await screen.watch(answers=60)
        screen.save(pictures / ROLLOUT_PICTURE, "make demo")
    await deployment.until_serving(second)

    bad = stage.log_version(COLLECTION, "I am broken.", faults={"crash_after_seconds": 1.5}).version
    screen.act("A bad version", f"The alias moves to {bad}, which crashes soon after loading. It never gets a request.")
    _point(stage, bad)
    await deployment.until(f"{bad} is rolled back", lambda s: condition(s, "RolledBack").get("status") == "True", 120)
    screen.note(f"{bad} failed and is not retried; {second} kept serving. The alias moves back to {second}.")
    _point(stage, second)
    await deployment.until_serving(second)

    screen.act("Rollback", f"The alias moves back to {first}, which is still warm, so it takes over without steps.")
    _point(stage, first)
    await deployment.until_serving(first)

    third = stage.log_version(COLLECTION, "Hello, I am the next version.").version
    screen.act("Next version", f"The alias moves to {third}, which is rolled out in steps.")
    _point(stage, third)
    await deployment.until_serving(third)

    screen.clear_recording()
    screen.act(
        "A regulatory hold",
        f"Someone tags {third} `regulatory-hold`. It must not send another byte; {first} takes over.",
    )
    stage.registry.add_tag(f"{PATH}:{third}", "regulatory-hold")
    await deployment.until(
        f"{first} has all the traffic",
        lambda s: weight_of(s, first) == 100 and condition(s, "OnHold").get("status") == "True",
    )
    await screen.watch(answers=80)
    if pictures is not None:
        screen.save(pictures / HOLD_PICTURE, "make demo")

    screen.act("The hold is lifted", f"The tag is removed. {third} is rolled out again, in steps.")
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
    console.rule("[bold]Done")
    console.print(f"{len(screen.traffic.answers)} requests, [bold]{len(lost)} lost[/], in {seconds:.0f} s.")
    if lost:
        console.print(screen.traffic.explain(), style="red", highlight=False)
    console.print(
        "\nThe cluster keeps running. Things to try next:\n"
        "  make shell                              # a shell with kubectl in the cluster's network; in it:\n"
        "    kubectl modelsync get chat -n demo -w\n"
        "    kubectl describe mdep chat -n demo\n"
        f"    python -m wandb_standin ctl --help    # move aliases and set tags of {PATH!r}\n"
        "  make demo-down                          # removes everything",
        highlight=False,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write SVGs of the output to FOLDER")
    try:
        sys.exit(asyncio.run(main(parser.parse_args().pictures)))
    except ClusterError as problem:
        sys.exit(f"demo: {problem}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted; `make demo-down` removes everything")
