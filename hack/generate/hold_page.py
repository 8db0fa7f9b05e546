"""The list in docs/concepts/security.md of what a hold depends on, and of what the model check tried against it."""

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/concepts/security.md"
MODEL = ROOT / "tests/model/watch_world.py"
START, END = "<!-- generated: what a hold depends on -->\n", "<!-- end of what is generated -->\n"


class Dependency(NamedTuple):
    """Something without which a hold is seen later, or acts only in part. `checked_by` is a file of tests, if any."""

    what: str
    without_it: str
    checked_by: str = ""


DEPENDENCIES = (
    Dependency(
        "one credential that works, for the server that a version was pulled from: the operator's own "
        "(`settings.registries`), the Secret with which it was pulled, or the spec's",
        "no new mark is seen; holds that were seen stay. After `hold.maxStaleness`, no rollout proceeds, `HoldsKnown` "
        "is False, an alert fires, and with `hold.onStale: Block` clients get 503",
        "tests/unit/rollout/test_staleness.py",
    ),
    Dependency(
        "W&B's answer",
        "the same. A webhook only makes it faster; without one, the mark is seen with the next poll (`pollInterval`, "
        "at most the administrator's `settings.hold.pollInterval`)",
        "tests/golden/scenarios.py",
    ),
    Dependency(
        "an operator that leads",
        "the version keeps serving until another replica leads, which reads the marks first of all",
        "tests/e2e/test_operator.py",
    ),
    Dependency(
        "the API server, for one write of the route",
        "the fuse still silences the pods; the write is retried until it succeeds",
        "tests/model/test_model.py",
    ),
    Dependency(
        "the gateway, which must apply the route",
        "it may send requests to the version for a while; its pods answer 451",
        "tests/e2e/test_fuse.py",
    ),
    Dependency(
        "the middleware in the pod",
        "the pod answers until it is deleted, with a grace of one second",
        "tests/e2e/test_fuse.py",
    ),
    Dependency(
        "the node's kubelet",
        "a pod that neither acknowledges nor can be deleted keeps running; no route and no Service leads to it",
    ),
)


def security_page() -> str:
    """The whole page, with the list between its two comments written anew."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}{_list()}{END}{after}"


def _list() -> str:
    lines = ["\n| a hold depends on | without it | checked by |\n|---|---|---|\n"]
    for each in DEPENDENCIES:
        if each.checked_by and not (ROOT / each.checked_by).exists():
            raise FileNotFoundError(f"{each.checked_by}: named in {Path(__file__).name}, but it does not exist")
        lines.append(f"| {each.what} | {each.without_it} | {f'`{each.checked_by}`' if each.checked_by else '–'} |\n")
    lines.append(
        "\nWhile one credential of the first row works, none of the following stops a hold. The model check\n"
        "(`tests/model/test_watch.py`) tries every order of two of them, before and after a mark:\n\n"
    )
    lines += [f"* {name}\n" for name in _disturbances()]
    return "".join(lines) + "\n"


def _disturbances() -> list[str]:
    """The names of the disturbances in the model check's world, read without running it."""
    for node in ast.parse(MODEL.read_text(encoding="utf-8")).body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == "DISTURBANCES"
            and isinstance(node.value, ast.Dict)
        ):
            return [str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)]
    raise LookupError(f"{MODEL.name} has no DISTURBANCES")
