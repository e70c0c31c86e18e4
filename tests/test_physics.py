"""Penetration and support: losses, gradients and the final checks."""

import math

import pytest
import torch
import trimesh

from backend.arrange.physics import (
    check_relations,
    check_scene,
    penetration_loss,
    penetration_volume,
    standing_on,
    support_gaps,
    support_loss,
    total_penetration_loss,
)
from backend.arrange.relations import Bounds, box_bounds
from backend.scene.mesh import Mesh
from backend.schema import Relation


def as_mesh(shape, centre=(0.0, 0.0, 0.0)):
    vertices = torch.tensor(shape.vertices, dtype=torch.float32) + torch.tensor(centre)
    faces = torch.tensor(shape.faces, dtype=torch.int64)
    return Mesh(vertices, faces, torch.zeros(len(faces), dtype=torch.int64), torch.zeros_like(vertices))


def box(centre, size=(1.0, 1.0, 1.0)):
    return as_mesh(trimesh.creation.box(size), centre)


def ball(centre, radius=0.5):
    return as_mesh(trimesh.creation.icosphere(4, radius), centre)


def sphere_sdf(centre, radius=0.5):
    return lambda points: (points - centre).norm(dim=-1) - radius


def sphere_points(centre, radius=0.5, count=400):
    noise = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return centre + radius * torch.nn.functional.normalize(noise, dim=-1)


def on(subject, object):
    return Relation(subject=subject, relation="on top of", object=object)


def test_bodies_apart_have_no_penetration_loss():
    points = sphere_points(torch.tensor([1.01, 0.0, 0.0]))
    assert penetration_loss(points, sphere_sdf(torch.zeros(3)), 1.0) == 0.0


def test_the_penetration_loss_is_mean_depth_over_size():
    points = torch.tensor([[0.4, 0.0, 0.0], [0.7, 0.0, 0.0]])
    torch.testing.assert_close(penetration_loss(points, sphere_sdf(torch.zeros(3)), 2.0), torch.tensor(0.1 / 2 / 2))


def test_descending_the_penetration_loss_parts_two_spheres():
    centre = torch.tensor([0.3, 0.1, 0.0], requires_grad=True)
    other = torch.zeros(3)
    adam = torch.optim.Adam([centre], lr=0.02)
    for _ in range(100):
        adam.zero_grad()
        total_penetration_loss(
            [sphere_points(centre), sphere_points(other)], [sphere_sdf(centre), sphere_sdf(other)], torch.ones(2)
        ).backward()
        adam.step()
    assert centre.norm() > 0.95


def test_the_penetration_gradient_is_that_of_finite_differences():
    directions = sphere_points(torch.zeros(3), 1.0, 20).double()

    def loss(centre):
        points = centre + directions * 0.5
        return total_penetration_loss(
            [points, directions * 0.5],
            [sphere_sdf(centre), sphere_sdf(torch.zeros(3).double())],
            torch.ones(2).double(),
        )

    assert torch.autograd.gradcheck(loss, (torch.tensor([0.5, 0.2, 0.1], dtype=torch.float64, requires_grad=True),))


def test_bodies_without_surface_are_left_out():
    none = torch.zeros(0, 3, requires_grad=True)
    assert penetration_loss(none, sphere_sdf(torch.zeros(3)), 1.0) == 0.0
    points = [none, sphere_points(torch.zeros(3))]
    assert total_penetration_loss(points, [sphere_sdf(torch.zeros(3))] * 2, torch.ones(2)) == 0.0


def test_supports_come_from_on_and_under():
    relations = [on("a", "b"), Relation(subject="c", relation="under", object="b"), on("a", "d")]
    relations.append(Relation(subject="a", relation="next to", object="c"))
    matrix = standing_on(["a", "b", "c", "d"], relations)
    assert matrix.nonzero().tolist() == [[0, 1], [0, 3], [1, 2]]


def test_bodies_rest_on_the_ground_or_on_their_support():
    bounds = box_bounds(torch.tensor([[0.0, 0.0, 2.5], [0.0, 0.0, 0.9], [3.0, 0.0, 0.4]]), torch.ones(3))
    matrix = standing_on(["a", "b", "c"], [on("a", "b")])
    torch.testing.assert_close(support_gaps(bounds, matrix), torch.tensor([0.6, 0.4, -0.1]))
    torch.testing.assert_close(support_loss(bounds, matrix), torch.tensor((0.6 + 0.4 + 0.1 + 0.1) / 3))


def test_the_ground_may_differ_from_body_to_body():
    bounds = box_bounds(torch.tensor([[0.0, 0.0, 2.5], [0.0, 0.0, 0.9], [3.0, 0.0, 0.4]]), torch.ones(3))
    matrix, ground = standing_on(["a", "b", "c"], [on("a", "b")]), torch.tensor([9.0, 0.3, -1.0])
    torch.testing.assert_close(support_gaps(bounds, matrix, ground), torch.tensor([0.6, 0.1, 0.9]))
    torch.testing.assert_close(support_loss(bounds, matrix, [1, 2], ground), torch.tensor((0.1 + 0.9) / 2))


