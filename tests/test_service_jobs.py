"""Jobs from their acceptance to their end, in a real service with a real worker and the starter models."""

import json
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import trimesh
from PIL import Image

from backend.service.dispatcher import CANCEL_S
from backend.service.files import FILES
from backend.service.folder import CHECKPOINT
from tests.service_server import CUBE, ENDLESS, QUICK, Told, scene

CONTRACT = Path(__file__).parent / "contract"
BALL = {"name": "ball", "prompt": "a blue sphere"}
PAIR = {
    "slots": [CUBE, BALL],
    "relations": [{"subject": "cube", "relation": "left of", "object": "ball"}],
    "seed": 3,
    "settings": QUICK,
}
STEPS = 2 * QUICK["steps"]  # of PAIR: each slot has its own


@pytest.fixture(scope="module")
def followed(service) -> tuple[str, list[Told]]:
    """A finished job's id, and what was told while it ran."""
    return service.run(PAIR)


@pytest.fixture
def busy(service) -> Iterator[str]:
    """A job that runs as long as the test."""
    job_id = service.submit(scene(ENDLESS))["id"]
    service.wait(job_id, "running")
    yield job_id
    if service.job(job_id)["state"] == "running":
        service.ask("POST", f"/v1/jobs/{job_id}/cancel", 200)
        service.wait(job_id)


def test_who_follows_a_job_is_told_all_of_it_in_order(followed) -> None:
    events = followed[1]
    assert [event.data["state"] for event in events if event.kind == "state"] == ["queued", "running", "done"]
    assert events[-1].kind == "done" and events[-1].data["state"] == "done", events[-1].data["error"]
    numbers = [event.number for event in events]
    assert numbers == sorted(set(numbers))
    told = [event.data for event in events if event.kind == "progress"]
    assert {data["phase"] for data in told} == {"loading", "optimising", "exporting"}
    assert [data["step"] for data in told] == sorted(data["step"] for data in told)
    assert told[-1]["step"] == told[-1]["steps"] == STEPS
    assert told[-1]["losses"] and told[-1]["rewards"] and told[-1]["preview"]
    assert any(event.kind == "log" for event in events)


def test_a_stream_is_taken_up_after_the_last_event_and_not_before(service, followed) -> None:
    job_id, events = followed
    state = next(event for event in events if event.kind == "state" and event.data["state"] == "running")
    again = list(service.events(job_id, after=state.number))
    assert [event.kind for event in again if event.kind != "log"] == ["state", "done"]
    assert all(event.number > state.number for event in again)
    assert list(service.events(job_id, after=events[-1].number)) == []


def test_a_finished_job_says_what_holds_and_how_probable_that_is(service, followed) -> None:
    job = service.job(followed[0])
    assert job["state"] == "done" and job["error"] is None and job["log_tail"] == ""
    (relation,) = job["relations"]
    assert (relation["subject"], relation["relation"], relation["object"]) == ("cube", "left of", "ball")
    assert isinstance(relation["fulfilled"], bool)
    assert 0 <= relation["probability"] <= 1
    assert job["has_result"] and job["has_preview"] and job["has_checkpoint"]
    assert job["created"] <= job["started"] <= job["finished"]
    assert job["seconds"] > 0
    assert job["request"] == PAIR


def test_every_file_of_a_finished_job_can_be_fetched_whole(service, followed) -> None:
    for name in (name for name, about in FILES.items() if "scene" in about.kinds):
        answer = service.ask("GET", f"/v1/jobs/{followed[0]}/{name}", 200)
        assert int(answer.headers["content-length"]) == len(answer.content) > 0
        if answer.headers["content-type"].startswith("image/"):
            Image.open(BytesIO(answer.content)).load()
    glb = trimesh.load(BytesIO(service.ask("GET", f"/v1/jobs/{followed[0]}/result.glb").content), file_type="glb")
    assert set(glb.graph.nodes_geometry) == {"cube", "ball"}


def test_a_part_of_a_file_can_be_fetched(service, followed) -> None:
    path = f"/v1/jobs/{followed[0]}/result.glb"
    answer = service.ask("GET", path, 206, headers={"Range": "bytes=0-3"})
    assert answer.content == b"glTF"


