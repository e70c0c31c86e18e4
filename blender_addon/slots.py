"""Slots in the scene: which objects are slots, their names and boxes, and making new ones.

Any object can be a slot: an Empty drawn as a cube, whose box is the cube, or a mesh, whose box is its bounds. So
Blender's own tools move, scale, rename, duplicate and delete slots.
"""

import math
import time
from typing import NamedTuple

import bpy
from mathutils import Matrix, Vector

PREFIX = "Slot "  # of a wire box's object name: the plain name stays free for the result
MESH_LIKE = ("MESH", "CURVE", "SURFACE", "FONT", "META")  # what has faces to begin from
MAKE_REAL = "Object > Apply > Make Instances Real"  # what gives an Empty's collection a shape that can be sent
THINNEST = 0.002  # of the longest edge: a flat mesh, such as a ground plane, gets a box of this thickness
LONGEST_NAME = 50  # of a name made from a prompt
# Reading a file, Blender 5.0 does not apply what an override says of an add-on's properties that its library never had.
LOSES_OVERRIDES = bpy.app.version >= (5, 0)


class Box(NamedTuple):
    """An oriented box in the world."""

    centre: tuple[float, float, float]  # metres
    rotation_deg: tuple[float, float, float]  # Euler XYZ
    size: tuple[float, float, float]  # edge lengths along the box's own axes, metres


class _Scan:
    """The names of the slots of the scene that was looked at last; a large scene is not searched on every redraw."""

    def __init__(self) -> None:
        self.scene, self.count, self.names, self.until = "", -1, [], 0.0


_scan = _Scan()


