"""The questions the vision-language model is asked, as one table. Each is answered Yes when all is well."""

from __future__ import annotations

from typing import NamedTuple

from ..arrange.noun_phrase import ends_in_adjective, head_of, read_noun_phrase, short_name
from ..arrange.relations import RELATIONS

CONTENT = "Do these pictures show {prompt}?"
GEOMETRY = "Is the object whole and well formed?"
CONTENT_AND_GEOMETRY = "Do these pictures show {prompt}, whole and well formed?"  # VLM3D's dual criterion
PRESENCE = "Is there {prompt}?"
_ONLY = " Answer with Yes or No only."


class Question(NamedTuple):
    """One question, for the model and for people."""

    text: str  # as the model is asked, in its wording
    name: str  # as it is reported, in the short wording


class Wording(NamedTuple):
    """How the questions are put: {prompt} is an object's prompt, {noun} and {attribute} are words of it."""

    content: str
    geometry: str
    both: tuple[str, ...]  # VLM3D's conjunctive question (arXiv 2509.15772, section 3.2), in several phrasings
    attribute: str | None  # None: not asked
    ending: str  # after the question on a relation


SHORT = Wording(  # the starter model was trained on these and knows few other words
    CONTENT, GEOMETRY, (CONTENT_AND_GEOMETRY,), None, ""
)
FULL = Wording(
    "These pictures show one 3D object from several sides. Is it clearly {prompt}, with every detail that this names?"
    + _ONLY,
    "These pictures show one 3D object from several sides. Is its shape sound: one object from every side, no face "
    "or part that comes twice (the Janus problem), no holes, no broken, melted or floating surfaces?" + _ONLY,
    (
        "These pictures show one 3D object from several sides. Do both hold? 1. It is clearly {prompt}, with every "
        "detail that this names. 2. Its shape is sound: one consistent object with no face or part that comes twice "
        "(the Janus problem), no holes, and no broken, melted or floating surfaces." + _ONLY,
        "Judge this 3D model by its views. Say Yes if it matches the description '{prompt}' in full and its geometry "
        "is also good, consistent between the views, without repeated faces, gaps or torn surfaces. Say No if either "
        "fails." + _ONLY,
        "Would a careful 3D artist accept these renders as a finished model of {prompt}: the right content, and a "
        "clean, whole shape without extra or mirrored parts, cracks or loose pieces?" + _ONLY,
    ),
    "Look at the {noun} in these pictures. Is it {attribute}?" + _ONLY,
    _ONLY,
)


def about_object(prompt: str, wording: Wording = SHORT, phrasing: int = 0) -> list[Question]:
    """What is asked of several views of one object: content, geometry, both at once, and each attribute.

    phrasing: which of the wording's conjunctive questions to take, counted round and round.
    """
    pairs = (
        (wording.content, SHORT.content),
        (wording.geometry, SHORT.geometry),
        (wording.both[phrasing % len(wording.both)], SHORT.both[0]),
    )
    asked = [Question(text.format(prompt=prompt), name.format(prompt=prompt)) for text, name in pairs]
    return asked + about_attributes(prompt, wording)


def about_attributes(prompt: str, wording: Wording) -> list[Question]:
    """One question for each adjective before the noun: "a big red cube" gives two, "a coffee mug" none."""
    if wording.attribute is None:
        return []
    words = head_of(short_name(read_noun_phrase(prompt).text).replace(",", " ")).split()
    attributes = [word for word in words[:-1] if ends_in_adjective(word)]
    return [
        Question(wording.attribute.format(noun=words[-1], attribute=word), f"Is the {words[-1]} {word}?")
        for word in dict.fromkeys(attributes)
    ]


def about_relation(subject: str, relation: str, object: str, wording: Wording = SHORT) -> Question:
    """Whether the relation holds between two objects named by their prompts ("a red cube")."""
    name = RELATIONS[relation].ask(subject, object)  # type: ignore[index]
    return Question(name + wording.ending, name)