def test_bodies_that_cannot_move_are_no_pair_and_their_size_does_not_count():
    one, other, third = torch.zeros(3), torch.tensor([0.4, 0.0, 0.0]), torch.tensor([-0.4, 0.0, 0.0])
    centres = (one, other, third)
    points, sdfs = [sphere_points(c) for c in centres], [sphere_sdf(c) for c in centres]
    sizes = torch.tensor([1.0, 100.0, 100.0])
    pairs = [total_penetration_loss([points[0], points[n]], [sdfs[0], sdfs[n]], torch.ones(2)) for n in (1, 2)]
    torch.testing.assert_close(total_penetration_loss(points, sdfs, sizes, free=[0]), sum(pairs))


def test_descending_the_support_loss_stacks_floating_bodies():
    centres = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, -1.0], [2.0, 0.0, 1.0]], requires_grad=True)
    sizes = torch.tensor([[1.0, 1.0, 0.5], [1.0, 1.0, 1.0], [1.0, 1.0, 2.0]])
    matrix = standing_on(["a", "b", "c"], [on("a", "b")])
    adam = torch.optim.Adam([centres], lr=0.03)
    for step in range(300):
        adam.param_groups[0]["lr"] = 0.03 * (1 - step / 300)
        adam.zero_grad()
        support_loss(box_bounds(centres, sizes), matrix).backward()
        adam.step()
    torch.testing.assert_close(centres[:, 2].detach(), torch.tensor([1.25, 0.5, 1.0]), atol=0.02, rtol=0)


def test_a_support_is_not_lifted_by_what_hangs_above_it():
    centres = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 0.5]], requires_grad=True)
    support_loss(box_bounds(centres, torch.ones(3)), standing_on(["a", "b"], [on("a", "b")])).backward()
    assert centres.grad[0, 2] > 0.0
    assert centres.grad[1].tolist() == [0.0, 0.0, 0.0]


def test_many_placements_are_weighed_at_once():
    centres = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(1))
    matrix = standing_on(["a", "b"], [on("a", "b")])
    single = [support_loss(box_bounds(c, torch.ones(3)), matrix) for c in centres]
    torch.testing.assert_close(support_loss(box_bounds(centres, torch.ones(3)), matrix), torch.stack(single))


@pytest.mark.parametrize("offset", [(0.25, 0.0, 0.0), (0.5, 0.5, 0.5), (0.0, 0.0, 0.75), (0.0, 0.0, 0.0)])
def test_the_shared_volume_of_boxes_is_exact_within_a_percent(offset):
    volume = math.prod(1.0 - o for o in offset)
    assert penetration_volume(box((0.0, 0.0, 0.0)), box(offset)) == pytest.approx(volume, rel=0.01)


def test_the_shared_volume_of_spheres_is_that_of_the_lens():
    distance, radius = 0.6, 0.5
    lens = math.pi * (4 * radius + distance) * (2 * radius - distance) ** 2 / 12
    assert penetration_volume(ball((0.0, 0.0, 0.0)), ball((0.36, 0.0, 0.48))) == pytest.approx(lens, rel=0.02)


def test_touching_and_distant_bodies_share_no_volume():
    assert penetration_volume(box((0.0, 0.0, 0.0)), box((0.0, 0.0, 1.0))) == 0.0
    assert penetration_volume(ball((0.0, 0.0, 0.0)), ball((0.72, 0.72, 0.1))) == 0.0  # bounds meet, bodies do not


def test_a_hole_is_not_inside():
    ring = as_mesh(trimesh.creation.torus(major_radius=0.5, minor_radius=0.1))
    assert penetration_volume(ring, ball((0.0, 0.0, 0.0), 0.3)) == 0.0
    assert penetration_volume(ring, ball((0.5, 0.0, 0.0), 0.3)) > 0.0


def test_the_report_names_what_holds_and_what_does_not():
    meshes = {"cube": box((0.0, 0.0, 1.5)), "table": box((0.0, 0.0, 0.5)), "ball": ball((0.8, 0.0, 0.5))}
    meshes["ghost"] = meshes["cube"]._replace(faces=torch.zeros(0, 3, dtype=torch.int64))
    relations = [on("cube", "table"), on("ball", "table"), on("ghost", "table")]
    report = check_scene(meshes, relations)
    assert report.relations == list(zip(relations, [True, False, False], strict=True))
    assert set(report.penetration_m3) == {("table", "ball")}
    assert report.gap_m == pytest.approx({"cube": 0.0, "table": 0.0, "ball": -1.0}, abs=1e-3)


def test_relations_are_checked_on_bounds():
    bounds = {
        "a": Bounds(torch.zeros(3), torch.ones(3)),
        "b": Bounds(torch.tensor([2.0, 0, 0]), torch.tensor([3.0, 1, 1])),
    }
    relations = [Relation(subject="a", relation=name, object="b") for name in ("left of", "right of")]
    assert check_relations(bounds, relations) == list(zip(relations, [True, False], strict=True))
