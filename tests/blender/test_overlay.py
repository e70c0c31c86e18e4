"""What is written above the slots in the 3D view."""

from __future__ import annotations

from collections.abc import Iterator

import bpy
import pytest
from mathutils import Vector

from .test_slots import add_mesh, add_slot

pytestmark = pytest.mark.blender


@pytest.fixture
def view(addon) -> Iterator[bpy.types.Context]:
    """The context of a 3D view; the factory settings look at the world's middle."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        yield bpy.context


def labels(addon, view) -> dict[str, object]:
    view.view_layer.update()
    return {label.text: label for label in addon.overlay.labels(view)}


def test_each_slot_that_is_seen_has_its_prompt_above_its_box(addon, view) -> None:
    low, high = add_slot("a red cube"), add_slot("a " + "very " * 20 + "blue sphere")
    high.location.z = 2.0
    add_mesh("no slot")
    add_slot("hidden").hide_set(True)
    add_slot("a mute slot").diorama.prompt = ""
    view.view_layer.objects.active = low
    found = labels(addon, view)
    long = "a " + "very " * 7 + "..."
    assert list(found) == ["a red cube", long]
    assert [label.active for label in found.values()] == [True, False]
    assert 0.0 < found["a red cube"].place.y < found[long].place.y
    assert 0.0 < found["a red cube"].place.x < view.region.width


def test_a_slot_behind_the_eye_has_no_label(addon, view) -> None:
    add_slot("a red cube").location = view.region_data.view_matrix.inverted() @ Vector((0.0, 0.0, 100.0))
    assert labels(addon, view) == {}
