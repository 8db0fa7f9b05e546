"""Which orphans a ModelDeployment of the same name may adopt: those that are what the operator wrote. Pure.

After an orphaning delete, or a restore from a backup without owner references, the children of a name have no owner.
They are adopted only if they verify: a record by the hash in its name, a Deployment by its record, Services, the route
and the budget by name and label. What does not verify stays as it is; it is reported, and watched for holds.
"""

from collections.abc import Iterable, Mapping

from modelsync.api import names
from modelsync.api.kinds import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Kind,
    Object,
    controller_of,
    labels_of,
    name_of,
)
from modelsync.observe.upkeep import covers
from modelsync.resources.children import deployment
from modelsync.resources.record import Record, RecordError
from modelsync.resources.revision import revision_name
from modelsync.rollout.model import Revision


def adoptable(
    name: str, children: Mapping[Kind, Iterable[Object]], route: Object | None
) -> tuple[tuple[Kind, Object], ...]:
    """The children of the ModelDeployment `name` that nothing controls and that verify, records first."""
    ours = {
        kind: [obj for obj in found if labels_of(obj).get(names.NAME_LABEL) == name] for kind, found in children.items()
    }
    if not any(controller_of(obj) is None for found in ours.values() for obj in found) and (
        route is None or controller_of(route) is not None
    ):
        return ()
    records = _verified(name, ours.get(CONTROLLER_REVISION, ()))
    allowed = {name, names.child(name, names.BLOCKED), *(names.child(name, revision) for revision in records)}
    wanted: list[tuple[Kind, Object]] = [
        (CONTROLLER_REVISION, obj)
        for obj in ours.get(CONTROLLER_REVISION, ())
        if names.revision_of(name, name_of(obj)) in records
    ]
    wanted += [
        (DEPLOYMENT, obj)
        for obj in ours.get(DEPLOYMENT, ())
        if (record := records.get(names.revision_of(name, name_of(obj)) or "")) is not None and _comes_from(obj, record)
    ]
    wanted += [(SERVICE, obj) for obj in ours.get(SERVICE, ()) if name_of(obj) in allowed]
    wanted += [(POD_DISRUPTION_BUDGET, obj) for obj in ours.get(POD_DISRUPTION_BUDGET, ()) if name_of(obj) == name]
    if route is not None and labels_of(route).get(names.NAME_LABEL) == name:
        wanted.append((HTTP_ROUTE, route))
    return tuple((kind, obj) for kind, obj in wanted if controller_of(obj) is None)


def _verified(name: str, records: Iterable[Object]) -> Mapping[Revision, Record]:
    found = {}
    for obj in records:
        try:
            record = Record.parse(obj)
        except RecordError:
            continue
        if record.owner.name == name and revision_name(record.inputs) == record.revision:
            found[record.revision] = record
    return found


def _comes_from(live: Object, record: Record) -> bool:
    """Whether the Deployment has everything that its record says; the number of replicas is free."""
    wanted = deployment(record, 0)["spec"]
    return covers(live.get("spec"), {key: value for key, value in wanted.items() if key != "replicas"})
