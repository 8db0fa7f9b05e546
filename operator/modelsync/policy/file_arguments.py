"""Arguments that name a file. Only files of the revision's side artifacts are allowed: they are verified and pinned.

Any other file in the pod is not part of the revision, or must not be readable through the model server.
"""

import posixpath
from collections.abc import Collection, Iterator, Sequence

from modelsync.api.pod_contract import ARTIFACTS_DIR
from modelsync.api.problems import FieldProblem

FLAGS = ("--chat-template",)
"""Flags whose value vLLM opens as a file, unless the value is the template itself."""

_TEXT = "{}\n"
"""vLLM treats a value with one of these characters as the template itself (renderers/chat_utils.py, JINJA_CHARS)."""


def path_problems(
    args: Sequence[str], artifacts: Collection[str], allowed: Collection[str] = ()
) -> Iterator[FieldProblem]:
    """Problems with the files that `args` name. `artifacts` are the names in spec.serving.artifacts; flags in `allowed`
    (the administrator's allowedArgs) are not checked."""
    for index, arg in enumerate(args):
        flag, _, value = arg.partition("=")
        if flag not in FLAGS or flag in allowed or any(mark in value for mark in _TEXT):
            continue
        problem = _problem(value, artifacts)
        if problem:
            yield FieldProblem(f"spec.serving.args[{index}]", f"{flag}={value} is not allowed: {problem}")


def _problem(value: str, artifacts: Collection[str]) -> str:
    written = f"write {ARTIFACTS_DIR}/<name>/<file>"
    folder, _, rest = value.removeprefix(f"{ARTIFACTS_DIR}/").partition("/")
    if not value.startswith(f"{ARTIFACTS_DIR}/") or not rest:
        return f"the file must be from one of spec.serving.artifacts; {written}"
    if posixpath.normpath(value) != value:
        return f"the path must not contain ., .. or double slashes; {written}"
    if folder not in artifacts:
        named = ", ".join(sorted(artifacts)) or "none"
        return f"spec.serving.artifacts has no {folder!r} (it has: {named}); add it there, or use one that is listed"
    return ""
