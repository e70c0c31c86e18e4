"""Diorama's backend: text and boxes in, textured and arranged meshes out. Never imports bpy."""

__version__ = "0.1.0"
