"""What a hold writes to a route that must not be written otherwise."""

from types import SimpleNamespace
from typing import Any

from modelsync.api import names
from modelsync.api.kinds import HTTP_ROUTE, Kind, Object
from modelsync.cluster.cache import Cache
from modelsync.effects.apply import _Pass
from modelsync.effects.cut_off import Cutter
from modelsync.effects.silences import Silences
from modelsync.observe.spec_status import read
from modelsync.rollout.model import Plan, SetRoute
from unit.observe.builders import SETTINGS, a_record, family, live, model_deployment, spec


class Writes:
    """Takes writes as the API server would, and remembers them."""

    def __init__(self) -> None:
        self.routes: list[Object] = []

    async def apply(self, kind: Kind, namespace: str, obj: Object, **_: Any) -> Object:
        if kind == HTTP_ROUTE:
            self.routes.append(obj)
        return live(obj)

    create = apply


async def test_a_hold_does_not_bring_a_refused_host_name_into_the_route() -> None:
    record = a_record()
    stolen = {"parentRefs": [{"name": "models", "namespace": "gateways"}], "hostnames": ["victim.example.com"]}
    victims = live(
        {
            "kind": "HTTPRoute",
            "metadata": {"name": "theirs", "namespace": "shop"},
            "spec": stolen | {"rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}]}]},
        }
    )
    found = read(
        family(
            record,
            weights=((record[0].revision, 100),),
            owner=model_deployment(spec=spec(traffic={"gateway": stolen})),
            rival_routes=(victims,),
        ),
        SETTINGS,
    )
    assert [problem.reason for problem in found.problems] == ["Conflict"]
    api: Any = Writes()
    gathered: Any = SimpleNamespace(read=found)
    work = _Pass(api, Cache(), SETTINGS, Cutter(api, Cache(), Silences()), gathered, Plan(found.state))
    await work.do(SetRoute(((names.BLOCKED, 1),), "on hold"))
    (written,) = api.routes
    assert written["spec"]["hostnames"] == ["chat.example.com"]
    (rule,) = written["spec"]["rules"]
    assert [backend["name"] for backend in rule["backendRefs"]] == ["chat-blocked"]
