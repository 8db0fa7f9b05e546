"""The threads in which asyncio resolves names belong to name resolution alone.

`getaddrinfo` runs in the event loop's default executor, which has a handful of threads. Whatever else runs there can
fill it, and then no server can be reached by name: polling stops, and with it holds.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3] / "operator" / "modelsync"
ELSEWHERE = {"kubectl", "middleware"}
"""Rooms whose code never runs in the operator's process."""


def uses_of_the_default_executor(code: str) -> Iterator[int]:
    """The lines that run something in the default executor, or replace it."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Attribute(attr="to_thread" | "set_default_executor"):
                yield node.lineno
            case ast.Call(func=ast.Attribute(attr="run_in_executor"), args=[ast.Constant(value=None), *_]):
                yield node.lineno


def test_the_search_finds_each_way_to_the_default_executor() -> None:
    ways = ("asyncio.to_thread(f)", "loop.run_in_executor(None, f)", "loop.set_default_executor(e)")
    assert [[*uses_of_the_default_executor(way)] for way in ways] == [[1], [1], [1]]
    assert [*uses_of_the_default_executor("loop.run_in_executor(mine, f)")] == []


def test_nothing_of_the_operator_runs_where_names_are_resolved() -> None:
    files = [path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in ELSEWHERE]
    assert len(files) > 100
    found = [
        f"{path.relative_to(ROOT)}:{line}" for path in files for line in uses_of_the_default_executor(path.read_text())
    ]
    assert found == [], "give it a ThreadPoolExecutor of its own, or a process (effects/adapter_process.py)"
