"""Arguments that name a file: only files of the revision's own side artifacts, which were verified and are pinned.

Any other file of the pod is either not what was resolved, or nothing that a tenant may read through the model server.
"""

import posixpath
from collections.abc import Collection, Iterator, Sequence

from modelsync.api.pod_contract import ARTIFACTS_DIR
from modelsync.api.problems import FieldProblem

FLAGS = ("--chat-template",)
"""Flags whose value vLLM opens as a file, unless it is the text itself."""

_TEXT = "{}\n"
"""vLLM takes a value with one of these for the template itself (renderers/chat_utils.py, JINJA_CHARS)."""


def path_problems(
    args: Sequence[str], artifacts: Collection[str], allowed: Collection[str] = ()
) -> Iterator[FieldProblem]:
    """What is wrong with the files that `args` name. `artifacts` are the names in spec.serving.artifacts; of flags in
    `allowed` (the administrator's allowedArgs) anything goes."""
    for index, arg in enumerate(args):
        flag, _, value = arg.partition("=")
        if flag not in FLAGS or flag in allowed or any(mark in value for mark in _TEXT):
            continue
        problem = _problem(value, artifacts)
        if problem:
            yield FieldProblem(f"spec.serving.args[{index}]", f"{flag}={value} is refused: {problem}")


def _problem(value: str, artifacts: Collection[str]) -> str:
    written = f"write {ARTIFACTS_DIR}/<name>/<file>"
    folder, _, rest = value.removeprefix(f"{ARTIFACTS_DIR}/").partition("/")
    if not value.startswith(f"{ARTIFACTS_DIR}/") or not rest:
        return f"a file must be one of spec.serving.artifacts; {written}"
    if posixpath.normpath(value) != value:
        return f"a path must be plain, without . and .. and double slashes; {written}"
    if folder not in artifacts:
        named = ", ".join(sorted(artifacts)) or "none"
        return f"spec.serving.artifacts has no {folder!r} (it has: {named}); add it there, or name one that is"
    return ""
