"""Jobs that make or edit a picture, in a real service with a real worker and the starter models."""

import subprocess
import sys
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backend.service.loaded import Loaded
from backend.service.running import run_job
from tests.service_server import QUICK, Service, Told, form, scene

MAKE = {"kind": "image", "prompt": "a red cube", "method": "sds", "seed": 2, "settings": {"steps": 4}}
EXPLORE = {"steps": 3, "explore_steps": 2, "explore_every": 1}
EDIT = {"kind": "edit", "source": "a red cube", "prompt": "a blue cube", "method": "reward-dds", "settings": EXPLORE}
ENDLESS = MAKE | {"settings": {"steps": 100_000}}


def png(width: int = 80, height: int = 60) -> bytes:
    """A picture with a red square on grey."""
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[height // 4 : -height // 4, width // 4 : -width // 4] = (200, 30, 30)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def made(service) -> tuple[str, list[Told]]:
    """A finished job's id, and what was told while it ran."""
    return service.run(MAKE)


def fetch(service: Service, job_id: str, name: str) -> Image.Image:
    picture = Image.open(BytesIO(service.ask("GET", f"/v1/jobs/{job_id}/{name}", 200).content))
    picture.load()
    return picture


def test_a_picture_is_made_with_progress_and_previews(service, made) -> None:
    job_id, events = made
    assert events[-1].data["state"] == "done", events[-1].data["error"]
    told = [event.data for event in events if event.kind == "progress"]
    assert {data["phase"] for data in told} == {"loading", "optimising", "exporting"}
    assert told[0]["steps"] == told[-1]["step"] == 4
    assert told[-1]["preview"] and "prior" in told[-1]["losses"]
    job = service.job(job_id)
    assert (job["kind"], job["request"]) == ("image", MAKE)
    assert job["has_result"] and job["has_preview"] and not job["has_checkpoint"] and job["relations"] is None
    assert fetch(service, job_id, "result.png").size == (64, 64)
    assert min(fetch(service, job_id, "preview.jpg").size) >= 64
    report = service.ask("GET", f"/v1/jobs/{job_id}/report.json", 200).json()
    assert (report["request"]["prompt"], report["seed"], report["settings"]["steps"]) == ("a red cube", 2, 4)


def test_the_same_request_gives_the_same_picture_and_models_are_loaded_once(service, made) -> None:
    again = service.wait(service.submit(MAKE)["id"])
    assert again["state"] == "done"
    one, other = (np.asarray(fetch(service, job_id, "result.png")) for job_id in (made[0], again["id"]))
    assert np.array_equal(one, other)
    assert service.ask("POST", "/v1/unload", 200).json() == {"freed": True}


def test_the_picture_that_is_sent_is_edited(service) -> None:
    job = service.wait(service.submit(EDIT, picture=png())["id"])
    assert job["state"] == "done", (job["error"], job["log_tail"])
    assert job["request"] == EDIT
    assert set(job["progress"]["rewards"]) == {"best", "mean"}
    (warning,) = job["warnings"]
    assert "80 x 60" in warning
    picture = fetch(service, job["id"], "result.png")
    assert picture.width > picture.height
    assert not np.array_equal(np.asarray(picture), np.asarray(Image.open(BytesIO(png())).resize(picture.size)))


def test_a_job_has_the_files_of_its_kind_and_names_its_result_for_others(service, made) -> None:
    for name in ("result.glb", "turntable.gif", "preview.png"):
        error = service.ask("GET", f"/v1/jobs/{made[0]}/{name}", 404).json()["error"]
        assert "result.png" in error["remedy"]
    waiting = service.submit(scene(QUICK))["id"]
    error = service.ask("GET", f"/v1/jobs/{waiting}/result.png", 404).json()["error"]
    assert "result.glb" in error["remedy"]
    assert service.wait(waiting)["kind"] == "scene"


def test_a_picture_that_was_cancelled_begins_anew(service) -> None:
    job_id = service.submit(ENDLESS)["id"]
    service.wait(job_id, "running")
    while service.job(job_id)["progress"]["step"] < 2:
        assert service.job(job_id)["state"] == "running"
    service.ask("POST", f"/v1/jobs/{job_id}/cancel", 200)
    job = service.wait(job_id)
    assert job["state"] == "cancelled" and not job["has_checkpoint"] and not job["has_result"]
    service.ask("POST", f"/v1/jobs/{job_id}/resume", 200)
    assert service.wait(job_id, "running")["state"] == "running"
    service.ask("POST", f"/v1/jobs/{job_id}/cancel", 200)
    service.wait(job_id)
    assert "from the start" in service.log(job_id) and "from step" not in service.log(job_id)


def test_a_cancel_while_the_picture_is_written_is_heeded(tmp_path) -> None:
    message = {"job": "one", "request": MAKE, "folder": str(tmp_path), "upload": None, "checkpoint": None}
    stops: dict[str, str] = {}
    told: list[str] = []

    def tell(kind: str, **what: Any) -> None:
        told.append(kind)
        if kind == "progress" and what["progress"]["phase"] == "exporting":
            stops[what["job"]] = "cancel"

    run_job(message, Loaded(torch.device("cpu")), stops, tell)
    assert stops and told[-1] == "cancelled"
    assert {path.name for path in tmp_path.iterdir()} == {"log.txt", "preview.jpg"}


def test_a_finished_picture_cannot_be_refined_and_the_answer_says_what_to_do(service, made) -> None:
    error = service.ask("POST", f"/v1/jobs/{made[0]}/resume", 409, json={"steps": 5}).json()["error"]
    assert "no state" in error["what"] and "begins anew" in error["remedy"]


@pytest.mark.parametrize(
    ("request_", "where"),
    [
        ({"kind": "film", "prompt": "a cube"}, "kind"),
        ({"kind": None, "prompt": "a cube"}, "kind"),
        ({"kind": ["image"], "prompt": "a cube"}, "kind"),
        ({"kind": "image"}, "prompt"),
        ({"kind": "image", "prompt": "a cube", "method": "dds"}, "method"),
        ({"kind": "image", "prompt": "a cube", "source": "a ball"}, "source"),
        ({"kind": "image", "prompt": "a cube", "slots": []}, "slots"),
        ({"kind": "image", "prompt": "a cube", "settings": {"steps": 0}}, "settings.steps"),
        ({"kind": "image", "prompt": "a cube", "settings": {"candidates": 1}}, "settings.candidates"),
        ({"kind": "edit", "prompt": "a cube"}, "source"),
        ({"kind": "edit", "prompt": "a cube", "source": " "}, "source"),
        ({"kind": "edit", "prompt": "a cube", "source": "a ball", "method": "sds"}, "method"),
        ({"kind": "edit", "prompt": "a cube", "source": "a ball"}, "picture"),
        ({"kind": "scene", "prompt": "a cube", "method": "sds"}, "method"),
    ],
)
def test_a_faulty_request_is_refused_before_it_is_accepted(service, request_, where) -> None:
    assert service.ask("POST", "/v1/jobs", 400, json=request_).json()["error"]["where"] == where


@pytest.mark.parametrize(
    ("picture", "what"),
    [
        (b"", "is no PNG"),
        (b"GIF89a" + bytes(100), "is no PNG"),
        (png()[:-1], "is cut off"),
        (png() + b"more", "is cut off"),
        (png(20, 20), "20 x 20"),
        (png(640, 64), "more than 4 times"),
    ],
)
def test_a_picture_that_cannot_be_edited_is_refused_before_it_is_accepted(service, picture, what) -> None:
    error = service.ask("POST", "/v1/jobs", 400, files=form(EDIT, picture=picture)).json()["error"]
    assert error["where"] == "picture" and what in error["what"] and error["remedy"]
    assert list((service.data / "inbox").iterdir()) == []


def test_a_picture_whose_middle_is_damaged_fails_its_job_with_a_plain_message(service) -> None:
    whole = png()
    damaged = whole[:60] + bytes(20) + whole[80:]
    job = service.wait(service.submit(EDIT, picture=damaged)["id"])
    assert job["state"] == "failed" and "broken" in job["error"]["what"]


@pytest.mark.parametrize("request_", [MAKE, scene(QUICK)])
def test_what_does_not_belong_to_the_kind_is_refused(service, request_) -> None:
    error = service.ask("POST", "/v1/jobs", 400, files=form(request_, picture=png())).json()["error"]
    assert "picture" in error["what"]


def test_the_service_itself_does_without_torch() -> None:
    code = "import sys, backend.service.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
