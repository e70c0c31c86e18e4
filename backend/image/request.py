"""What a 2D task may be asked: text to image, or an edit of a picture. The settings' defaults per method and preset."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import RequestError, check_setting_names
from ..schedules import Annealing
from ..schema import first_fault
from ..weighing import Strategy, Weighing, Weighting, check_candidates, check_reward

ImageMethod = Literal["sds", "vsd", "reward-sds", "reward-vsd"]
EditMethod = Literal["dds", "bridge", "reward-dds", "reward-bridge"]
Method = Literal[ImageMethod, EditMethod]
IMAGE_METHODS: tuple[ImageMethod, ...] = ("sds", "vsd", "reward-sds", "reward-vsd")
EDIT_METHODS: tuple[EditMethod, ...] = ("dds", "bridge", "reward-dds", "reward-bridge")
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class _Strict(BaseModel):
    """No unknown keys, no change after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_strip_whitespace=True)


class ImageSettings(_Strict):
    """How a 2D run is carried out. `settings_for` has the values of a preset and method."""

    prior: str = "starter"  # diffusion model: "starter" for the bundled one, a known model's name, or a folder
    vlm: str = "starter"  # vision-language model, likewise; used when `reward` is "vlm"
    reward: Literal["vlm", "aesthetic", "image-reward"] = "vlm"  # what scores the candidates
    reward_folder: str = ""  # where the weights of aesthetic or image-reward are
    negative_prompt: str = ""
    steps: Annotated[int, Field(ge=1, le=100000)] = 1000
    lr: Positive = 1e-2  # AdamW's, of the latents
    guidance_scale: Annotated[float, Field(ge=0, le=1000)] = 7.5  # s of uncond + s (cond - uncond)
    weighting: Weighting = "sigma squared"  # w(t), see guidance.distillation.timestep_weight
    t_min: Share = 0.02  # lower end of the noise level, share of all timesteps
    t_max: tuple[Share, Share] = (0.98, 0.98)  # upper end, at the start and at the end
    annealing: Annealing = "none"  # how the upper end sinks
    azimuth_deg: float = 25.0  # where a prior that knows cameras looks from: 0 front, 90 right
    elevation_deg: Annotated[float, Field(ge=-90, le=90)] = 20.0
    strategy: Strategy = "min-max"  # how the candidates' scores become weights
    candidates: Annotated[int, Field(ge=1, le=64)] = 4  # noises of one step that explores; a step that does not has one
    extremes: Annotated[int, Field(ge=1, le=32)] = 2  # min-max: so many of the best and of the worst count
    best_weight: Annotated[float, Field(ge=0)] = 0.9  # min-max
    worst_weight: Annotated[float, Field(ge=0)] = 0.1  # min-max
    temperature: Positive = 1.0  # weighted
    explore_steps: Annotated[int, Field(ge=1, le=1000)] = 15  # of the whole DDIM schedule
    explore_scale: Annotated[float, Field(ge=0, le=1000)] = 7.5  # guidance while exploring
    explore_every: Annotated[int, Field(ge=1)] = 1  # explores in every so many steps
    explore_until: Share = 1.0  # and for this share of the run
    batch: Annotated[int, Field(ge=1)] = 16  # samples in one network call: less needs less memory
    network_dtype: Literal["float32", "float16", "bfloat16"] = (
        "float32"  # of prior and VLM on a GPU, see guidance.models
    )
    vae_tile_px: Annotated[int, Field(ge=0, le=4096, multiple_of=32)] = 0  # edge of the VAE's tiles; 0: whole
    offload_idle: bool = False  # CUDA: prior and VLM take turns on the GPU, the idle one waits in the CPU's memory
    vlm_px: Annotated[int, Field(ge=32, le=4096)] | None = None  # largest edge of a square picture that the VLM sees
    vlm_four_bit: bool = False  # its weights in 4 bits each; needs CUDA and bitsandbytes
    lora_rank: Annotated[int, Field(ge=1, le=1024)] = 4  # vsd
    lora_lr: Positive = 3e-4  # vsd
    lora_drop: Share = 0.1  # vsd: share of the LoRA's lessons without prompt
    bridge_at: Share = 0.5  # bridge: progress at which its second stage begins
    flaws: str = "oversaturated, blurry, noisy, malformed"  # bridge: what its second stage leaves behind

    @property
    def weighing(self) -> Weighing:
        """How scores become weights."""
        return Weighing(self.strategy, self.extremes, self.best_weight, self.worst_weight, self.temperature)


class ImageRequest(_Strict):
    """Everything a 2D run needs to know beside the picture to edit."""

    prompt: Annotated[str, Field(min_length=1, max_length=4000)]  # what the picture is to show
    source: Annotated[str, Field(max_length=4000)] = ""  # edit: what the given picture shows
    method: Method
    preset: Literal["starter", "paper"] = "starter"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    settings: dict[str, Any] = Field(default_factory=dict)  # overrides of the preset, by field name of ImageSettings

    @property
    def rewarded(self) -> bool:
        """Whether candidates are scored."""
        return self.method.startswith("reward-")

    @property
    def edits(self) -> bool:
        """Whether the task begins from a picture."""
        return self.method in EDIT_METHODS


# RewardSDS's (arXiv 2503.09601): 1000 steps, guidance 100 for SDS and 7.5 for VSD. The starter prior is trained on few
# pictures of few things: what it learnt from words is already strong, and little guidance is best.
_PAPER_SCALE = {"sds": 100.0, "vsd": 7.5, "dds": 7.5, "bridge": 7.5}
_STARTER_SCALE = {"sds": 4.0, "vsd": 2.0, "dds": 4.0, "bridge": 4.0}
_PAPER = {"prior": "sd-2.1-base", "vlm": "qwen3-vl-2b", "network_dtype": "bfloat16"}
_STARTER = {"steps": 300, "lr": 3e-2, "explore_scale": 2.0, "explore_steps": 8, "explore_every": 2, "flaws": "broken"}


def read_image_request(data: Any) -> ImageRequest:
    """The request in JSON's types, checked. Raises RequestError naming the first fault."""
    try:
        request = ImageRequest.model_validate(data)
    except ValidationError as error:
        raise first_fault(error) from None
    check_image_request(request)
    return request


def check_image_request(request: ImageRequest) -> None:
    """Raise RequestError for what the types alone cannot see."""
    if request.edits and not request.source:
        raise RequestError("is empty", where="source", remedy="Say what the picture to edit shows now")
    settings_for(request)


def settings_for(request: ImageRequest) -> ImageSettings:
    """The preset's settings for the request's method, with the overrides. Raises RequestError for what is wrong."""
    plain = request.method.removeprefix("reward-")
    check_setting_names(request.settings, ImageSettings.model_fields)
    starter = request.preset == "starter"
    base = (_STARTER if starter else _PAPER) | {"guidance_scale": (_STARTER_SCALE if starter else _PAPER_SCALE)[plain]}
    try:
        settings = ImageSettings.model_validate(base | request.settings)
    except ValidationError as error:
        raise first_fault(error, inside="settings") from None
    if settings.t_min > min(settings.t_max):
        raise RequestError(f"lies above t_max, which is {settings.t_max}", where="settings.t_min", remedy="Lower it")
    if request.rewarded:
        check_candidates(settings.candidates, settings.weighing)
        check_reward(settings.reward, settings.reward_folder)
    return settings
