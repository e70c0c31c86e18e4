"""The contract: what a request may say. Every entrance (command line, service, add-on) goes through `read_request`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from .errors import RequestError
from .schedules import Annealing
from .weighing import Strategy, Weighing, Weighting

MAX_SLOTS = 16
SHORTEST_EDGE_M, LONGEST_M = 1e-4, 1e5  # what single precision still tells apart in one scene
MOST_ELONGATED = 1000.0  # longest edge of a box over its shortest
RelationName = Literal["on top of", "under", "left of", "right of", "in front of", "behind", "next to"]
SlotKind = Literal["generate", "start", "context"]
RewardForm = Literal["logistic", "log-odds", "probability"]  # guidance.critics.reward_pull
Vector3 = tuple[float, float, float]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    """No unknown keys, no change after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_strip_whitespace=True)


class Slot(_Strict):
    """An oriented box that one object is generated in."""

    name: Annotated[str, Field(min_length=1, max_length=63)]  # unique in the request
    prompt: Annotated[str, Field(min_length=1, max_length=1000)]  # what stands in the box
    kind: SlotKind = "generate"  # start: begin with the user's mesh; context: the user's mesh, kept as it is
    centre: Vector3 = (0.0, 0.0, 0.5)  # of the box; metres, Blender's axes (Z up, front at -Y)
    rotation_deg: Vector3 = (0.0, 0.0, 0.0)  # Euler XYZ, degrees, as Blender applies it: R = Rz Ry Rx
    size: Vector3 = (1.0, 1.0, 1.0)  # edge lengths of the box along its own axes, metres
    lock_position: bool = False  # True: the optimisation never moves the box
    lock_rotation: bool = False  # True: it never turns it
    lock_size: bool = False  # True: it never scales it

    @field_validator("size")
    @classmethod
    def _positive(cls, size: Vector3) -> Vector3:
        if min(size) <= 0.0:
            raise ValueError("every edge must be longer than 0 metres")
        if min(size) < SHORTEST_EDGE_M:
            raise ValueError(f"edges shorter than {SHORTEST_EDGE_M} m are not supported, scale the scene up")
        if max(size) > MOST_ELONGATED * min(size):
            raise ValueError(f"one edge is more than {MOST_ELONGATED:.0f} times as long as another")
        return size

    @field_validator("centre", "size", "rotation_deg")
    @classmethod
    def _in_range(cls, value: Vector3) -> Vector3:
        if max(abs(v) for v in value) > LONGEST_M:
            raise ValueError(f"values beyond {LONGEST_M:.0f} are not supported, scale the scene down")
        return value


class Relation(_Strict):
    """`subject` stands in `relation` to `object`: "cube" "on top of" "sphere". Left and right as seen from -Y."""

    subject: str  # a slot's name
    relation: RelationName
    object: str  # another slot's name

    def __str__(self) -> str:
        return f"{self.subject} {self.relation} {self.object}"


class SceneRequest(_Strict):
    """Everything one run needs to know, and all that is needed to repeat it."""

    prompt: Annotated[str, Field(max_length=4000)] = ""  # the whole scene; read for slots when none are given
    negative_prompt: Annotated[str, Field(max_length=1000)] = ""  # what the images should not show
    slots: tuple[Slot, ...] = ()
    relations: tuple[Relation, ...] = ()
    preset: str = "starter"  # a row of presets.PRESETS
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    settings: dict[str, Any] = Field(default_factory=dict)  # overrides of the preset, by field name of Settings


