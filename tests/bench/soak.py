"""The soak test: rollouts, aborts, holds and pod deletions under load, with every request accounted for.

    python tests/bench/soak.py [--short] [--gateway contour] [--json FILE]

Runs inside the local cluster (`make soak`). It exits with 1 when a request is lost without a hold as the reason, when
the measured shares do not match the weights, or when fewer actions were done than planned. It does not judge times.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "hack")]

from rich.console import Console  # noqa: E402

from localcluster import ClusterError, Progress, current_cluster  # noqa: E402
from localcluster.contour import end_contour, start_contour  # noqa: E402
from soak import FULL, SHORT, account, run  # noqa: E402
from stage import Stage, StageError  # noqa: E402


async def main() -> int:
    """Run the soak test."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--short", action="store_true", help="the one that the e2e tests run")
    parser.add_argument("--gateway", choices=["traefik", "contour"], default="traefik", help="which gateway routes")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    console, messages = Console(), Console(stderr=True, highlight=False, soft_wrap=True)
    stage = await Stage.open(current_cluster(), progress=Progress())
    namespace = f"soak-{int(time.time()):x}"
    try:
        other = start_contour(stage.cluster, Progress()) if arguments.gateway == "contour" else None
        record = await run(
            stage, SHORT if arguments.short else FULL, namespace, print_line=messages.print, gateway=other
        )
    except (StageError, ClusterError, TimeoutError) as error:
        console.print(f"[red]The soak stopped: {error}")
        console.print(f"The operator's log: {stage.servers.operator_log}")
        return 1
    finally:
        stage.cluster.kubectl("delete", "namespace", namespace, "--wait=false")
        end_contour(stage.cluster)
        stage.servers.end()
        await stage.close()
    found = account(record)
    console.print(found.table())
    if found.failures:
        console.print(record.traffic.explain(found.failures), style="red", highlight=False, markup=False)
    for problem in found.problems:
        console.print(problem, style="red")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found.numbers | {"problems": found.problems}, indent=2) + "\n")
    if not found.problems:
        console.print("[green]Nothing lost, and every share as wanted.")
    return 1 if found.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except ClusterError as problem:
        sys.exit(str(problem))
