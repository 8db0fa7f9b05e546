"""How fast `modelsync pull` is, against wandb's own download and what the machine can do, in one run.

    python tests/bench/pull.py [--size 2G] [--shards 8] [--small 200] [--rounds 3] [--json FILE]

A W&B stand-in in a separate process serves one artifact; each contender is a process that fetches it cold into an empty
folder on the same disk, timed from its start to its end, in alternating rounds. No test depends on it: times on a
shared machine are only comparable within one run.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "hack")]

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from modelsync.puller.display import size as shown_size  # noqa: E402
from wandb_standin import DEFAULT_API_KEY, Admin  # noqa: E402

UNITS = {"M": 2**20, "G": 2**30}
ORACLE = """
import sys, wandb
wandb.Api().artifact(sys.argv[1]).download(root=sys.argv[2])
"""


@dataclass(frozen=True)
class Ran:
    """One run of one contender."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", default="2G", help="bytes of all shards, as in 512M or 2G")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--small", type=int, default=200, help="how many files of 10 KiB stand beside them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; the disk matters")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    total = int(arguments.size[:-1]) * UNITS[arguments.size[-1]]
    with tempfile.TemporaryDirectory(prefix="bench-pull-", dir=arguments.folder) as name:
        folder = Path(name)
        with served(folder) as (url, admin):
            numbers = measure(url, admin, folder, total, arguments.shards, arguments.small, arguments.rounds)
    show(numbers)
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=2) + "\n")


def measure(url: str, admin: Admin, folder: Path, total: int, shards: int, small: int, rounds: int) -> dict[str, Any]:
    """Log the artifact, let the contenders take turns, and return all numbers."""
    messages = Console(stderr=True, highlight=False)
    messages.print(f"logging {shown_size(total)} in {shards} shards and {small} small files …")
    files = folder / "logged"
    generate(files, total, shards, small)
    version = admin.log_artifact("acme-ml", "bench", "model", files)
    contenders: dict[str, Callable[[Path], Ran]] = {
        "wandb download()": lambda target: run(
            [sys.executable, "-c", ORACLE, version.path, str(target)], url=url, home=target.parent / "home"
        ),
        "modelsync pull": lambda target: run(
            [sys.executable, "-c", "from modelsync.cli import main; main()", "pull", "-o", "json", version.path,
             str(target)], url=url, home=target.parent / "home",
        ),
        "parallel curl": lambda target: curl(url, version.path, target),
    }  # fmt: skip
    runs: dict[str, list[Ran]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            place = folder / "place"
            place.mkdir()
            ran = contender(place / "model")
            check(files, place / "model")
            shutil.rmtree(place)
            os.sync()
            runs[name].append(ran)
            messages.print(f"round {number + 1}: {name}: {ran.seconds:.2f} s")
    return {
        "bytes": version.size,
        "files": version.file_count,
        "cores": os.cpu_count(),
        "md5_mib_per_second": md5_rate() / 2**20,
        "next_version": next_version(url, admin, folder, files, shards),
        "contenders": {
            name: {
                "seconds": [round(ran.seconds, 3) for ran in done],
                "median_seconds": statistics.median(ran.seconds for ran in done),
                "mib_per_second": version.size / 2**20 / statistics.median(ran.seconds for ran in done),
                "cpu_seconds": statistics.median(ran.cpu_seconds for ran in done),
                "peak_mib": max(ran.peak_mib for ran in done),
            }
            for name, done in runs.items()
        },
    }


def next_version(url: str, admin: Admin, folder: Path, files: Path, shards: int) -> dict[str, Any]:
    """Change one shard, and pull the new version beside the old one."""
    old = admin.show("acme-ml/bench/model:latest")
    changed = files / "model-0.safetensors"
    write_random(changed, changed.stat().st_size, seed=shards)
    new = admin.log_artifact("acme-ml", "bench", "model", files)
    command = [sys.executable, "-c", "from modelsync.cli import main; main()", "pull", "-o", "json"]
    place = folder / "both"
    run([*command, old.path, str(place / "old")], url=url, home=folder / "home")
    ran = run([*command, new.path, str(place / "new")], url=url, home=folder / "home")
    document = json.loads(ran.output)
    shutil.rmtree(place)
    fetched = document["bytes"] - document["reused_bytes"]
    return {
        "seconds": ran.seconds,
        "changed_share": changed.stat().st_size / new.size,
        "fetched_share": fetched / new.size,
        "fetched_bytes": fetched,
    }


def generate(folder: Path, total: int, shards: int, small: int) -> None:
    """Write incompressible files without common content."""
    (folder / "small").mkdir(parents=True)
    for number in range(shards):
        write_random(folder / f"model-{number}.safetensors", total // shards, seed=number)
    for number in range(small):
        (folder / "small" / f"{number}.json").write_bytes(random.Random(-1 - number).randbytes(10_240))


def write_random(path: Path, count: int, *, seed: int) -> None:
    """Write `count` bytes that are the same in every run."""
    dice = random.Random(seed)
    with path.open("wb") as file:
        while count:
            data = dice.randbytes(min(count, 2**22))
            file.write(data)
            count -= len(data)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, Admin]]:
    """A stand-in in a separate process."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder / "blobs")],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'hack'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        url = process.stdout.readline().strip()
        yield url, Admin(url)
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


SERVER = """
import sys
from pathlib import Path
from wandb_standin import StandIn
with StandIn(blobs=Path(sys.argv[1])) as standin:
    print(standin.url, flush=True)
    sys.stdin.read()
