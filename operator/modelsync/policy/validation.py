"""Validates what a schema cannot express: references, and the limits that the administrator has set.

Must never query another system. Missing Secrets, Gateways and registries are reported where they are read.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from modelsync.api import quantity
from modelsync.api.model_ref import InvalidReferenceError, ModelRef
from modelsync.api.parts import field_of
from modelsync.api.problems import FieldProblem, SpecError, explain
from modelsync.api.serving import ResourceRequirements
from modelsync.api.settings import OperatorSettings
from modelsync.api.spec import ModelDeploymentSpec
from modelsync.policy import environment, images
from modelsync.policy.effective import allowed_servers, is_allowed_server, registry_of
from modelsync.policy.file_arguments import path_problems
from modelsync.policy.gpus import gpu_problems
from modelsync.policy.loaders import loader_problems
from modelsync.policy.patterns import pattern_problem
from modelsync.policy.vllm_flags import MAX_HINTS, check_args, check_version

_RESERVED_DOMAINS = ("modelsync.dev", "kubernetes.io", "k8s.io")
_RESERVED_KEYS = ("pod-template-hash",)  # the Deployment selects its pods by it
_NATIVE_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_HUGE_PAGES = "hugepages-"
_UNPUBLISHED = ("metrics", "modelsync")
_TAKEN_HEADERS = ("authorization", "connection", "content-length", "content-type", "cookie", "host", "x-forwarded-for")

LORA_FLAGS = (
    "--enable-lora",
    "--no-enable-lora",
    "--lora-modules",
    "--max-loras",
    "--max-cpu-loras",
    "--max-lora-rank",
)
"""Set by the operator if spec.serving has adapters."""


def read_spec(model_deployment: Mapping[str, Any]) -> ModelDeploymentSpec:
    """Parse `.spec` of a live object. Raises SpecError with one problem for each mistake."""
    try:
        return ModelDeploymentSpec.model_validate(model_deployment.get("spec") or {})
    except ValidationError as error:
        raise SpecError(explain(error, root="spec")) from None


def problems(spec: ModelDeploymentSpec, settings: OperatorSettings) -> list[FieldProblem]:
    """All problems of `spec` in the order of the fields; empty if it is valid."""
    return [
        *_references(spec),
        *_registry(spec, settings),
        *_image(spec, settings),
        *_args(spec, settings),
        *_env(spec, settings),
        *_resources(spec.serving.resources),
        *gpu_problems(spec.serving.args, spec.serving.resources.limits or {}),
        *_pod_metadata(spec),
        *_traffic(spec),
    ]


def _references(spec: ModelDeploymentSpec) -> Iterator[FieldProblem]:
    for key, text in spec.references.items():
        try:
            ModelRef.parse(text)
        except InvalidReferenceError as error:
            yield FieldProblem(field_of(key), str(error))


def _registry(spec: ModelDeploymentSpec, settings: OperatorSettings) -> Iterator[FieldProblem]:
    registry = registry_of(spec, settings)
    if registry is None:
        yield FieldProblem(
            "spec.registry",
            "is not set, and the administrator has set no default; set baseURL and auth.secretKeyRef (allowed servers: "
            f"{_listed(settings.allowed_registries)}), or ask the administrator to set a default (the setting "
            "`registry`)",
        )
        return
    if not is_allowed_server(registry.base_url, settings):
        yield FieldProblem(
            "spec.registry.baseURL",
            f"{registry.base_url!r} is not an allowed registry; allowed: {_listed(allowed_servers(settings))}; use one "
            "of them, or ask the administrator to add it to allowedRegistries",
        )


def _image(spec: ModelDeploymentSpec, settings: OperatorSettings) -> Iterator[FieldProblem]:
    image = spec.serving.image
    too_old = check_version(images.tag(image or settings.serving_image))
    if too_old:
        yield FieldProblem("spec.serving.image", f"{image or settings.serving_image!r} {too_old}")
    # The administrator's own default needs no permission.
    if image is None or image == settings.serving_image or images.is_allowed(image, settings.allowed_images):
        return
    yield FieldProblem(
        "spec.serving.image",
        f"{image!r} is from a repository that is not allowed; allowed: {_listed(settings.allowed_images)}; use one of "
        "them, or ask the administrator to add it to allowedImages",
    )


def _args(spec: ModelDeploymentSpec, settings: OperatorSettings) -> Iterator[FieldProblem]:
    version = images.tag(spec.serving.image or settings.serving_image)
    for problem in check_args(spec.serving.args, version, settings.allowed_args):
        yield FieldProblem(problem.field, problem.message)
    if spec.serving.lora:
        yield from _lora_args(spec)
    artifacts = [each.name for each in spec.serving.artifacts]
    yield from path_problems(spec.serving.args, artifacts, settings.allowed_args)
    yield from loader_problems(spec.serving.args, spec.serving.image or settings.serving_image)


def _lora_args(spec: ModelDeploymentSpec) -> Iterator[FieldProblem]:
    for index, arg in enumerate(spec.serving.args):
        flag = arg.partition("=")[0]
        if flag in LORA_FLAGS:
            yield FieldProblem(
                f"spec.serving.args[{index}]",
                f"{flag} is set by the operator from the adapters; remove it",
            )


def _env(spec: ModelDeploymentSpec, settings: OperatorSettings) -> Iterator[FieldProblem]:
    found = 0
    for index, variable in enumerate(spec.serving.env):
        refusal = environment.refusal(variable.name, settings.allowed_env, hint=found < MAX_HINTS)
        if refusal:
            found += 1
            yield FieldProblem(f"spec.serving.env[{index}].name", refusal)


def _resources(resources: ResourceRequirements) -> Iterator[FieldProblem]:
    limits, requests = resources.limits or {}, resources.requests or {}
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            field = f"spec.serving.resources.{kind}[{name}]"
            if not _is_resource(name):
                near = get_close_matches(name, _NATIVE_RESOURCES, n=1, cutoff=0.7)
                hint = f"did you mean {near[0]}?" if near else "write a device with its domain, such as nvidia.com/gpu"
                yield FieldProblem(field, f"{name!r} is not a Kubernetes resource; {hint}")
            elif "/" in name and quantity.parse(amount).denominator != 1:
                yield FieldProblem(
                    field, f"{amount!r} is not a whole number; devices cannot be divided, so write a whole number"
                )
    for name, amount in requests.items():
        field, limit = f"spec.serving.resources.requests[{name}]", limits.get(name)
        if "/" in name and (limit is None or quantity.parse(limit) != quantity.parse(amount)):
            yield FieldProblem(field, f"{amount!r} must equal limits[{name}] for a device; set both to the same value")
        elif limit is not None and quantity.parse(amount) > quantity.parse(limit):
            yield FieldProblem(field, f"{amount!r} is more than the limit {limit!r}; raise the limit or request less")


def _is_resource(name: str) -> bool:
    return "/" in name or name in _NATIVE_RESOURCES or name.startswith(_HUGE_PAGES)


def _pod_metadata(spec: ModelDeploymentSpec) -> Iterator[FieldProblem]:
    metadata = spec.serving.pod_metadata
    for kind, keys in (("labels", metadata.labels or {}), ("annotations", metadata.annotations or {})):
        for key in keys:
            domain = key.rpartition("/")[0]
            reserved = any(domain == each or domain.endswith(f".{each}") for each in _RESERVED_DOMAINS)
            if reserved or key in _RESERVED_KEYS:
                yield FieldProblem(
                    f"spec.serving.podMetadata.{kind}[{key}]",
                    f"{key!r} is reserved, like all keys under {', '.join(_RESERVED_DOMAINS)}; use a key of your own",
                )


def _traffic(spec: ModelDeploymentSpec) -> Iterator[FieldProblem]:
    traffic = spec.traffic
    for index, path in enumerate(traffic.gateway.paths if traffic.gateway is not None else ()):
        if path.split("/")[1] in _UNPUBLISHED:
            yield FieldProblem(
                f"spec.traffic.gateway.paths[{index}]",
                f"{path!r} is for use inside the cluster and may not be published; use paths of the model's API, "
                "such as /v1",
            )
    if traffic.test_header is not None and traffic.test_header.lower() in _TAKEN_HEADERS:
        yield FieldProblem(
            "spec.traffic.testHeader",
            f"{traffic.test_header!r} already has a standard meaning; choose a name that nothing else uses, such as "
            "X-Model-Revision",
        )
    for index, step in enumerate(spec.steps):
        for place, match in enumerate(step.match or ()):
            field = f"spec.rollout.steps[{index}].match[{place}]"
            if traffic.test_header is not None and match.header_name.lower() == traffic.test_header.lower():
                yield FieldProblem(
                    f"{field}.headerName",
                    f"{match.header_name!r} is already used as spec.traffic.testHeader; use another header",
                )
            if match.header_value.regex is not None and (wrong := _not_regex(match.header_value.regex)):
                yield FieldProblem(f"{field}.headerValue.regex", wrong)


def _not_regex(text: str) -> str | None:
    problem = pattern_problem(text)
    if problem is None:
        return None
    return (
        f"{text!r} is not a valid RE2 expression, which gateways use: {problem}; write one, such as ^(internal|beta)$"
    )


def _listed(allowed: tuple[str, ...]) -> str:
    return ", ".join(allowed) or "none"
