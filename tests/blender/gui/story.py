"""Runs inside a Blender with a window: fills the Diorama tab, generates to the end, saves pictures, leaves.

Argument after `--`: a JSON file with address and token of a backend, the folder for the pictures, and the steps.
Each `yield` gives Blender time to draw: seconds, or a function that is true when the story can go on.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpy

TICK_S, DRAWN_S, LONGEST_S = 0.2, 2.0, 700.0
SCROLLS = 30  # to the end of the tab
MODULE = "bl_ext.user_default.diorama"
KEPT_PX = (760, 960)  # of the 3D view in a picture: the sidebar, and what stands beside it
WHOLE_PX = (760, 2000)  # down to the end of the 3D view
PREFERENCES_PX = (1240, 640)
BOXES = (  # prompt, centre and size in metres
    ("a brown table", (0.0, 0.0, 0.5), (1.6, 1.0, 1.0)),
    ("a red mug", (0.35, 0.0, 1.3), (0.6, 0.6, 0.6)),
)


class Window:
    """The 3D view of the window, and what a user does in it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.window = bpy.context.window_manager.windows[0]
        self.area = max(
            (area for area in self.window.screen.areas if area.type == "VIEW_3D"), key=lambda area: area.width
        )
        self.region = next(region for region in self.area.regions if region.type == "WINDOW")

    def become(self, kind: str) -> None:
        """Show another kind of editor instead of the 3D view."""
        self.area.type = kind
        self.region = next(region for region in self.area.regions if region.type == "WINDOW")

    def call(self, operator: Callable[..., Any], *values: Any, **options: Any) -> None:
        """Run an operator as if its button in the 3D view was clicked."""
        with bpy.context.temp_override(window=self.window, area=self.area, region=self.region):
            operator(*values, **options)

    def open_tab(self) -> Iterator[float]:
        self.area.spaces.active.show_region_ui = True
        yield DRAWN_S  # a sidebar that was never drawn has no tabs yet
        sidebar = next(region for region in self.area.regions if region.type == "UI")
        sidebar.active_panel_category = "Diorama"

    def scroll_down(self) -> Iterator[float]:
        """Show the end of the tab."""
        sidebar = next(region for region in self.area.regions if region.type == "UI")
        with bpy.context.temp_override(window=self.window, area=self.area, region=sidebar):
            for _ in range(SCROLLS):  # each goes a little further, whatever it is told
                bpy.ops.view2d.scroll_down()
        yield DRAWN_S

    def look(self, distance_m: float) -> None:
        """Look at the middle of the scene from its right front."""
        region = self.area.spaces.active.region_3d
        region.view_distance = distance_m
        region.view_location = (0.0, 0.0, 0.7)

    def shoot(self, name: str, most_px: tuple[int, int] = KEPT_PX) -> Iterator[float | Callable[[], bool]]:
        """Ask for a picture of the view, and wait until it is taken: only the display has what is on the screen."""
        self.area.tag_redraw()
        yield DRAWN_S
        yield from ask(self.out, name, self.window, self.area, most_px)


def ask(out: Path, name: str, window: Any, area: Any, most_px: tuple[int, int]) -> Iterator[Callable[[], bool]]:
    """Say which part of the screen is wanted: at most so much of the area, from its upper right corner."""
    right, top = window.x + area.x + area.width, window.height - area.y - area.height
    left, bottom = right - min(area.width, most_px[0]), top + min(area.height, most_px[1])
    wish, part = out / f"wish_{name}.json", out / f"wish_{name}.part"
    part.write_text(json.dumps([left, top, right, bottom]), encoding="utf-8")
    os.replace(part, wish)
    yield lambda: not wish.exists()


def story(task: dict[str, Any]) -> Iterator[float | Callable[[], bool]]:
    window = Window(Path(task["out"]))
    chosen = bpy.context.preferences.addons[MODULE].preferences
    if "preferences" in task["chapters"]:
        yield from preferences(window, chosen)
    if "scene" in task["chapters"]:
        yield from scene_story(window, chosen, task)
    if "image" in task["chapters"]:
        yield from image_story(window, chosen, task)


def connect(chosen: Any, task: dict[str, Any]) -> Iterator[Callable[[], bool]]:
    """Use the backend that runs already."""
    chosen.address, chosen.token, chosen.location = task["address"], task["token"], "REMOTE"
    yield lambda: bpy.context.window_manager.diorama.backend == "ready"


def scene_story(window: Window, chosen: Any, task: dict[str, Any]) -> Iterator[float | Callable[[], bool]]:
    """From an empty file to objects."""
    status, scene = bpy.context.window_manager.diorama, bpy.context.scene
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)
    yield from window.open_tab()
    window.look(5.0)
    chosen.location = "INSTALL"
    scene.diorama.prompt = "a red mug on top of a brown table"
    yield DRAWN_S
    window.call(bpy.ops.diorama.generate)
    yield lambda: bool(status.fault)
    yield from window.shoot("error")
    scene.diorama.prompt = ""
    yield from connect(chosen, task)
    yield from window.shoot("empty")
    scene.diorama.overrides = task["overrides"]
    yield from lay_out(window, scene, task["steps"])
    yield from window.shoot("layout")
    yield from generate(window, status)