def test_a_finished_job_is_refined_with_more_steps_from_where_it_was(service, followed) -> None:
    job_id = followed[0]
    assert "steps" in service.ask("POST", f"/v1/jobs/{job_id}/resume", 409).json()["error"]["remedy"]
    before = service.ask("GET", f"/v1/jobs/{job_id}/result.glb").content
    assert service.ask("POST", f"/v1/jobs/{job_id}/resume", 200, json={"steps": 1}).json()["has_result"]
    events = list(service.events(job_id))
    assert [event.kind for event in events].count("done") == 1
    steps = [event.data["step"] for event in events if event.kind == "progress" and event.data["phase"] != "loading"]
    assert steps and steps[0] == STEPS + 1 and steps[-1] == STEPS + 2
    assert service.job(job_id)["state"] == "done"
    assert service.job(job_id)["request"]["settings"]["steps"] == QUICK["steps"] + 1
    assert service.ask("GET", f"/v1/jobs/{job_id}/result.glb").content != before


def test_a_cancelled_job_keeps_where_it_was_and_goes_on_to_the_end(service) -> None:
    job_id = service.submit(scene(QUICK | {"steps": 20}))["id"]
    service.wait_for_step(job_id, 2)
    assert service.ask("POST", f"/v1/jobs/{job_id}/cancel", 200).json()["state"] == "cancelling"
    job = service.wait(job_id)
    assert job["state"] == "cancelled" and job["has_checkpoint"] and not job["has_result"]
    assert service.ask("POST", f"/v1/jobs/{job_id}/resume", 409, json={"steps": 3}).json()["error"]["where"] == "steps"
    reached = job["progress"]["step"]
    assert service.ask("POST", f"/v1/jobs/{job_id}/resume", 200, json={"steps": None}).json()["state"] == "queued"
    job = service.wait(job_id)
    assert job["state"] == "done", (job["error"], job["log_tail"])
    begun = [line for line in service.log(job_id).splitlines() if line.startswith("from ")]
    assert begun[0] == "from the start"
    assert int(begun[1].removeprefix("from step ")) >= reached


def test_a_cancel_while_the_result_is_written_is_heeded_and_resuming_writes_it(service) -> None:
    job_id = service.submit(PAIR | {"settings": QUICK | {"preview_px": 768}})["id"]  # a long time to write
    told = service.events(job_id)
    assert any(event.kind == "progress" and event.data["phase"] == "exporting" for event in told)
    told.close()
    asked = time.monotonic()
    assert service.ask("POST", f"/v1/jobs/{job_id}/cancel", 200).json()["state"] == "cancelling"
    job = service.wait(job_id, "cancelled")
    assert time.monotonic() - asked < CANCEL_S / 2  # by itself: a worker that does not heed is killed after CANCEL_S
    assert job["has_checkpoint"] and not job["has_result"]
    files = {path.name for path in (service.data / "jobs" / job_id).iterdir()}
    assert files == {CHECKPOINT, "log.txt", "preview.jpg"}
    service.ask("POST", f"/v1/jobs/{job_id}/resume", 200)
    progress = [event.data for event in service.events(job_id) if event.kind == "progress"]
    assert [(data["phase"], data["step"]) for data in progress] == [("loading", 0), ("exporting", STEPS)]
    job = service.job(job_id)
    assert job["state"] == "done" and job["has_result"] and job["has_checkpoint"]
    assert job["relations"][0]["probability"] is not None  # asked before the cancel


def test_who_waits_has_a_place_and_can_leave_it(service, busy) -> None:
    first, second = (service.submit(scene(QUICK))["id"] for _ in range(2))
    assert [service.job(job_id)["position"] for job_id in (busy, first, second)] == [None, 1, 2]
    for path in (f"/v1/jobs/{first}", f"/v1/jobs/{busy}"):
        assert "Cancel" in service.ask("DELETE", path, 409).json()["error"]["remedy"]
    assert service.ask("POST", f"/v1/jobs/{first}/resume", 409).json()["error"]["remedy"]
    assert service.ask("POST", f"/v1/jobs/{first}/cancel", 200).json()["state"] == "cancelled"
    assert service.job(second)["position"] == 1
    service.ask("POST", f"/v1/jobs/{first}/cancel", 409)
    error = service.ask("GET", f"/v1/jobs/{second}/result.glb", 404).json()["error"]
    assert error["what"] == "there is no result.glb yet" and error["remedy"]
    service.ask("POST", f"/v1/jobs/{second}/cancel", 200)
    service.ask("DELETE", f"/v1/jobs/{first}", 204)
    service.ask("GET", f"/v1/jobs/{first}", 404)
    assert not (service.data / "jobs" / first).exists()


