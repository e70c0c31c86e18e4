"""What is kept in the file (scene settings, slots, relations), and for the session (state of the run, history)."""

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from . import slots

KINDS = (
    ("generate", "Generate Inside My Box", "A new object is made inside this box", "CUBE", 0),
    ("start", "Start From My Shape", "The new object begins as a copy of this shape", "MESH_MONKEY", 1),
    ("context", "Context: Keep As It Is", "This object is looked at and never changed", "LOCKED", 2),
)
RELATIONS = tuple(
    (name, name.capitalize(), description)
    for name, description in (
        ("on top of", "The first stands on the second"),
        ("under", "The first is below the second"),
        ("left of", "As seen in the front view"),
        ("right of", "As seen in the front view"),
        ("in front of", "As seen in the front view"),
        ("behind", "As seen in the front view"),
        ("next to", "Side by side, whichever way round"),
    )
)
IMAGE_METHODS = (
    ("reward-sds", "RewardSDS", "Several noises a step are tried, and the vision model's favourites count"),
    ("reward-vsd", "RewardVSD", "RewardSDS with a second, learning denoiser: more natural colours, slower"),
    ("sds", "SDS", "Score distillation alone: the quickest"),
    ("vsd", "VSD", "Score distillation with a second, learning denoiser"),
)
EDIT_METHODS = (
    ("reward-dds", "Reward DDS", "Delta denoising, the vision model's favourites among several noises count"),
    ("reward-bridge", "Reward Bridge", "The bridge, the vision model's favourites among several noises count"),
    ("dds", "DDS", "Delta denoising alone: keeps most of the picture, and is the quickest"),
    ("bridge", "Bridge", "From what the picture shows to what it should show, then away from flaws"),
)
PICTURE_PRESETS = (
    ("starter", "Starter", "The bundled small models: runs anywhere, 64 px, knows few words"),
    ("paper", "Paper", "Stable Diffusion 2.1 with RewardSDS's 1000 steps: wants a GPU, and a download first"),
)
OVERRIDE = {"LIBRARY_OVERRIDABLE"}  # else a library override forgets the property when the file is loaded
OUTCOMES = (("none", "", ""), ("yes", "Fulfilled", ""), ("no", "Not Fulfilled", ""))


def _slot_prompt_changed(slot: "DioramaSlot", context: bpy.types.Context) -> None:
    slots.name_after_prompt(slot.id_data)


def _kind_changed(slot: "DioramaSlot", context: bpy.types.Context) -> None:
    """A mesh that only lends its box is drawn as a wire box, one that is context as it was."""
    thing = slot.id_data
    if thing.type != "EMPTY":
        thing.display_type = "TEXTURED" if slot.kind == "context" else "WIRE"


def _last_job_changed(settings: "DioramaScene", context: bpy.types.Context) -> None:
    settings.last_job_scene = settings.id_data.name


def _only_slots(relation: "DioramaRelation", thing: bpy.types.Object) -> bool:
    return thing.diorama.is_slot


def _active_slot(settings: "DioramaScene") -> int:
    """Index among the scene's objects of the active object, where that is a slot."""
    active = bpy.context.view_layer.objects.active
    if active is None or not active.diorama.is_slot:
        return -1
    return settings.id_data.objects.find(active.name)


def _select_slot(settings: "DioramaScene", index: int) -> None:
    """A click on a row selects the slot's object."""
    scene, layer = settings.id_data, bpy.context.view_layer
    if not 0 <= index < len(scene.objects) or bpy.context.mode != "OBJECT":
        return
    chosen = scene.objects[index]
    if layer.objects.get(chosen.name) is None:
        return
    for thing in layer.objects.selected:
        thing.select_set(False)
    chosen.select_set(True)
    layer.objects.active = chosen


class DioramaSlot(bpy.types.PropertyGroup):
    """On every object; means something where is_slot is set."""

    is_slot: BoolProperty(name="Is a Slot", override=OVERRIDE)
    prompt: StringProperty(
        name="Prompt",
        description="What stands in this box, such as: a red cube",
        update=_slot_prompt_changed,
        override=OVERRIDE,
    )
    kind: EnumProperty(
        name="Kind", description="What becomes of this object", items=KINDS, update=_kind_changed, override=OVERRIDE
    )
    lock_position: BoolProperty(name="Position", description="The object stays where the box is", override=OVERRIDE)
    lock_rotation: BoolProperty(name="Rotation", description="The object stays turned as the box is", override=OVERRIDE)
    lock_size: BoolProperty(name="Size", description="The object stays as large as the box is", override=OVERRIDE)
    # Made by reading the scene's prompt: the next reading replaces it.
    from_prompt: BoolProperty(options={"HIDDEN"}, override=OVERRIDE)
    # The name given last: another name is the user's own.
    automatic_name: StringProperty(options={"HIDDEN"}, override=OVERRIDE)


