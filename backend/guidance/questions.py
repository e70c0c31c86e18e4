"""The questions the vision-language model is asked. Each is answered Yes when all is well."""

from __future__ import annotations

from ..arrange.relations import RELATIONS

CONTENT = "Do these pictures show {prompt}?"
GEOMETRY = "Is the object whole and well formed?"
CONTENT_AND_GEOMETRY = "Do these pictures show {prompt}, whole and well formed?"  # VLM3D's dual criterion
PRESENCE = "Is there {prompt}?"


def about_object(prompt: str) -> list[str]:
    """What is asked of several views of one object (VLM3D, arXiv 2509.15772: content match and geometric quality)."""
    return [question.format(prompt=prompt) for question in (CONTENT, GEOMETRY, CONTENT_AND_GEOMETRY)]


def about_relation(subject: str, relation: str, object: str) -> str:
    """Whether the relation holds between two objects named by their prompts ("a red cube")."""
    return RELATIONS[relation].ask(subject, object)  # type: ignore[index]
