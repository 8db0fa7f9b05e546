-- Enables the actions on which the operator would act now; the others are shown as disabled.
local status = obj.status or {}
local canary = status.canary
local suspended = obj.spec.suspend == true

local inPause = false
local stepsLeft = false
if canary ~= nil then
  local steps = canary.steps or {}
  stepsLeft = canary.step < #steps
  inPause = stepsLeft and canary.stepStartedAt ~= nil and steps[canary.step + 1].pause ~= nil
end

local goingBack = status.target ~= nil and status.target.reason == "Rollback"

local failed = false
for _, failure in ipairs(status.failed or {}) do
  failed = failed or (status.resolved ~= nil and failure.revision == status.resolved.revision)
end

return {
  ["promote"] = {
    ["disabled"] = suspended or not inPause,
    ["displayName"] = "Promote: end this pause",
    ["iconClass"] = "fa fa-fw fa-step-forward"
  },
  ["promote-full"] = {
    ["disabled"] = suspended or not stepsLeft,
    ["displayName"] = "Promote: skip all steps",
    ["iconClass"] = "fa fa-fw fa-fast-forward"
  },
  ["abort"] = {
    ["disabled"] = canary == nil and not goingBack,
    ["displayName"] = "Abort: roll back",
    ["iconClass"] = "fa fa-fw fa-undo"
  },
  ["retry"] = {
    ["disabled"] = not failed,
    ["displayName"] = "Retry the failed version",
    ["iconClass"] = "fa fa-fw fa-redo"
  },
  ["refresh"] = {
    ["disabled"] = false,
    ["displayName"] = "Query the registry now",
    ["iconClass"] = "fa fa-fw fa-sync"
  },
  ["pause"] = {
    ["disabled"] = suspended,
    ["displayName"] = "Pause rollouts",
    ["iconClass"] = "fa fa-fw fa-pause"
  },
  ["resume"] = {
    ["disabled"] = not suspended,
    ["displayName"] = "Resume rollouts",
    ["iconClass"] = "fa fa-fw fa-play"
  }
}
