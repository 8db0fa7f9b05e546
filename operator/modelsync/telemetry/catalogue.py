"""Every metric there is: name, kind, labels, what it says. The one place from which metrics are made and documented.

Units stand in the names. Where dashboards know a name from controller-runtime or client-go, it is theirs, with their
labels; all else begins with `modelsync_`. A label has few values, or as many as there are ModelDeployments.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """Prometheus' types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Scope(StrEnum):
    """Who tells it."""

    PROCESS = "process"
    """Every replica, of itself."""
    OBJECT = "object"
    """The leader alone, one set of series a ModelDeployment; they go with it, and with the leadership."""


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` as it is scraped, without `_bucket`, `_sum` and `_count`; `labels` with what each of them holds."""

    name: str
    kind: Kind
    help: str
    labels: Mapping[str, str] = field(hash=False)
    buckets: tuple[float, ...] = ()
    scope: Scope = Scope.PROCESS


_QUEUE = {"name": "`modeldeployment`"}
_CONTROLLER = {"controller": "`modeldeployment`"}
_OBJECT = {"namespace": "of the ModelDeployment", "name": "of the ModelDeployment"}
_SERVER = {"server": "the registry's base URL, as the specs name it"}

_QUEUE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_REQUEST_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_HOLD_BUCKETS = (0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROLLOUT_BUCKETS = (15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 259200)
_PULL_BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)


def _counter(name: str, says: str, labels: Mapping[str, str] | None = None) -> Metric:
    return Metric(name, Kind.COUNTER, says, labels or {})


def _gauge(name: str, says: str, labels: Mapping[str, str] | None = None) -> Metric:
    return Metric(name, Kind.GAUGE, says, labels or {})


def _histogram(name: str, says: str, buckets: tuple[float, ...], labels: Mapping[str, str] | None = None) -> Metric:
    return Metric(name, Kind.HISTOGRAM, says, labels or {}, buckets)


def _object(name: str, says: str, labels: Mapping[str, str] | None = None) -> Metric:
    return Metric(name, Kind.GAUGE, says, {**_OBJECT, **(labels or {})}, scope=Scope.OBJECT)


# --- the queue and the loop around it: controller-runtime's names ---

WORKQUEUE_DEPTH = _gauge("workqueue_depth", "Keys that wait to be worked on.", _QUEUE)
WORKQUEUE_ADDS = _counter("workqueue_adds_total", "Keys that came to wait.", _QUEUE)
WORKQUEUE_WAIT = _histogram(
    "workqueue_queue_duration_seconds", "From a key's add until a worker took it.", _QUEUE_BUCKETS, _QUEUE
)
WORKQUEUE_WORK = _histogram("workqueue_work_duration_seconds", "How long a worker had a key.", _QUEUE_BUCKETS, _QUEUE)
WORKQUEUE_UNFINISHED = _gauge(
    "workqueue_unfinished_work_seconds", "How long all keys that are being worked on have been so, added up.", _QUEUE
)
WORKQUEUE_LONGEST = _gauge(
    "workqueue_longest_running_processor_seconds", "How long the oldest of them has been worked on.", _QUEUE
)
WORKQUEUE_RETRIES = _counter("workqueue_retries_total", "Keys that came back after a failure.", _QUEUE)
RECONCILE_TOTAL = _counter(
    "controller_runtime_reconcile_total",
    "Passes, by how they ended.",
    {**_CONTROLLER, "result": "`success`, `requeue_after` (looks again by itself), `requeue` (a conflict), `error`"},
)
RECONCILE_ERRORS = _counter(
    "controller_runtime_reconcile_errors_total", "Passes that ended in an error; conflicts are none.", _CONTROLLER
)
RECONCILE_TIME = _histogram(
    "controller_runtime_reconcile_time_seconds", "How long a pass took.", _QUEUE_BUCKETS, _CONTROLLER
)
MAX_CONCURRENT = _gauge("controller_runtime_max_concurrent_reconciles", "Workers.", _CONTROLLER)
ACTIVE_WORKERS = _gauge("controller_runtime_active_workers", "Workers that have a key.", _CONTROLLER)
REST_REQUESTS = _counter(
    "rest_client_requests_total",
    "Requests to the API server; those of the watches are not counted.",
    {"code": "HTTP status, or `<error>` when no answer came", "method": "HTTP method", "host": "of the API server"},
)
LEADER = _gauge(
    "leader_election_master_status", "1 on the replica that leads, 0 on one that waits.", {"name": "of the Lease"}
)

# --- the watches and the sweep behind them ---

WATCH_EVENTS = _counter(
    "modelsync_watch_events_total", "Objects that the watches told of.", {"kind": "the object's kind"}
)
WATCH_RESTARTS = _counter("modelsync_watch_restarts_total", "Times that the watches had ended and were opened anew.")
SWEEP_FOUND = _counter(
    "modelsync_sweep_found_total",
    "What a sweep found that no watch had told. The sweep at the start is not counted.",
    {"what": "`missed`: new or changed; `ghost`: gone"},
)
CACHED = _gauge("modelsync_cache_objects", "Objects that the last sweep found.")

# --- the registry ---

REGISTRY_REQUESTS = _counter(
    "modelsync_registry_requests_total",
    "Requests to W&B servers, by what came of them.",
    {
        **_SERVER,
        "outcome": "`Answered`, `Denied` (401, 403), `NotFound`, `Throttled` (429), `Unreachable` (network, 5xx), "
        "`Refused` (the query), `NotGraphQL` (a proxy or login page)",
    },
)
REGISTRY_TIME = _histogram(
    "modelsync_registry_request_duration_seconds", "How long a request to a W&B server took.", _REQUEST_BUCKETS, _SERVER
)
REGISTRY_ANSWERED = _gauge(
    "modelsync_registry_last_answer_timestamp_seconds",
    "When a W&B server last gave a positive answer, as Unix time; 0 before the first. With several credentials in a "
    "namespace, that of the one that has waited longest.",
    {**_SERVER, "namespace": "whose credential was used"},
)
ALIAS_MOVES = _counter(
    "modelsync_alias_moves_total", "Times that the aliases of a ModelDeployment came to name other content."
)
WEBHOOK_LISTENING = _gauge("modelsync_webhook_listening", "1 when the receiver of the registry's webhooks is open.")
WEBHOOKS = _counter(
    "modelsync_webhooks_total",
    "Webhooks of the registry, counted by the replica that they came to.",
    {"result": "`Accepted`, `Refused` (token or signature is wrong), `Unserved` (no replica led: it was told 503)"},
)

# --- what came of it ---

HOLD_REACTION = _histogram(
    "modelsync_hold_reaction_seconds",
    "From when the registry was asked that first showed a hold until the held revision was out of reach.",
    _HOLD_BUCKETS,
    {
        "stage": "`RouteSafe`: the write that took it out of the route (without a gateway: of the plain Service) was "
        "acknowledged; `LastByte`: the last byte of its answers left, once all its pods have acknowledged"
    },
)
ALIAS_SERVED = _histogram(
    "modelsync_alias_served_seconds",
    "From when an alias was first seen to name new content until that serves fully.",
    _ROLLOUT_BUCKETS,
    {"move": "how it came: `First`, `Canary`, `Rollback`, `Recovery`"},
)
ROLLOUTS = _counter(
    "modelsync_rollouts_total",
    "Moves to a revision that came to their end. Counted once the status that tells of it is written.",
    {
        "outcome": "`Promoted`, `TakenBack`, `Superseded`, `Failed`, `Held`",
        "trigger": "`Alias`, `Spec`, `Hold`, `Person`, `Pods`",
    },
)
ROLLOUT_TIME = _histogram(
    "modelsync_rollout_duration_seconds",
    "From a move's begin to its end.",
    _ROLLOUT_BUCKETS,
    {"outcome": "`Promoted`, `TakenBack`, `Superseded`, `Failed`, `Held`"},
)
PULLS = _counter(
    "modelsync_pulls_total",
    "Pulls of artifacts that ended in a pod, since this replica leads.",
    {"outcome": "`Pulled`, `AlreadyPublished`, or the failure as `modelsync pull --help` names it"},
)
PULLED_BYTES = _counter(
    "modelsync_pulled_bytes_total", "Bytes that pulls fetched; what they could reuse is not counted."
)
PULL_TIME = _histogram("modelsync_pull_duration_seconds", "How long a pull took that fetched bytes.", _PULL_BUCKETS)
EVENTS = _counter(
    "modelsync_events_total",
    "Events that were to be written, by what became of them.",
    {"result": "`Written`, `Repeated` (counted in the series of one that is there), `Quiet` (told just now), `Failed`"},
)
BUILD = _gauge("modelsync_build_info", "Always 1.", {"version": "of modelsync", "python": "its Python"})

# --- one ModelDeployment ---

INFO = _object(
    "modelsync_info",
    "Always 1.",
    {
        "phase": "`status.phase`",
        "reason": "of the condition Ready",
        "alias": "that the spec asks for",
        "version": "that the alias names",
    },
)
CONDITION = _object(
    "modelsync_condition",
    "1 when the condition is True, else 0 (False, Unknown or absent).",
    {
        "condition": "`Ready`, `Available`, `Reconciling`, `Stalled`, `OnHold`, `RolledBack`, `ModelResolved`, "
        "`RouteReady`"
    },
)
WEIGHT = _object(
    "modelsync_traffic_weight_ratio",
    "The share of a revision in the live route, 0 to 1; without a gateway, what the plain Service selects.",
    {"revision": "or `blocked`: clients get 503", "version": "of the revision"},
)
REPLICAS = _object("modelsync_replicas", "Pods wanted of what shares the load: `status.replicas`.")
READY_REPLICAS = _object("modelsync_ready_replicas", "Ready ones of them.")
HOLDS = _object("modelsync_holds", "Hold marks in force on anything that the ModelDeployment has.")
HELD_EXPOSED = _object(
    "modelsync_held_exposure_seconds",
    "How long the live route, or the plain Service, has led to a held revision since the hold was seen; 0 when it does "
    "not. Anything but 0 for more than moments is an incident.",
)
FALLBACK = _object(
    "modelsync_fallback_ready",
    "1 when a hold on the stable would take effect without a gap, 0 when it would stop the answers. Absent until "
    "something has been promoted.",
)
KEPT_WARM = _object(
    "modelsync_previous_kept", "1 while the stable before is to be kept warm (`rollout.keepPrevious`), else 0."
)
DRIFT = _object(
    "modelsync_alias_drift_seconds",
    "How long the aliases have named something else than what is promoted; 0 when they do not, and while a hold bars "
    "what they name.",
)
ROLLOUT_AGE = _object("modelsync_rollout_age_seconds", "How long the move that is under way has been; 0 without one.")
WAITING = _object(
    "modelsync_waiting_seconds",
    "How long nothing has moved. Absent when nothing is waited for.",
    {
        "reason": "`status.waiting.reason`",
        "who": "who ends it: `modelsync`, `Kubernetes`, `registry`, `gateway`, `person`",
    },
)

ALL: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""In the order in which they stand here."""
