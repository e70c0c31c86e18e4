"""The service's OpenAPI description is true: schemathesis makes requests of it, good and bad, and reads the answers."""

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi import checks

from tests.service_server import QUICK, scene

NOT_ASKED = "/v1/shutdown"  # it ends the service
SEVERAL = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def finished(service) -> str:
    """A job with all its files; the worker has imported everything."""
    job_id = service.submit(scene(QUICK))["id"]
    assert service.wait(job_id)["state"] == "done"
    return job_id


def excluded(case: schemathesis.Case) -> list[CheckFunction]:
    """Checks that cannot hold on the route.

    JSON Schema cannot say that a relation has to name a slot, a prompt an object, and a preset a row of the table.
    """
    if case.path in ("/v1/jobs", "/v1/parse", "/v1/vocabulary"):
        return [checks.positive_data_acceptance]
    return []


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_what_is_described_is_what_happens(service, finished, mode) -> None:
    """The loop is by hand: schemathesis' own pytest plugin does not know every pytest.

    What may be read of a job is asked of a real one; no id that is made up names one.
    """
    described = schemathesis.openapi.from_url(service.url + "/v1/openapi.json", headers=service.headers, timeout=120)
    asked, read = 0, set()
    for found in described.exclude(path=NOT_ASKED).get_all_operations():

        @SEVERAL
        @given(case=found.ok().as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            if mode.is_positive and case.method == "GET" and "id" in case.path_parameters:
                case.path_parameters["id"] = finished
            answer = case.call_and_validate(headers=service.headers, excluded_checks=excluded(case), timeout=120)
            if answer.status_code == 200 and "{id}" in case.path:
                read.add(case.path)
            if answer.status_code == 201:  # nobody needs its result
                service.ask("POST", f"/v1/jobs/{answer.json()['id']}/cancel", 200)

        if mode.is_positive or _takes_anything(found.ok()):
            ask()
            asked += 1
    assert asked > 5
    assert len(read) > 6 or not mode.is_positive


def _takes_anything(operation) -> bool:
    """Whether there is something to send that could be wrong."""
    return bool(operation.path_parameters or operation.query or operation.body)


def test_every_route_is_described_with_its_refusals(service) -> None:
    described = requests.get(service.url + "/v1/openapi.json", headers=service.headers).json()
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    assert len(operations) > 15
    for operation in operations:
        assert "422" not in operation["responses"]
        assert {"4XX", "5XX"} <= set(operation["responses"])
    assert {"application/json", "multipart/form-data"} == set(
        described["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    )