class DioramaRelation(bpy.types.PropertyGroup):
    """`subject` stands in `relation` to `object`. Pointers, so that a renamed slot stays related."""

    subject: PointerProperty(name="Subject", type=bpy.types.Object, poll=_only_slots)
    relation: EnumProperty(name="Relation", items=RELATIONS)
    object: PointerProperty(name="Object", type=bpy.types.Object, poll=_only_slots)
    outcome: EnumProperty(items=OUTCOMES, options={"HIDDEN"})  # of the last run
    probability: FloatProperty(default=-1.0, options={"HIDDEN"})  # the model's, of the last run; -1 where unknown


class DioramaPicture(bpy.types.PropertyGroup):
    """Settings of the Image Editor's panel, saved with the file."""

    prompt: StringProperty(name="Prompt", description="What the new picture is to show, such as: a red cube")
    source: StringProperty(name="It Shows", description="What the open picture shows now, such as: a red cube")
    target: StringProperty(name="It Should Show", description="What it should show instead, such as: a blue cube")
    negative_prompt: StringProperty(name="Avoid", description="What the picture should not show")
    method: EnumProperty(name="Method", description="How the picture is made", items=IMAGE_METHODS)
    edit_method: EnumProperty(name="Method", description="How the picture is changed", items=EDIT_METHODS)
    preset: EnumProperty(name="Preset", description="Which models, and how many steps", items=PICTURE_PRESETS)
    seed: IntProperty(name="Seed", description="The same seed and request give the same picture", min=0)
    steps: IntProperty(name="Steps", description="Optimisation steps; 0: as the preset says", min=0, max=100000)
    overrides: StringProperty(name="Overrides", description='Other settings as JSON, such as {"guidance_scale": 6}')


class DioramaScene(bpy.types.PropertyGroup):
    """Settings of one scene, saved with the file."""

    prompt: StringProperty(name="Prompt", description="The whole scene, such as: a red cube on top of a blue sphere")
    negative_prompt: StringProperty(name="Avoid", description="What the pictures should not show")
    preset: StringProperty(name="Preset", description="How much effort is made, with which models", default="starter")
    seed: IntProperty(name="Seed", description="The same seed and request give the same result", min=0)
    steps: IntProperty(name="Steps", description="Optimisation steps; 0: as the preset says", min=0, max=100000)
    texture_px: IntProperty(
        name="Texture", description="Edge of a texture in pixels; 0: as the preset says", min=0, max=8192
    )
    overrides: StringProperty(
        name="Overrides", description='Other settings of the preset as JSON, such as {"views": 8}'
    )
    mark_assets: BoolProperty(name="Mark as Assets", description="Imported objects appear in the asset browser")
    relations: CollectionProperty(type=DioramaRelation)
    active_relation: IntProperty()
    slot_index: IntProperty(get=_active_slot, set=_select_slot)
    picture: PointerProperty(type=DioramaPicture)
    last_job: StringProperty(options={"HIDDEN"}, update=_last_job_changed)  # whose result belongs into this scene
    last_job_scene: StringProperty(options={"HIDDEN"})  # this scene's name then: a copy of it has another


class DioramaJob(bpy.types.PropertyGroup):
    """A row of the history; `name` is the job's id."""

    kind: StringProperty(default="scene")
    state: StringProperty()
    prompt: StringProperty()
    created: StringProperty()  # local time, to read
    seconds: FloatProperty()
    has_result: BoolProperty()
    has_checkpoint: BoolProperty()


class DioramaReward(bpy.types.PropertyGroup):
    """A row of the running job's rewards; `name` is the question's."""

    log_odds: FloatProperty()


class DioramaStatus(bpy.types.PropertyGroup):
    """What the panels show of the backend and of the run. Filled by jobs.py, and again after a file is loaded."""

    backend: StringProperty(default="unknown")  # unknown, starting, ready, none, installing
    device: StringProperty()
    job: StringProperty()  # id of the run that is followed
    kind: StringProperty()  # of that run
    state: StringProperty()  # of that run, or "sending"
    phase: StringProperty()
    step: IntProperty()
    steps: IntProperty()
    factor: FloatProperty()
    seconds_left: FloatProperty()
    position: IntProperty()
    rewards: CollectionProperty(type=DioramaReward)
    notice: StringProperty()  # good news
    warnings: StringProperty()  # one a line
    fault: StringProperty()
    fault_where: StringProperty()
    fault_remedy: StringProperty()
    fault_mend: StringProperty()
    fault_job: StringProperty()
    install_line: StringProperty()
    history: CollectionProperty(type=DioramaJob)
    history_index: IntProperty()
    history_more: BoolProperty()


GROUPS = (
    DioramaSlot,
    DioramaRelation,
    DioramaPicture,
    DioramaScene,
    DioramaJob,
    DioramaReward,
    DioramaStatus,
)


def attach() -> None:
    """Give objects, scenes and the window manager their properties. Their classes are registered already."""
    bpy.types.Object.diorama = PointerProperty(type=DioramaSlot, override=OVERRIDE)
    bpy.types.Scene.diorama = PointerProperty(type=DioramaScene)
    bpy.types.WindowManager.diorama = PointerProperty(type=DioramaStatus)


def detach() -> None:
    """Take them away again. What files hold stays in them."""
    slots.forget_slots()
    del bpy.types.Object.diorama
    del bpy.types.Scene.diorama
    del bpy.types.WindowManager.diorama
