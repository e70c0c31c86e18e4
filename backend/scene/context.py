"""A mesh of the user's scene that is only there: seen and collided with, never changed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from .appearance import START_METALLIC, START_ROUGHNESS, Material
from .isosurface import Surface
from .mesh import Mesh, face_normals
from .mesh_query import FAR, MeshQuery
from .regularize import face_pairs
from .user_mesh import UserMesh

OPEN = 0.6  # winding number from which a mesh with holes has an inside: 0.5 is met all along a large floor
CREASE_DEG = 45.0  # faces that meet at a larger angle are shaded as a hard edge


class Context(nn.Module):
    """One context slot. It has no parameters; a checkpoint carries the mesh.

    Its surface is in world coordinates. What a mesh's `local` is for other slots, the place where a point's colour is
    looked up, is the colour itself here, less a half.
    """

    vertices: Tensor  # (V, 3) float32, metres, world; doubled at hard edges and where colours meet
    faces: Tensor  # (F, 3) int64
    colours: Tensor  # (V, 3) sRGB in [0, 1]
    shell: Tensor  # () metres, half the thickness that a mesh with holes is given; 0 for a closed one

    def __init__(self, mesh: UserMesh | None, shell: float, device: torch.device) -> None:
        """Without a mesh it waits for a checkpoint. shell: metres, for a mesh that is not closed."""
        super().__init__()
        vertices, faces, colours = torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 3)
        if mesh is not None:
            vertices, faces, colours = split_for_shading(mesh)
        self.register_buffer("vertices", vertices.to(device))
        self.register_buffer("faces", faces.to(device))
        self.register_buffer("colours", colours.to(device))
        self.register_buffer("shell", torch.tensor(0.0 if mesh is None or mesh.closed else shell, device=device))
        self._query: MeshQuery | None = None

    def surface(self, training: bool) -> Surface:
        """The mesh, in world coordinates; the same for training and export."""
        return Surface(self.vertices, self.faces, self.vertices.new_zeros(()), None)

    def mesh(self, index: int, surface: Surface) -> Mesh:
        """The mesh where it stands: metres, world."""
        face_slot = torch.full((len(surface.faces),), index, dtype=torch.int64, device=surface.faces.device)
        return Mesh(surface.vertices, surface.faces, face_slot, self.colours - 0.5)

    def colour(self, local: Tensor) -> Tensor:
        """Albedo: (N, 3), sRGB in [0, 1]. local: (N, 3), as in `mesh`."""
        return (local + 0.5).clamp(0.0, 1.0)

    def material(self, local: Tensor) -> Material:
        """Albedo, and the roughness and metallic that generated objects start with. local: (N, 3), as in `mesh`."""
        one = torch.ones_like(local[:, 0])
        return Material(self.colour(local), START_ROUGHNESS * one, START_METALLIC * one)

    def signed_distance(self, world: Tensor) -> Tensor:
        """Signed distance to the mesh: (P,) metres, negative inside. world: (P, 3) metres. Exact, not from a grid.

        Differentiable in the points. A mesh with holes is as thick as its shell.
        """
        query, middle, scale = self._asked()
        with torch.no_grad():
            found = query.nearest((world - middle) / scale, OPEN if self.shell > 0 else 0.5)
        distance = torch.linalg.vector_norm(world - (found.point * scale + middle), dim=-1)
        return torch.where(found.inside, -distance, distance) - self.shell

    def height_below(self, world: Tensor) -> Tensor:
        """Height of the mesh straight below each point: (P,) metres, -inf where there is none. world: (P, 3) metres."""
        query, middle, scale = self._asked()
        down = torch.tensor([0.0, 0.0, -1.0], device=world.device).expand_as(world)
        way = query.ray_length((world - middle) / scale, down)
        return torch.where(way < FAR, world[:, 2].detach() - way * scale, -torch.inf)

    def surface_points(self, count: int, generator: torch.Generator) -> Tensor:
        """Points drawn evenly from the surface: (count, 3) metres, world."""
        draw = torch.rand(3, count, generator=generator, device=generator.device).to(self.vertices.device)
        a, b, c = self.vertices[self.faces].unbind(1)
        area = torch.linalg.vector_norm(torch.linalg.cross(b - a, c - a), dim=-1).cumsum(0)
        face = torch.searchsorted(area, draw[0] * area[-1]).clamp_max(len(area) - 1)
        root, along = draw[1].sqrt()[:, None], draw[2][:, None]
        return (1 - root) * a[face] + root * ((1 - along) * b[face] + along * c[face])

    def _asked(self) -> tuple[MeshQuery, Tensor, Tensor]:
        """The mesh to be asked in its own frame, and that frame's origin (3,) and length () in metres."""
        low, high = self.vertices.amin(0), self.vertices.amax(0)
        middle, scale = (low + high) / 2, (high - low).amax()
        if self._query is None:
            self._query = MeshQuery((self.vertices - middle) / scale, self.faces)
        return self._query, middle, scale

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take on the size of the checkpoint's mesh before torch copies it in."""
        for name in ("vertices", "faces", "colours"):
            stored = state_dict.get(prefix + name)
            if stored is not None:
                setattr(self, name, getattr(self, name).new_zeros(stored.shape))
        self._query = None
        super()._load_from_state_dict(state_dict, prefix, *rest)


def split_for_shading(mesh: UserMesh) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices (V, 3), faces (F, 3) and the vertices' colours (V, 3) sRGB.

    A vertex of the mesh becomes one for each colour that its faces have, and for each smooth area it lies in: the
    renderer's normals belong to vertices, so a vertex of a box has to be three.
    """
    _, shade = torch.unique(mesh.colour, dim=0, return_inverse=True)
    area = _smooth_areas(mesh)
    key = shade * (area.max() + 1) + area
    corners = mesh.faces * (key.max() + 1) + key[:, None]
    kept, faces = torch.unique(corners, return_inverse=True)
    colours = torch.zeros(len(kept), 3)
    colours[faces.reshape(-1)] = mesh.colour.repeat_interleave(3, dim=0)
    return mesh.vertices[kept // (key.max() + 1)], faces, colours


def _smooth_areas(mesh: UserMesh) -> Tensor:
    """For each face the number of its area: (F,). Neighbours that meet at less than CREASE_DEG share one."""
    one, other = face_pairs(mesh.faces, len(mesh.vertices))
    normals = torch.nn.functional.normalize(face_normals(mesh.vertices, mesh.faces).double(), dim=-1, eps=1e-30)
    smooth = (normals[one] * normals[other]).sum(-1) > math.cos(math.radians(CREASE_DEG))
    ends = one[smooth].numpy(), other[smooth].numpy()
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(len(mesh.faces), len(mesh.faces)))
    return torch.from_numpy(connected_components(graph, directed=False)[1]).long()
