"""Every reason that a condition, an event, `status.waiting` or a move may carry, each with what it tells its reader.

One place, so that an alert, a runbook and the code mean the same word. A reason once released keeps its meaning.
docs/reference/conditions.md is made of the comments.
"""

from enum import StrEnum


class Reason(StrEnum):
    """CamelCase, as `metav1.Condition.reason` asks."""

    # --- serving as asked, or on the way ---
    HEALTHY = "Healthy"  # what the alias names serves with all replicas
    FIRST = "First"  # nothing serves yet: no steps, no pauses
    CANARY = "Canary"  # a new version goes by the steps
    PAUSED = "Paused"  # a step waits for its time
    AWAITING_PROMOTION = "AwaitingPromotion"  # a step waits for a person's promote
    PROMOTING = "Promoting"  # the steps are done; all traffic moves to the new version
    ROLLBACK = "Rollback"  # the alias names a version that was promoted earlier
    RECOVERY = "Recovery"  # the stable lost all its pods, and the canary takes over
    SERVING = "Serving"  # clients get answers
    NOT_SERVING = "NotServing"  # clients get none
    UNDER_CAPACITY = "UnderCapacity"  # serves, with fewer ready pods than replicas

    # --- waiting ---
    RESOLVING = "Resolving"  # the registry has not answered yet
    PULLING = "Pulling"  # bytes of the model are on their way
    STARTING = "Starting"  # pods are not ready yet
    SETTLING = "Settling"  # the data plane may lag behind the route for `traffic.settle`
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"  # the gateway has not accepted the route
    FRESH_LOOK = "FreshLook"  # a registry answer newer than the last wait is needed before more traffic moves
    HOLD_STATE_UNKNOWN = "HoldStateUnknown"  # the registry has not said whether a version is held
    STABLE_NOT_READY = "StableNotReady"  # the canary could be taken back, but no pod of the stable is ready
    FLAPPED = "Flapped"  # the canary lost its pods and has to be ready for a while first
    SUSPENDED = "Suspended"  # spec.suspend stops forward moves
    IDLE = "Idle"  # spec.replicas is 0: nothing runs, clients get 503

    # --- the registry ---
    RESOLVED = "Resolved"  # the alias names a version that may be read
    MISSING = "Missing"  # project, collection, alias or version is not there or may not be seen
    DENIED = "Denied"  # the credential is refused
    THROTTLED = "Throttled"  # the registry asked to be left alone for a while
    UNREACHABLE = "Unreachable"  # network, 5xx, or an answer that is none
    REFUSED = "Refused"  # the operator did not ask: server not allowed, or the credential cannot be had
    WITHDRAWN = "Withdrawn"  # the version that the alias names is deleted

    # --- a model that is bad: the revision has failed ---
    CRASHED = "Crashed"  # a container ended with an error after it had been ready
    CRASHED_LOADING = "CrashedLoading"  # it ended with an error three times before it was ever ready
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"  # no progress for rollout.progressDeadline
    EXAM_FAILED = "ExamFailed"  # answers to the version's own exam are not as it expects
    EXAM_INVALID = "ExamInvalid"  # the version's own exam cannot be read
    ABORTED = "Aborted"  # a person said abort

    # --- infrastructure: retried, never the model's fault ---
    CONTENT_REFUSED = "ContentRefused"  # the bytes are not those of the version
    PULL_FAILED = "PullFailed"  # the bytes could not be had
    IMAGE_UNAVAILABLE = "ImageUnavailable"  # the serving image could not be had
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"  # no node has room
    PODS_REFUSED = "PodsRefused"  # quota, admission or Pod Security refused the pods
    PODS_FAILING = "PodsFailing"  # volume, Secret, sandbox or the like

    # --- holds ---
    REGULATORY_HOLD = "RegulatoryHold"  # the registry forbids the version to serve
    FALLBACK = "Fallback"  # a hold is on the stable; an earlier version serves
    HOLD_LIFTED = "HoldLifted"  # the registry shows the mark gone
    SILENCED = "Silenced"  # the pods of a held version acknowledged that it answers no more

    # --- model bytes ---
    VERIFIED = "Verified"  # every file is what the artifact's digest says
    NOT_YET_PULLED = "NotYetPulled"  # no pod has the version's bytes yet

    # --- the version's own exam ---
    EXAM_PASSED = "ExamPassed"  # every answer is as expected
    EXAM_RUNNING = "ExamRunning"  # the questions are being asked

    # --- route ---
    ACCEPTED = "Accepted"  # every parent gateway accepted the route
    NO_GATEWAY = "NoGateway"  # traffic.gateway is not set: the plain Service carries the traffic
    NO_ROUTE = "NoRoute"  # no route is written yet
    CONFLICT = "Conflict"  # an older route, or ModelDeployment, has the same host and path
    GATEWAY_API_MISSING = "GatewayAPIMissing"  # the cluster does not know HTTPRoute

    # --- spec ---
    APPLIED = "Applied"  # the spec has been acted on
    PENDING = "Pending"  # the spec has not been acted on yet
    INVALID_SPEC = "InvalidSpec"  # the spec asks for what may not or cannot be; what serves goes on
    ADAPTER_REFUSED = "AdapterRefused"  # vLLM could not load a LoRA adapter that the spec names
    WRITE_REFUSED = "WriteRefused"  # the API server refuses what the operator has to write

    # --- what happened, for events and history ---
    ALIAS_MOVED = "AliasMoved"  # an alias came to name other content
    STARTED = "Started"  # a move began
    STEP = "Step"  # a canary reached its next step
    PROMOTED = "Promoted"  # a revision is the stable now
    TAKEN_BACK = "TakenBack"  # the alias left the canary, which lost its exposure
    SUPERSEDED = "Superseded"  # a third version took the canary's place
    FAILED = "Failed"  # a revision failed and is not tried again
    RETRIED = "Retried"  # a person said retry
    REQUEST_IGNORED = "RequestIgnored"  # a person's annotation does not fit what is going on