class Settings(_Strict):
    """How a run is carried out. `presets.PRESETS` has the values; a request may override any by name."""

    prior: str  # diffusion model: "starter" for the bundled one, a known model's name, a hub id of one that was
    # downloaded, or a folder in diffusers layout
    vlm: str  # vision-language model, likewise; folders in transformers layout
    negative_prompt: str  # used where the request has none
    steps: Annotated[int, Field(ge=1, le=100000)]  # optimisation steps for each object
    views: Annotated[int, Field(ge=1, le=16)]  # views of the object a step
    resolution: Annotated[int, Field(ge=8, le=256)]  # cubes along a box's longest edge at first
    final_resolution: Annotated[
        int, Field(ge=8, le=256)
    ]  # and after `refine_at`; a smaller one than at first: no change
    refine_at: Share  # progress at which the grids are refined
    guidance_scale: Annotated[float, Field(ge=0, le=1000)]  # s of uncond + s (cond - uncond)
    guidance_rescale: Share  # share of the standard-deviation rescale (MVDream)
    weighting: Weighting = "x0"  # w(t): MVDream's, or "sigma squared" (DreamFusion), "uniform", "fantasia"
    latent_weight: Annotated[float, Field(ge=0)]  # the prior's loss on latents (MVDream)
    pixel_weight: Annotated[float, Field(ge=0)]  # and on decoded pictures (HiFA)
    t_max: tuple[Share, Share]  # upper end of the noise level, share of all timesteps, at the start and at `t_until`
    t_min: tuple[Share, Share]  # lower end, likewise; at no time above the upper
    t_until: Annotated[float, Field(gt=0, le=1)]  # progress at which both have arrived
    annealing: Annealing = "linear"  # how they get there
    lr_geometry: Annotated[float, Field(gt=0)]  # Adam, signed distance, in longest edges
    lr_colour: Annotated[float, Field(gt=0)]  # Adam, feature grid and network
    lr_placement: Annotated[float, Field(gt=0)]  # Adam, metres and radians
    lr_falls_from: Share = 0.65  # progress from which the learning rates fall, exponentially
    lr_end: Annotated[float, Field(gt=0, le=1)] = 0.1  # share of them that is left at the end; 1: they stay
    colour_from: tuple[Share, Share]  # progress over which an object goes from one colour to all its colours
    scene_every: Annotated[int, Field(ge=1)]  # the whole scene is looked at every so many steps
    object_reward_weight: Annotated[float, Field(ge=0)]  # VLM's gradient for one object, in lengths of the prior's
    relation_reward_weight: Annotated[float, Field(ge=0)]  # VLM's gradient for the relations, likewise
    reward_from: Share  # progress at which the object reward sets in
    reward_fade: tuple[Share, Share] = (1.0, 1.0)  # and over which its weight falls to nothing; VLM3D: (0, 0.5)
    reward_form: RewardForm = "logistic"  # what of the VLM's answer is raised
    relation_weight: Annotated[float, Field(ge=0)]  # hinge losses of the relations
    penetration_weight: Annotated[float, Field(ge=0)]  # bodies in each other
    support_weight: Annotated[float, Field(ge=0)]  # bodies in the air
    carving_weight: Annotated[
        float, Field(ge=0)
    ]  # surface where the prior would see the background; needs pixel_weight
    laplacian_weight: Annotated[float, Field(ge=0)]  # roughness of the signed distance
    eikonal_weight: Annotated[float, Field(ge=0)]  # slope of the signed distance away from 1
    normal_weight: Annotated[float, Field(ge=0)]  # angles between neighbouring faces
    deviation_weight: Annotated[float, Field(ge=0)]  # FlexiCubes' L_dev
    cube_weight: Annotated[float, Field(ge=0)]  # FlexiCubes' weights away from their default
    entropy_weight: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]  # FlexiCubes' sign regulariser:
    # at the start, and after a quarter of the run
    smoothing_steps: Annotated[int, Field(ge=0, le=1000)]  # of the finished surface (Taubin's filter)
    texture_px: Annotated[int, Field(ge=64, le=8192)]  # edge of an object's texture
    max_faces: Annotated[int, Field(ge=100, le=2_000_000)]  # triangles of one object
    preview_px: Annotated[int, Field(ge=32, le=2048)]  # edge of a picture of the contact sheet
    checkpoint_every_s: Annotated[float, Field(gt=0)]  # seconds between two checkpoints
    search_rounds: Annotated[int, Field(ge=0, le=1000)] = 0  # of trying places, weighed by what the VLM says of them
    search_samples: Annotated[int, Field(ge=2, le=1024)] = 24  # places tried in a round
    search_spread: Annotated[float, Field(gt=0)] = 0.8  # of the first round's, in mean edges of the boxes that move
    search_at: Share = 0.3  # progress at which the search is made: objects need their colours to be told apart
    vlm_views: Annotated[int, Field(ge=1, le=16)] = 2  # pictures of an object in a question to the VLM
    strategy: Strategy = "none"  # RewardSDS: how noise candidates are weighed
    candidates: Annotated[int, Field(ge=1, le=64)] = 4  # of RewardSDS: noises a step, scored by `reward`
    extremes: Annotated[int, Field(ge=1, le=32)] = 2  # min-max: so many of the best and of the worst count
    best_weight: Annotated[float, Field(ge=0)] = 0.9  # min-max
    worst_weight: Annotated[float, Field(ge=0)] = 0.1  # min-max
    temperature: Annotated[float, Field(gt=0)] = 1.0  # weighted
    reward: Literal["vlm", "aesthetic", "image-reward"] = "vlm"  # what scores the candidates
    reward_folder: str = ""  # where the weights of aesthetic or image-reward are
    explore_steps: Annotated[int, Field(ge=1, le=1000)] = 8  # of the whole DDIM schedule a candidate is denoised on
    explore_scale: Annotated[float, Field(ge=0, le=1000)] = 1.5  # guidance while doing so
    explore_every: Annotated[int, Field(ge=1)] = 1  # steps of an object from one exploration to the next
    explore_until: Share = 0.7  # progress after which there is one candidate again
    distillation: Literal["sds", "vsd"] = "sds"  # what the prior's noise is compared with: the noise added, or a LoRA's
    lora_rank: Annotated[int, Field(ge=1, le=1024)] = 4  # of VSD's LoRA, one for each object
    lora_lr: Annotated[float, Field(gt=0)] = 3e-4  # AdamW, of the LoRA
    lora_steps: Annotated[int, Field(ge=1, le=100)] = 1  # of the LoRA, for each step of its object
    lora_drop: Share = 0.1  # of the LoRA's lessons without prompt and camera
    perp_neg: bool = False  # Perp-Neg against Janus faces, at twice the network's work; priors with cameras need none
    network_dtype: Literal["float32", "float16", "bfloat16"] = (
        "float32"  # of the frozen networks; the CPU takes float32
    )
    denoise_at_once: Annotated[int, Field(ge=1, le=1024)] = 32  # samples in one call of the denoiser, and candidates'
    # pictures in one call of the VLM; at least all views of one candidate
    encode_at_once: Annotated[int, Field(ge=0, le=16)] = 0  # views the autoencoder holds for the gradient; 0: all
    vae_tile_px: Annotated[int, Field(ge=0, le=4096, multiple_of=32)] = 0  # the autoencoder works on larger pictures in
    # tiles of this edge; 0: whole
    offload_idle: bool = False  # CUDA: prior and VLM take turns on the GPU, the idle one waits in the CPU's memory
    vlm_px: Annotated[int, Field(ge=32, le=4096)] | None = None  # largest edge of a square picture that the VLM sees
    vlm_four_bit: bool = False  # its weights in 4 bits each; needs CUDA and bitsandbytes

    @property
    def weighing(self) -> Weighing:
        """How scores become weights."""
        return Weighing(self.strategy, self.extremes, self.best_weight, self.worst_weight, self.temperature)

    @field_validator("t_min")
    @classmethod
    def _below_t_max(cls, t_min: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        if any(low > high for low, high in zip(t_min, info.data.get("t_max", t_min), strict=True)):
            raise ValueError(f"lies above t_max, which is {info.data['t_max']}")
        return t_min

    @field_validator("colour_from", "reward_fade")
    @classmethod
    def _in_order(cls, interval: tuple[float, float]) -> tuple[float, float]:
        if interval[0] > interval[1]:
            raise ValueError("ends before it starts")
        return interval


def read_request(data: Any) -> SceneRequest:
    """The validated request in `data` (a parsed JSON object).

    Raises RequestError naming the key, the value and the remedy.
    """
    if not isinstance(data, dict):
        raise RequestError(
            f"expected a JSON object, got {type(data).__name__}", where="request", remedy="See the README's example"
        )
    try:
        request = SceneRequest.model_validate(data)
    except ValidationError as error:
        raise first_fault(error) from None
    check_request(request)
    return request


def check_request(request: SceneRequest) -> None:
    """Raise RequestError for what the types alone cannot see: names, relations, counts."""
    if not request.slots and not request.prompt:
        raise RequestError("nothing to generate", where="prompt", remedy="Give a prompt, or slots with prompts")
    if request.slots and all(slot.kind == "context" for slot in request.slots):
        raise RequestError(
            "every slot is context, so there is nothing to generate",
            where="slots",
            remedy="Add a slot of kind generate or start",
        )
    if len(request.slots) > MAX_SLOTS:
        raise RequestError(
            f"{len(request.slots)} slots, at most {MAX_SLOTS} fit one scene", where="slots", remedy="Remove some"
        )
    if request.relations and not request.slots:
        raise RequestError(
            "there are no slots to relate", where="relations", remedy="Give slots, or say the relations in the prompt"
        )
    names = [slot.name for slot in request.slots]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise RequestError(f"two slots are named {name!r}", where=f"slots[{index}].name", remedy="Rename one")
    for index, relation in enumerate(request.relations):
        _check_relation(relation, names, f"relations[{index}]")


def _check_relation(relation: Relation, names: list[str], where: str) -> None:
    for key in ("subject", "object"):
        name = getattr(relation, key)
        if name not in names:
            raise RequestError(
                f"there is no slot named {name!r}", where=f"{where}.{key}", remedy=f"Slots are: {', '.join(names)}"
            )
    if relation.subject == relation.object:
        raise RequestError(
            f"{relation.subject!r} cannot stand {relation.relation} itself", where=where, remedy="Name two slots"
        )


def first_fault(error: ValidationError, inside: str = "") -> RequestError:
    """The first fault as an error that names the key, such as `slots[2].prompt`. inside: what the keys stand in."""
    fault = error.errors()[0]
    where = inside
    for part in fault["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f"{'.' if where else ''}{part}"
    if fault["type"] == "extra_forbidden":
        return RequestError("unknown key", where=where, remedy="Remove it, or check its spelling")
    if fault["type"] == "missing":
        return RequestError("is missing", where=where, remedy="Add it")
    if fault["type"] == "string_too_short":
        return RequestError("is empty", where=where, remedy="Fill it in")
    what = fault["msg"].removeprefix("Value error, ")
    return RequestError(f"{what}, got {_shown(fault['input'])}", where=where, remedy="Correct the value")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
