"""Nothing that runs on Blender's main thread waits for a backend: dead, slow, or sending garbage."""

from __future__ import annotations

import json
import socket
import statistics
import time
from collections.abc import Callable

import bpy
import pytest

from .backends import HEALTH, LIMIT_S, Cost, closed_port, false_backend, http, status, tick, timed, use_remote
from .drawing import draw_everything
from .test_slots import add_slot

pytestmark = [pytest.mark.blender, pytest.mark.usefixtures("timing")]
WATCH_S = 1.5


def silent(connection: socket.socket) -> None:
    """Takes the request and says nothing."""
    connection.recv(65536)
    time.sleep(3.0)


def drip(connection: socket.socket) -> None:
    """Answers a letter at a time."""
    connection.recv(65536)
    for byte in http(json.dumps(HEALTH).encode()):
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def noise(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(bytes(range(256)) * 64)


def hang_up(connection: socket.socket) -> None:
    connection.recv(1)


def false_json(connection: socket.socket) -> None:
    """A good health, and then nonsense of every shape."""
    asked = connection.recv(65536).split(b" ")[1].decode()
    if "health" in asked:
        answer: object = HEALTH
    elif "presets" in asked:
        answer = {"presets": [{"name": 3}, {}]}
    elif "jobs" in asked:
        answer = {"jobs": [{"id": "../../etc", "state": "done"}], "next": 7, "id": [], "state": "fine"}
    else:
        answer = {"limited": "perhaps", "words": 3, "slots": [3, None, {"name": []}], "relations": "none"}
    connection.sendall(http(json.dumps(answer).encode()))


def deep_json(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(http(b"[" * 100_000))


def press_everything(addon) -> list[Cost]:
    """What the buttons cost that ask the backend for something."""
    scene = bpy.context.scene
    scene.diorama.prompt = "a red cube"
    collected = addon.collect.collect(scene, bpy.context.view_layer)
    for key in ("prompt", "source", "target"):
        setattr(scene.diorama.picture, key, "a red cube")
    picture = bpy.data.images.new("picture", 512, 512)
    buttons: dict[str, Callable[[], object]] = {
        "start": bpy.ops.diorama.start,
        "refresh": bpy.ops.diorama.refresh,
        "read prompt": bpy.ops.diorama.read_prompt,
        "generate": lambda: addon.jobs.session().generate(scene, collected),
        "cancel": bpy.ops.diorama.cancel,
        "edit": lambda: addon.jobs.session().make_picture(
            scene, addon.collect_picture.collect_edit(scene, picture), None
        ),
        "cancel edit": bpy.ops.diorama.cancel,
        "import": lambda: bpy.ops.diorama.import_result(job="a"),
        "show files": lambda: bpy.ops.diorama.show_files(job="a"),
        "delete": lambda: bpy.ops.diorama.delete_result(job="a"),
        "free memory": bpy.ops.diorama.free_memory,
        "restart": bpy.ops.diorama.restart,
    }
    return [timed(name, button) for name, button in buttons.items()]


def costs_with(addon, address: str) -> list[Cost]:
    add_slot("a red cube")
    use_remote(addon, address)
    tick(addon)
    draw_everything(addon)  # once before: Blender fills caches of its own
    costs = press_everything(addon)
    until = time.monotonic() + WATCH_S
    while time.monotonic() < until:
        costs.append(tick(addon))
        costs += draw_everything(addon)
        time.sleep(0.01)
    return costs


def check(costs: list[Cost]) -> None:
    """None took 20 ms of the processor, and none waited; the wall clock also counts what a busy machine does.

    On a virtual machine the processor's time too has what others took of it: of what was called many times, one call
    may be such a one.
    """
    for name in {cost.name for cost in costs}:
        falling = sorted((cost.cpu_s for cost in costs if cost.name == name), reverse=True)
        assert falling[1 if len(falling) >= 20 else 0] < LIMIT_S, (name, falling[:3])
    late = [cost for cost in costs if cost.wall_s > LIMIT_S]
    assert len(late) <= 0.05 * len(costs) + 1, late
    assert max(cost.wall_s for cost in costs) < 0.5, max(costs, key=lambda cost: cost.wall_s)
    assert statistics.median(cost.wall_s for cost in costs) < LIMIT_S


def test_a_large_mesh_of_the_user_s_is_collected_in_time(addon) -> None:
    add_slot("a red cube")
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=128, y_subdivisions=128)  # 16 000 faces
    bpy.ops.diorama.slots_from_selection(kind="context")
    scene, layer = bpy.context.scene, bpy.context.view_layer
    costs = [timed("collect", lambda: addon.collect.collect(scene, layer)) for _ in range(5)]
    assert len(addon.collect.collect(scene, layer).meshes) > 500_000
    assert min(cost.cpu_s for cost in costs) < LIMIT_S, costs


def test_whether_large_objects_have_faces_is_seen_in_time(addon) -> None:
    add_slot("a red cube")
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=128, y_subdivisions=128)
    bpy.context.object.modifiers.new("more", "SUBSURF").levels = 2
    bpy.ops.diorama.slots_from_selection(kind="context")
    bpy.ops.curve.primitive_bezier_circle_add()
    bpy.context.object.data.dimensions = "3D"
    for _ in range(2000):
        bpy.context.object.data.splines.new("BEZIER")
    bpy.ops.diorama.slots_from_selection(kind="start")
    scene, layer = bpy.context.scene, bpy.context.view_layer
    layer.update()
    costs = [timed("problems", lambda: addon.collect.problems(scene, layer, list(scene.objects))) for _ in range(20)]
    check(costs)


@pytest.mark.parametrize("answer", [silent, drip, noise, hang_up, false_json, deep_json])
def test_no_callback_waits_for_a_false_backend(addon, answer) -> None:
    with false_backend(answer) as address:
        check(costs_with(addon, address))
        session = addon.jobs.session()
        session.network.close(10.0)


def test_no_callback_waits_for_a_dead_backend_and_the_panel_says_what_to_do(addon) -> None:
    check(costs_with(addon, closed_port()))
    assert status().fault != ""
    assert status().fault_mend in ("settings", "restart", "start")


def test_garbage_is_told_in_one_sentence(addon) -> None:
    with false_backend(noise) as address:
        costs_with(addon, address)
        assert status().fault != ""
        assert "add-on met a fault" not in status().fault
    with false_backend(false_json) as address:
        costs_with(addon, address)
        assert "add-on met a fault" not in status().fault


def test_a_wrong_token_says_where_the_right_one_stands(addon) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(http(json.dumps({**HEALTH, "token_ok": False}).encode()))

    with false_backend(refuse) as address:
        costs_with(addon, address)
        assert "token" in status().fault
        assert status().fault_mend == "settings"


def test_a_flood_of_messages_does_not_hold_the_timer_up(addon) -> None:
    session = addon.jobs.session()
    tick(addon)
    progress = addon.answers.read_progress(
        {"step": 1, "steps": 9, "rewards": {f"question {i}": 0.5 for i in range(30)}}
    )
    for _ in range(5000):
        session.network._post("progress", ("a", progress))
    check([tick(addon) for _ in range(50)])