"""


def run(command: list[str], *, url: str, home: Path) -> Ran:
    """Run one contender with its own home directory."""
    home.mkdir(parents=True, exist_ok=True)
    folders = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_ARTIFACT_DIR", "HOME")
    environment = os.environ | {name: str(home) for name in folders}
    environment |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": DEFAULT_API_KEY, "WANDB_SILENT": "true"}
    environment |= {"WANDB_ERROR_REPORTING": "false", "PYTHONPATH": str(ROOT / "operator")}
    started = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    output: list[str] = []
    errors: list[str] = []
    readers = [
        threading.Thread(target=lambda: output.append(process.stdout.read() if process.stdout else "")),
        threading.Thread(target=lambda: errors.append(process.stderr.read() if process.stderr else "")),
    ]
    for reader in readers:
        reader.start()
    peak = 0.0
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        peak = max(peak, peak_of(process.pid))
        time.sleep(0.01)
    seconds = time.monotonic() - started
    _, status, usage = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    for reader in readers:
        reader.join()
    if process.returncode:
        raise SystemExit(f"{command[:6]} ended with {process.returncode}:\n{errors[0]}")
    return Ran(seconds, usage.ru_utime + usage.ru_stime, peak, output[0])


def peak_of(pid: int) -> float:
    """A process's peak memory so far, MiB; getrusage would count memory inherited from the parent."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def curl(url: str, reference: str, target: Path) -> Ran:
    """Fetch the same files with curl, 16 at once, unverified: the upper bound of network and disk."""
    import asyncio

    from modelsync.api.model_ref import ModelRef
    from modelsync.puller.catalog import Catalog, FileURLs
    from modelsync.registry.credential import Credential
    from modelsync.registry.graphql import GraphQL

    async def urls() -> dict[str, str]:
        async with GraphQL(url, Credential(DEFAULT_API_KEY)) as api:
            catalog = Catalog(api, retry_for=10, note=print)
            artifact_id, version = await catalog.resolve(ModelRef.parse(reference))
            found: dict[str, str] = {}
            async for page in FileURLs(catalog, artifact_id, version).pages():
                found |= page
            return found

    config = target.with_name("curl.config")
    config.write_text(
        "".join(f'url = "{at}"\noutput = "{target / name}"\n' for name, at in asyncio.run(urls()).items())
    )
    command = ["curl", "--parallel", "--parallel-max", "16", "--create-dirs", "--silent", "--fail", "-K", str(config)]
    return run(command, url=url, home=target.parent / "home")


def check(logged: Path, target: Path) -> None:
    """Check that every file exists with its size; content is verified in the tests."""
    for path in logged.rglob("*"):
        if path.is_file() and (target / path.relative_to(logged)).stat().st_size != path.stat().st_size:
            raise SystemExit(f"{path.name} is not whole")


def md5_rate() -> float:
    """MD5 throughput of all cores together, bytes per second."""
    data, each = bytes(2**20), 512

    def work() -> None:
        taken = hashlib.md5(usedforsecurity=False)
        for _ in range(each):
            taken.update(data)

    threads = [threading.Thread(target=work) for _ in range(os.cpu_count() or 1)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(threads) * each * len(data) / (time.monotonic() - started)


def show(numbers: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(title=f"{shown_size(numbers['bytes'])} in {numbers['files']} files, {numbers['cores']} cores")
    for column in ("", "median", "MiB/s", "CPU", "peak memory", "rounds"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in numbers["contenders"].items():
        table.add_row(
            name,
            f"{row['median_seconds']:.2f} s",
            f"{row['mib_per_second']:.0f}",
            f"{row['cpu_seconds']:.1f} s",
            f"{row['peak_mib']:.0f} MiB",
            " ".join(f"{seconds:.2f}" for seconds in row["seconds"]),
        )
    console = Console()
    console.print(table)
    ours = numbers["contenders"]["modelsync pull"]
    theirs = numbers["contenders"]["wandb download()"]
    bound = min(numbers["contenders"]["parallel curl"]["mib_per_second"], numbers["md5_mib_per_second"])
    later = numbers["next_version"]
    console.print(f"{theirs['median_seconds'] / ours['median_seconds']:.1f} times as fast as wandb's download()")
    md5 = numbers["md5_mib_per_second"]
    console.print(f"{ours['mib_per_second'] / bound:.0%} of min(parallel curl, MD5 on all cores: {md5:.0f} MiB/s)")
    console.print(
        f"next version with {later['changed_share']:.0%} changed: {later['fetched_share']:.0%} fetched, "
        f"{later['seconds']:.2f} s"
    )


if __name__ == "__main__":
    main()
