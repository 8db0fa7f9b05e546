"""Every reason of a condition, an event, `status.waiting` or a move, each with its meaning.

Defined once, so that alerts, runbooks and the code agree. The meaning of a released reason must never change. The
comments are the text of docs/reference/conditions.md.
"""

from enum import StrEnum


class Reason(StrEnum):
    """CamelCase, as `metav1.Condition.reason` requires."""

    # --- serving and rolling out ---
    HEALTHY = "Healthy"  # the version that the alias names serves with all replicas
    FIRST = "First"  # nothing serves yet: the version starts without steps or pauses
    CANARY = "Canary"  # a new version is rolled out by the steps
    PAUSED = "Paused"  # a timed pause is running
    AWAITING_PROMOTION = "AwaitingPromotion"  # a pause waits for a manual promotion
    PROMOTING = "Promoting"  # all steps are complete; all traffic moves to the new version
    ROLLBACK = "Rollback"  # the alias names an earlier promoted version; traffic moves back to it
    RECOVERY = "Recovery"  # the stable lost all its pods and the canary takes over
    SERVING = "Serving"  # clients are being served
    NOT_SERVING = "NotServing"  # clients are not being served
    UNDER_CAPACITY = "UnderCapacity"  # it serves with fewer ready pods than `spec.replicas`

    # --- waiting ---
    RESOLVING = "Resolving"  # the registry has not answered yet
    PULLING = "Pulling"  # the model's files are being downloaded
    STARTING = "Starting"  # the pods are not ready yet
    SETTLING = "Settling"  # waiting for the data plane to apply the route (`spec.traffic.settle`)
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"  # the gateway has not accepted the route
    FRESH_LOOK = "FreshLook"  # a registry answer newer than the last wait is required before more traffic moves
    HOLD_STATE_UNKNOWN = "HoldStateUnknown"  # the registry has not confirmed that the version is not on hold
    STABLE_NOT_READY = "StableNotReady"  # traffic cannot change, because no pod of the stable is ready
    FLAPPED = "Flapped"  # the canary lost all its pods and must stay ready for 30 s before it gets traffic again
    SUSPENDED = "Suspended"  # `spec.suspend` is true: no rollout proceeds
    IDLE = "Idle"  # `spec.replicas` is 0: nothing runs, clients get 503

    # --- the registry ---
    RESOLVED = "Resolved"  # the alias was resolved to a version
    MISSING = "Missing"  # the project, collection, alias or version does not exist, or is not visible to the credential
    DENIED = "Denied"  # the registry rejected the credential
    THROTTLED = "Throttled"  # the registry's rate limit is in effect
    UNREACHABLE = "Unreachable"  # network error, HTTP 5xx, or an invalid response
    REFUSED = "Refused"  # the registry was not queried: the server is not allowed, or the credential is unavailable
    WITHDRAWN = "Withdrawn"  # the version that the alias names was deleted

    # --- bad model: the revision has failed ---
    CRASHED = "Crashed"  # a container exited with an error after it had been ready
    CRASHED_LOADING = "CrashedLoading"  # a container exited with an error three times before it was ever ready
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"  # no pod progress for `spec.rollout.progressDeadline`
    EXAM_FAILED = "ExamFailed"  # some answers to the version's exam differ from the expected ones
    EXAM_INVALID = "ExamInvalid"  # the version's exam cannot be read
    ABORTED = "Aborted"  # a user aborted the rollout

    # --- infrastructure: retried, never the model's fault ---
    CONTENT_REFUSED = "ContentRefused"  # the files do not match the version's digests, or must not be loaded
    PULL_FAILED = "PullFailed"  # the files could not be downloaded
    IMAGE_UNAVAILABLE = "ImageUnavailable"  # the serving image could not be pulled
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"  # no node has enough free resources for the pods
    PODS_REFUSED = "PodsRefused"  # quota, admission or Pod Security rejected the pods
    PODS_FAILING = "PodsFailing"  # a problem with a volume, Secret, ConfigMap, sandbox or similar

    # --- holds ---
    REGULATORY_HOLD = "RegulatoryHold"  # a hold in the registry forbids serving the version
    FALLBACK = "Fallback"  # the stable is on hold; an earlier version takes over
    HOLD_LIFTED = "HoldLifted"  # the registry confirmed that the hold is gone
    HOLDS_STALE = "HoldsStale"  # a rollout waits, or traffic is blocked: marks were not read for `hold.maxStaleness`
    STALE = "Stale"  # hold marks were not read for `hold.maxStaleness`: a hold that is set now is not seen
    FRESH = "Fresh"  # the hold marks were read within `hold.maxStaleness`
    SILENCED = "Silenced"  # the pods of a held version were ordered to stop responding

    # --- model files ---
    VERIFIED = "Verified"  # every file matches the artifact's digest
    NOT_YET_PULLED = "NotYetPulled"  # no pod has downloaded the version's files yet

    # --- exam of the version ---
    EXAM_PASSED = "ExamPassed"  # all answers are as expected
    EXAM_RUNNING = "ExamRunning"  # the exam is running

    # --- route ---
    ACCEPTED = "Accepted"  # every parent gateway accepted the route
    NO_GATEWAY = "NoGateway"  # `spec.traffic.gateway` is not set: the plain Service carries the traffic
    NO_ROUTE = "NoRoute"  # the route has not been written yet
    CONFLICT = "Conflict"  # an older route or ModelDeployment has the host and path
    GATEWAY_API_MISSING = "GatewayAPIMissing"  # the cluster has no HTTPRoute resource

    # --- spec ---
    APPLIED = "Applied"  # the spec has been applied
    PENDING = "Pending"  # the spec has not been applied yet
    INVALID_SPEC = "InvalidSpec"  # the spec is forbidden or impossible; the current version keeps serving
    ADAPTER_REFUSED = "AdapterRefused"  # vLLM could not load a LoRA adapter that the spec names
    WRITE_REFUSED = "WriteRefused"  # the API server rejected a write of the operator

    # --- what happened, for events and history ---
    ALIAS_MOVED = "AliasMoved"  # an alias now names other content
    STARTED = "Started"  # a canary started
    STEP = "Step"  # a canary completed a step
    PROMOTED = "Promoted"  # a revision became the stable
    TAKEN_BACK = "TakenBack"  # a move was cancelled and its revision lost its traffic
    SUPERSEDED = "Superseded"  # a newer version replaced the canary
    FAILED = "Failed"  # a revision failed and will not be retried
    RETRIED = "Retried"  # a user requested a retry
    REQUEST_IGNORED = "RequestIgnored"  # a request annotation does not apply to the current rollout