def image_story(window: Window, chosen: Any, task: dict[str, Any]) -> Iterator[float | Callable[[], bool]]:
    """A picture of a prompt, and what becomes of it when it is edited."""
    yield from connect(chosen, task)
    window.become("IMAGE_EDITOR")
    yield from window.open_tab()
    settings, jobs = bpy.context.scene.diorama.picture, sys.modules[f"{MODULE}.jobs"]
    settings.seed, settings.prompt, settings.method = 3, "a red cube", "sds"
    settings.steps, settings.overrides = task["steps"], '{"lr": 0.1}'  # few and long ones
    yield DRAWN_S
    window.call(bpy.ops.diorama.generate_image)
    yield from ended(jobs)
    settings.source, settings.target, settings.edit_method = "a red cube", "a blue cube", "reward-dds"
    window.call(bpy.ops.image.view_zoom_ratio, ratio=6.0)
    yield DRAWN_S
    window.call(bpy.ops.diorama.edit_image)
    status = bpy.context.window_manager.diorama
    yield (
        lambda: (
            status.fault or (status.factor > 0.3 and bool(status.rewards) and jobs.session().pictures.icon(status.job))
        )
    )
    yield from window.shoot("image_running")
    yield from ended(jobs)
    yield from window.shoot("image")


def ended(jobs: Any) -> Iterator[Callable[[], bool]]:
    """Wait until the run has ended and its result is there; raise where it failed."""
    status = bpy.context.window_manager.diorama
    yield lambda: status.fault or (not jobs.session().busy() and bool(status.notice))
    if status.fault:
        raise RuntimeError(f"{status.fault} {status.fault_where} {status.fault_remedy}")


def lay_out(window: Window, scene: bpy.types.Scene, steps: int) -> Iterator[float]:
    """Boxes for the objects, and how they stand to each other."""
    scene.diorama.prompt, scene.diorama.steps = "a red mug on top of a brown table", steps
    scene.diorama.seed = 3  # as in the README's script
    for prompt, centre, size in BOXES:
        window.call(bpy.ops.diorama.add_slot, prompt=prompt)
        box = bpy.context.view_layer.objects.active
        box.location, box.scale = centre, size
        yield TICK_S
    table, mug = (thing for thing in scene.objects if thing.diorama.is_slot)
    table.diorama.lock_position = True
    window.call(bpy.ops.diorama.add_relation)
    relation = scene.diorama.relations[-1]
    relation.subject, relation.relation, relation.object = mug, "on top of", table
    yield DRAWN_S


def generate(window: Window, status: Any) -> Iterator[float | Callable[[], bool]]:
    """A run from the button to the objects in the scene."""
    window.call(bpy.ops.diorama.generate)
    jobs = sys.modules[f"{MODULE}.jobs"]
    yield lambda: status.fault or (status.step >= status.steps * 0.4 > 0 and jobs.session().pictures.icon(status.job))
    yield from window.shoot("running")
    yield from ended(jobs)
    window.area.spaces.active.shading.color_type = "TEXTURE"  # a material preview takes minutes without a GPU
    yield from window.shoot("result")
    yield from window.scroll_down()
    yield from window.shoot("results", WHOLE_PX)


def preferences(window: Window, chosen: Any) -> Iterator[float | Callable[[], bool]]:
    """The add-on's preferences, in the editor that Blender otherwise opens in a window of its own."""
    chosen.location = "INSTALL"
    window.become("PREFERENCES")
    bpy.context.preferences.active_section = "ADDONS"
    bpy.context.window_manager.addon_search = "Diorama"
    window.call(bpy.ops.preferences.addon_expand, module=MODULE)
    yield from window.shoot("preferences", PREFERENCES_PX)
    window.become("VIEW_3D")
    yield DRAWN_S


class Teller:
    """Tells the story from a timer of Blender's."""

    def __init__(self, told: Iterator[float | Callable[[], bool]]) -> None:
        self.told = told
        self.wait: Callable[[], Any] = lambda: True
        self.since = time.monotonic()

    def tick(self) -> float | None:
        try:
            if time.monotonic() - self.since > LONGEST_S:
                raise TimeoutError("the story does not go on")
            if self.wait():
                self.wait, self.since = self._next(), time.monotonic()
        except StopIteration:
            leave(0)
        except BaseException:
            traceback.print_exc()
            leave(3)
        return TICK_S

    def _next(self) -> Callable[[], Any]:
        step = next(self.told)
        if callable(step):
            return step
        until = time.monotonic() + step
        return lambda: time.monotonic() >= until


def leave(status: int) -> None:
    """End without Blender's question whether to save."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    task = json.loads(Path(sys.argv[sys.argv.index("--") + 1]).read_text("utf-8"))
    bpy.context.preferences.view.show_splash = False
    bpy.app.timers.register(Teller(story(task)).tick, first_interval=DRAWN_S, persistent=True)


main()