def slots_of(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """The scene's slots in the order of its objects, hidden ones too."""
    started = time.perf_counter()
    found = [thing for thing in scene.objects if thing.diorama.is_slot]
    now = time.perf_counter()
    # A change that keeps the number of objects may go unseen for a second, or for 2 % of the time spent searching.
    _scan.scene, _scan.count, _scan.names = scene.name, len(scene.objects), [thing.name for thing in found]
    _scan.until = now + max(1.0, 50.0 * (now - started))
    return found


def slots_seen(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """The scene's slots, for drawing: from memory where nothing seems to have changed."""
    if scene.name != _scan.scene or len(scene.objects) != _scan.count or time.perf_counter() > _scan.until:
        return slots_of(scene)
    things = [scene.objects.get(name) for name in _scan.names]
    if any(thing is None or not thing.diorama.is_slot for thing in things):
        return slots_of(scene)
    return things


def forget_slots() -> None:
    """The next slots_seen looks again."""
    _scan.count = -1


def slot_name(thing: bpy.types.Object) -> str:
    """The slot's name in requests and results: the object's, without the prefix of wire boxes."""
    return (thing.name[len(PREFIX) :] if thing.name.startswith(PREFIX) else thing.name).strip()


def cut(name: str, most_bytes: int) -> str:
    """The name, cut between letters to at most so many bytes."""
    return name.encode()[:most_bytes].decode(errors="ignore").strip()


def object_names(name: str) -> set[str]:
    """What slot_name says of the objects of the slot `name`: Blender cuts names that are too long for it."""
    most = bpy.types.ID.bl_rna.properties["name"].length_max - 1  # the last byte is a nought
    return {name, cut(name, most), cut(PREFIX + name, most)[len(PREFIX) :]}


def slot_called(scene: bpy.types.Scene, name: str) -> bpy.types.Object | None:
    """The slot of that name."""
    return next((thing for thing in slots_of(scene) if slot_name(thing) == name), None)


def box_of(thing: bpy.types.Object) -> Box:
    """The slot's box as it stands in the world now."""
    low, high = local_bounds(thing)
    matrix = world_matrix(thing)
    scale = matrix.to_scale()
    size = [abs(factor) * edge for factor, edge in zip(scale, high - low, strict=True)]
    if thing.type != "EMPTY" and all(scale):
        size = [max(edge, THINNEST * max(size)) for edge in size]
    centre = matrix @ ((low + high) / 2)
    # to_euler of a matrix with a zero scale would be nonsense, and such a box is refused anyway.
    turned = matrix.to_euler("XYZ") if all(size) else (0.0, 0.0, 0.0)
    return Box(tuple(centre), tuple(math.degrees(angle) for angle in turned), tuple(size))


def world_matrix(thing: bpy.types.Object) -> Matrix:
    """Where the object stands now. Blender itself brings matrix_world up to date only where the object can be seen."""
    if thing.constraints or (thing.parent is not None and thing.parent_type != "OBJECT"):
        return thing.matrix_world.copy()
    if thing.parent is None:
        return thing.matrix_basis.copy()
    return world_matrix(thing.parent) @ thing.matrix_parent_inverse @ thing.matrix_basis


def local_bounds(thing: bpy.types.Object) -> tuple[Vector, Vector]:
    """Lowest and highest corner of the slot's box in the object's own coordinates."""
    if thing.type == "EMPTY":
        half = thing.empty_display_size
        return Vector((-half,) * 3), Vector((half,) * 3)
    corners = [Vector(corner) for corner in thing.bound_box]
    return Vector(map(min, *corners)), Vector(map(max, *corners))


def add_box(scene: bpy.types.Scene, collection: bpy.types.Collection, name: str, box: Box) -> bpy.types.Object:
    """A new wire box slot."""
    thing = bpy.data.objects.new(PREFIX + name, None)
    thing.empty_display_type = "CUBE"
    thing.empty_display_size = 0.5  # a scale of 1 is then an edge of 1 m
    set_box(thing, box)
    collection.objects.link(thing)
    thing.diorama.is_slot = True
    thing.diorama.automatic_name = thing.name
    forget_slots()
    return thing


def set_box(thing: bpy.types.Object, box: Box) -> None:
    """Put a wire box there; what its parent does to it is allowed for."""
    turned = Matrix.Rotation(0.0, 4, "X")
    for axis, angle in zip("XYZ", box.rotation_deg, strict=True):
        turned = Matrix.Rotation(math.radians(angle), 4, axis) @ turned
    edge = 2.0 * thing.empty_display_size
    scale = Matrix.Diagonal((*(length / edge for length in box.size), 1.0))
    place = Matrix.Translation(box.centre) @ turned @ scale
    if thing.parent is None:
        thing.matrix_basis = place  # matrix_world would only follow after the next evaluation
    else:
        thing.matrix_basis = (world_matrix(thing.parent) @ thing.matrix_parent_inverse).inverted_safe() @ place


def ground_box(place: Vector, size: float) -> Box:
    """A cube that stands on `place`."""
    return Box((place.x, place.y, place.z + size / 2), (0.0, 0.0, 0.0), (size,) * 3)


def name_after_prompt(thing: bpy.types.Object) -> None:
    """Let a wire box's name follow its prompt until the user renames it."""
    slot = thing.diorama
    if not slot.automatic_name or thing.name != slot.automatic_name or not thing.is_editable:
        return
    words = slot.prompt.strip().split()
    if words and words[0].lower() in ("a", "an", "the"):
        words = words[1:]
    if words:
        thing.name = PREFIX + " ".join(words)[:LONGEST_NAME].strip(" ,.")
        slot.automatic_name = thing.name
        forget_slots()


def is_instance(thing: bpy.types.Object) -> bool:
    """True for an Empty that shows a collection: what is seen there are other objects' shapes."""
    return thing.type == "EMPTY" and thing.instance_type == "COLLECTION"


def is_reachable(thing: bpy.types.Object, view_layer: bpy.types.ViewLayer) -> bool:
    """False where the object's collections are all excluded from the view layer: its place is then not up to date."""
    found = view_layer.objects.get(thing.name)
    return found == thing or (found is not None and thing in view_layer.objects.values())  # a linked one has its name