def test_models_are_freed_on_demand_and_never_under_a_job(service, busy) -> None:
    service.wait_for_step(busy, 1)
    assert service.ask("POST", "/v1/unload", 200).json() == {"freed": False}
    service.ask("POST", f"/v1/jobs/{busy}/cancel", 200)
    service.wait(busy)
    assert service.ask("POST", "/v1/unload", 200).json() == {"freed": True}
    assert service.ask("POST", "/v1/unload", 200).json() == {"freed": False}


def test_a_failed_job_says_why_and_shows_its_logs_end(service, tmp_path) -> None:
    job = service.wait(service.submit(scene(QUICK | {"vlm": str(tmp_path / "nowhere")}))["id"])
    assert job["state"] == "failed"
    assert str(tmp_path / "nowhere") in job["error"]["what"] + job["error"]["where"]
    assert job["error"]["remedy"]
    assert job["error"]["what"] in job["log_tail"]


def test_pages_hold_every_job_once_newest_first(service) -> None:
    known = service.ask("GET", "/v1/jobs?limit=500", 200).json()["jobs"]
    assert [job["created"] for job in known] == sorted((job["created"] for job in known), reverse=True)
    found, after = [], ""
    while True:
        page = service.ask("GET", f"/v1/jobs?limit=2{after}", 200).json()
        found += page["jobs"]
        if page["next"] is None:
            break
        after = f"&before={page['next']}"
    assert [job["id"] for job in found] == [job["id"] for job in known]


def test_a_prompt_is_read_and_its_boxes_are_laid_out(service) -> None:
    read = service.ask("POST", "/v1/parse", 200, json={"prompt": "a plaid cube on top of a blue sphere"}).json()
    assert [slot["name"] for slot in read["slots"]] == ["plaid cube", "blue sphere"]
    assert read["slots"][0]["centre"][2] > read["slots"][1]["centre"][2]
    assert [relation["relation"] for relation in read["relations"]] == ["on top of"]
    (warning,) = read["warnings"]
    assert "plaid" in warning and "blue," not in warning.split(".")[0]
    assert service.ask("POST", "/v1/parse", 400, json={"prompt": "  "}).json()["error"]["where"] == "prompt"
    assert (
        service.ask("POST", "/v1/parse", 400, json={"prompt": "a", "preset": "x"}).json()["error"]["where"] == "preset"
    )


def test_a_prompt_without_an_object_is_refused_before_it_is_accepted(service) -> None:
    error = service.ask("POST", "/v1/jobs", 400, json={"prompt": "?!"}).json()["error"]
    assert error["where"] == "prompt"


def test_the_vocabulary_is_that_of_the_starter_models(service) -> None:
    known = service.ask("GET", "/v1/vocabulary?preset=starter", 200).json()
    assert known["limited"] is True
    assert {"cube", "sphere"} <= set(known["nouns"]) <= set(known["words"])
    assert "red" in known["colours"] and "on top of" in known["relations"]


def test_the_user_s_own_meshes_travel_with_the_request(service) -> None:
    """As the add-on sends them: a floor to be kept, and a shape to start from."""
    request = json.loads((CONTRACT / "request_own_meshes.json").read_text()) | {"settings": QUICK}
    meshes = (CONTRACT / "request_own_meshes.glb").read_bytes()
    job = service.wait(service.submit(request, meshes=meshes)["id"])
    assert job["state"] == "done", job["error"]
    result = service.ask("GET", f"/v1/jobs/{job['id']}/result.glb", 200).content
    assert set(trimesh.load_scene(BytesIO(result), file_type="glb").geometry) == {"rough"}
