"""Making and judging the runs of an evaluation, as far as that was not done before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..errors import ModelError, OptimisationError
from ..generate import Step
from ..guidance.models import Models, load_models
from ..guidance.vlm import VisionLanguageModel, load_vlm
from ..models_table import WEIGHTS, require_model
from ..presets import settings_for
from ..run import run
from ..schema import SceneRequest
from .calls import counted
from .digest import weights_digest
from .judging import in_order, judge_scene, nothing_shown
from .methods import overrides_of
from .pictures import photograph
from .suite import PRESET, request_for
from .trials import RESULT, Trial, read_result, write_json

JUDGE = WEIGHTS / "judge"
PICTURE, PICTURE_PX = "picture.png", 160


class Maker:
    """Makes and judges runs; networks are loaded when the first run needs them."""

    def __init__(self, out: Path, device: torch.device, changes: Mapping[str, Any], judge: Path = JUDGE) -> None:
        """changes: of the preset's settings, for all methods. judge: folder of a vision-language model.

        Raises ModelError when the judge or a model is not there, RequestError for a setting that there is not.
        """
        self.out, self.device, self.changes, self.judge_folder = out, device, dict(changes), judge
        if not (judge / "config.json").is_file():
            raise ModelError(
                "there is no vision-language model here to judge with",
                where=str(judge),
                remedy="Name one with --judge FOLDER; it should be another than the one that rewards. "
                "python -m backend.starter.train_vlm makes one",
            )
        self.base = settings_for(PRESET, self.changes)
        folders = require_model(self.base.prior, "prior"), require_model(self.base.vlm, "vlm")
        self.weights = weights_digest(folders)
        self.judge_digest = weights_digest([judge])
        self.judges_itself = self.judge_digest == weights_digest(folders[1:])  # the reward would be its own judge

    @cached_property
    def models(self) -> Models:
        """What the runs are made with."""
        return load_models(self.base, self.device)

    @cached_property
    def judge(self) -> VisionLanguageModel:
        """What looks at the results."""
        return load_vlm(self.judge_folder, torch.device("cpu"))

    def asked(self, trial: Trial) -> dict[str, Any]:
        """All that a run's result hangs on."""
        request = self._request(trial)
        settings = settings_for(request.preset, request.settings)
        return {
            "trial": trial._asdict(),
            "request": request.model_dump(mode="json"),
            "settings": settings.model_dump(mode="json"),
            "weights": self.weights,
        }

    def _request(self, trial: Trial) -> SceneRequest:
        return request_for(trial.case, trial.number, trial.seed, overrides_of(trial.method, self.changes))

    def result(self, trial: Trial, on_step: Callable[[Step], None], fresh: bool = False) -> tuple[dict[str, Any], bool]:
        """The run's result, and whether it was made now. One of the same request and weights is not made again.

        A result that another judge looked at is judged again. fresh: it is made in any case.
        """
        folder, asked = trial.folder(self.out), self.asked(trial)
        result = {} if fresh else read_result(folder)
        make = result.get("asked") != asked or "made" not in result
        if make:
            result = {"asked": asked, "made": self._make(trial, on_step)}
            write_json(result, folder / RESULT)
        if result.get("judge") != self.judge_digest:
            shows = self._judge(trial, result["made"])
            result |= {"shows": shows, "judge": self.judge_digest, "judged_by_reward": self.judges_itself}
            write_json(result, folder / RESULT)
        return result, make

    def _make(self, trial: Trial, on_step: Callable[[Step], None]) -> dict[str, Any]:
        """Seconds, network calls and rewards of the run. One that cannot be optimised to its end has failed."""
        folder, warnings = trial.folder(self.out), list[str]()
        for name in (RESULT, PICTURE):
            (folder / name).unlink(missing_ok=True)
        machine = {"device": self.device.type, "threads": torch.get_num_threads()}
        with counted(self.models) as calls:
            try:
                run(self._request(trial), folder, self.device, on_step, warnings.append, models=self.models)
            except OptimisationError as error:
                return machine | {"failed": str(error), "calls": calls}
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        told = {"seconds": report["timings_s"]["optimisation"], "rewards": report["rewards"], "warnings": warnings}
        return machine | told | {"calls": calls}

    def _judge(self, trial: Trial, made: dict[str, Any]) -> dict[str, Any]:
        """What the run's scene shows; its picture is written beside it. A run that failed shows nothing."""
        if "failed" in made:
            return nothing_shown(trial.case)
        folder = trial.folder(self.out)
        things = in_order(folder)
        Image.fromarray((photograph(things, PICTURE_PX) * 255).round().astype("uint8")).save(folder / PICTURE)
        return judge_scene(trial.case, things, self.judge)


def known_results(trials: Iterable[Trial], out: Path) -> list[dict[str, Any]]:
    """The results of those runs that are made and judged."""
    return [result for trial in trials if "shows" in (result := read_result(trial.folder(out)))]
