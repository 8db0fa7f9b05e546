"""All metrics: name, type, labels and help text. Metrics and their documentation are made from this list only.

Names contain the unit. Metrics that controller-runtime or client-go also have use their names and labels, so that
existing dashboards work; all others begin with `modelsync_`. A label must have few values, or at most one for each
ModelDeployment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """Prometheus metric types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Scope(StrEnum):
    """Which replicas export a metric."""

    PROCESS = "process"
    """Every replica, about itself."""
    OBJECT = "object"
    """Only the leader, for each ModelDeployment; removed when the ModelDeployment is deleted or the lease is lost."""


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` without `_bucket`, `_sum` and `_count`; `labels` maps each label to its description."""

    name: str
    kind: Kind
    help: str
    labels: Mapping[str, str] = field(hash=False)
    buckets: tuple[float, ...] = ()
    scope: Scope = Scope.PROCESS


_QUEUE = {"name": "`modeldeployment`"}
_CONTROLLER = {"controller": "`modeldeployment`"}
_OBJECT = {"namespace": "of the ModelDeployment", "name": "of the ModelDeployment"}
_SERVER = {"server": "the registry's base URL, as in the spec"}

_QUEUE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_REQUEST_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_HOLD_BUCKETS = (0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROLLOUT_BUCKETS = (15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 259200)
_PULL_BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)


def _counter(name: str, help_text: str, labels: Mapping[str, str] | None = None) -> Metric:
    return Metric(name, Kind.COUNTER, help_text, labels or {})


def _gauge(name: str, help_text: str, labels: Mapping[str, str] | None = None) -> Metric:
    return Metric(name, Kind.GAUGE, help_text, labels or {})


def _histogram(
    name: str, help_text: str, buckets: tuple[float, ...], labels: Mapping[str, str] | None = None
) -> Metric:
    return Metric(name, Kind.HISTOGRAM, help_text, labels or {}, buckets)


def _object(name: str, help_text: str, labels: Mapping[str, str] | None = None) -> Metric:
    return Metric(name, Kind.GAUGE, help_text, {**_OBJECT, **(labels or {})}, scope=Scope.OBJECT)


# --- work queue and reconciles, with controller-runtime's names ---

WORKQUEUE_DEPTH = _gauge("workqueue_depth", "Keys waiting in the queue.", _QUEUE)
WORKQUEUE_ADDS = _counter("workqueue_adds_total", "Keys added to the queue.", _QUEUE)
WORKQUEUE_WAIT = _histogram(
    "workqueue_queue_duration_seconds", "Time a key waited in the queue.", _QUEUE_BUCKETS, _QUEUE
)
WORKQUEUE_WORK = _histogram("workqueue_work_duration_seconds", "Time a worker spent on a key.", _QUEUE_BUCKETS, _QUEUE)
WORKQUEUE_UNFINISHED = _gauge(
    "workqueue_unfinished_work_seconds", "Time spent so far on all keys that are being worked on, in total.", _QUEUE
)
WORKQUEUE_LONGEST = _gauge(
    "workqueue_longest_running_processor_seconds",
    "Time spent so far on the key that has been worked on longest.",
    _QUEUE,
)
WORKQUEUE_RETRIES = _counter("workqueue_retries_total", "Keys queued again after a failure.", _QUEUE)
RECONCILE_TOTAL = _counter(
    "controller_runtime_reconcile_total",
    "Reconciles, by result.",
    {
        **_CONTROLLER,
        "result": "`success`, `requeue_after` (the next one is scheduled), `requeue` (a conflict), `error`",
    },
)
RECONCILE_ERRORS = _counter(
    "controller_runtime_reconcile_errors_total", "Reconciles that failed; conflicts are not counted.", _CONTROLLER
)
RECONCILE_TIME = _histogram(
    "controller_runtime_reconcile_time_seconds", "Duration of a reconcile.", _QUEUE_BUCKETS, _CONTROLLER
)
MAX_CONCURRENT = _gauge("controller_runtime_max_concurrent_reconciles", "Number of workers.", _CONTROLLER)
ACTIVE_WORKERS = _gauge("controller_runtime_active_workers", "Workers that are working on a key.", _CONTROLLER)
REST_REQUESTS = _counter(
    "rest_client_requests_total",
    "Requests to the API server, without those of the watches.",
    {"code": "HTTP status, or `<error>` without a response", "method": "HTTP method", "host": "of the API server"},
)
LEADER = _gauge(
    "leader_election_master_status",
    "1 on the leader, 0 on a replica that waits for the lease.",
    {"name": "of the Lease"},
)

# --- watches and sweeps ---

WATCH_EVENTS = _counter(
    "modelsync_watch_events_total", "Events received from the watches.", {"kind": "the object's kind"}
)
WATCH_RESTARTS = _counter("modelsync_watch_restarts_total", "How often the watches ended and were reopened.")
SWEEP_FOUND = _counter(
    "modelsync_sweep_found_total",
    "Changes that a sweep found and the watches had missed. The sweep at startup is not counted.",
    {"what": "`missed`: created or changed; `ghost`: deleted"},
)
CACHED = _gauge("modelsync_cache_objects", "Objects found by the last sweep.")

# --- the registry ---

REGISTRY_REQUESTS = _counter(
    "modelsync_registry_requests_total",
    "Requests to W&B servers, by result.",
    {
        **_SERVER,
        "outcome": "`Answered`, `Denied` (401, 403), `NotFound`, `Throttled` (429), `Unreachable` (network, 5xx), "
        "`Refused` (the server rejected the query), `NotGraphQL` (the response of a proxy or a login page)",
    },
)
REGISTRY_TIME = _histogram(
    "modelsync_registry_request_duration_seconds", "Duration of a request to a W&B server.", _REQUEST_BUCKETS, _SERVER
)
REGISTRY_ANSWERED = _gauge(
    "modelsync_registry_last_answer_timestamp_seconds",
    "Unix time of the last successful response of a W&B server; 0 before the first. With several credentials in a "
    "namespace, the time of the one whose last success is longest ago.",
    {**_SERVER, "namespace": "of the credential"},
)
ALIAS_MOVES = _counter(
    "modelsync_alias_moves_total", "How often the aliases of a ModelDeployment changed to other content."
)
WEBHOOK_LISTENING = _gauge(
    "modelsync_webhook_listening", "1 while the receiver for the registry's webhooks is listening."
)
WEBHOOKS = _counter(
    "modelsync_webhooks_total",
    "Webhooks of the registry, counted by the replica that received them.",
    {
        "result": "`Accepted`, `Refused` (wrong token or signature), `Deferred` (429, since there were too many; a "
        "look follows), `Unserved` (503, since there was no leader)"
    },
)

# --- rollouts, holds, pulls and Events ---

HOLD_REACTION = _histogram(
    "modelsync_hold_reaction_seconds",
    "Time from the registry request that first showed a hold until the held revision got no more requests.",
    _HOLD_BUCKETS,
    {
        "stage": "`RouteSafe`: the write that removed it from the route (without a gateway: the plain Service) was "
        "acknowledged; `LastByte`: its last response byte was sent, measured once all its pods have acknowledged"
    },
)
ALIAS_SERVED = _histogram(
    "modelsync_alias_served_seconds",
    "Time from when an alias was first seen on new content until that content got all traffic.",
    _ROLLOUT_BUCKETS,
    {"move": "how it was rolled out: `First`, `Canary`, `Rollback`, `Recovery`"},
)
ROLLOUTS = _counter(
    "modelsync_rollouts_total",
    "Finished rollouts of a revision. Counted when the status that reports the end is written.",
    {
        "outcome": "`Promoted`, `TakenBack`, `Superseded`, `Failed`, `Held`",
        "trigger": "`Alias`, `Spec`, `Hold`, `Person`, `Pods`",
    },
)
ROLLOUT_TIME = _histogram(
    "modelsync_rollout_duration_seconds",
    "Duration of a rollout.",
    _ROLLOUT_BUCKETS,
    {"outcome": "`Promoted`, `TakenBack`, `Superseded`, `Failed`, `Held`"},
)
PULLS = _counter(
    "modelsync_pulls_total",
    "Artifact pulls that finished in a pod since this replica became the leader.",
    {"outcome": "`Pulled`, `AlreadyPublished`, or a failure listed in `modelsync pull --help`"},
)
PULLED_BYTES = _counter("modelsync_pulled_bytes_total", "Bytes fetched by pulls, without reused ones.")
PULL_TIME = _histogram("modelsync_pull_duration_seconds", "Duration of a pull that fetched bytes.", _PULL_BUCKETS)
EVENTS = _counter(
    "modelsync_events_total",
    "Kubernetes Events, by result.",
    {"result": "`Written`, `Repeated` (counted in an existing Event's series), `Quiet` (dropped duplicate), `Failed`"},
)
BUILD = _gauge("modelsync_build_info", "Always 1.", {"version": "of modelsync", "python": "version of Python"})

# --- one ModelDeployment ---

INFO = _object(
    "modelsync_info",
    "Always 1.",
    {
        "phase": "`status.phase`",
        "reason": "of the condition Ready",
        "alias": "in the spec",
        "version": "that the alias names",
    },
)
CONDITION = _object(
    "modelsync_condition",
    "1 when the condition is True, otherwise 0 (False, Unknown or absent).",
    {
        "condition": "`Ready`, `Available`, `Reconciling`, `Stalled`, `OnHold`, `HoldsKnown`, "
        "`RolledBack`, `ModelResolved`, `RouteReady`"
    },
)
WEIGHT = _object(
    "modelsync_traffic_weight_ratio",
    "Share of the traffic that the live route gives to a revision, 0 to 1; without a gateway, 1 for the revision that "
    "the plain Service selects.",
    {"revision": "the revision, or `blocked`: clients get 503", "version": "of the revision"},
)
REPLICAS = _object("modelsync_replicas", "Desired pods of the revisions that get traffic: `status.replicas`.")
READY_REPLICAS = _object("modelsync_ready_replicas", "Ready pods of these revisions.")
HOLDS = _object("modelsync_holds", "Hold marks in force on content of the ModelDeployment's revisions.")
HELD_EXPOSED = _object(
    "modelsync_held_exposure_seconds",
    "How long the live route, or the plain Service, has sent requests to a held revision since the hold was seen; 0 "
    "when it does not. A value above 0 for more than a few seconds is an incident.",
)
HOLDS_STALE = _object(
    "modelsync_holds_stale_seconds",
    "Age of the oldest knowledge of hold marks on what serves or is rolled out, once it is older than "
    "`hold.maxStaleness`; 0 before. A hold that is set in the meantime is not seen.",
)
FALLBACK = _object(
    "modelsync_fallback_ready",
    "1 when a hold on the stable revision would cause no outage, 0 when it would. Absent until a revision has been "
    "promoted.",
)
KEPT_WARM = _object(
    "modelsync_previous_kept",
    "1 while the previous stable revision is kept running (`rollout.keepPrevious`), otherwise 0.",
)
DRIFT = _object(
    "modelsync_alias_drift_seconds",
    "How long the aliases have named content that is not promoted; 0 when it is promoted, and while a hold forbids it.",
)
ROLLOUT_AGE = _object("modelsync_rollout_age_seconds", "Age of the running rollout; 0 without one.")
WAITING = _object(
    "modelsync_waiting_seconds",
    "How long the ModelDeployment has been waiting. Absent when it is not.",
    {
        "reason": "`status.waiting.reason`",
        "who": "who ends the wait: `modelsync`, `Kubernetes`, `registry`, `gateway`, `person`",
    },
)

ALL: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""In the order of this file."""
