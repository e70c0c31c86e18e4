"""A sentence cut at its relation words, commas, "and" and "with"; what lies between are noun phrases."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..schema import RelationName
from .noun_phrase import ends_in_adjective, singular, starts_noun_phrase
from .relations import RELATIONS

_WITHOUT_OBJECT: dict[str, RelationName] = {  # phrases whose object is left to the reader; `with` and lists use them
    "on top": "on top of",
    "to the left": "left of",
    "on the left": "left of",
    "on the left side": "left of",
    "to the right": "right of",
    "on the right": "right of",
    "on the right side": "right of",
    "in front": "in front of",
    "in the front": "in front of",
    "in the back": "behind",
    "at the back": "behind",
    "nearby": "next to",
    "side by side": "next to",
}
PRONOUNS = ("it", "them")
_NO_RELATION = r"on(?:\s*$|\s*,|\s+(?:and|with|fire|wheels|display)\b)"  # "a lamp turned on and a cube"
_LEAD_IN = re.compile(
    r"^((there|here) (is|are)|(please )?(place|put|show|make|create|generate|render|draw|model)( me)?|"
    r"an? ((3d )?(picture|photo|image|render|rendering|drawing|scene|model)) (of|with|showing))\s+",
    re.I,
)
_VERBS = re.compile(
    r"\s+(and |that |which )?(is|are|sits?|stands?|lies|rests?|sitting|standing|lying|resting|placed|located|"
    r"positioned|stacked|balanced|directly|right|just|immediately|both|all)$",
    re.I,
)


class Item(NamedTuple):
    kind: str  # "noun", "relation", "bare" (relation without object), "with", "," or "and"
    text: str  # the noun phrase, or the relation's name


def _phrases() -> dict[str, Item]:
    """Every phrase that cuts a sentence, longest first."""
    found = {phrase: Item("bare", name) for phrase, name in _WITHOUT_OBJECT.items()}
    found |= {phrase: Item("relation", rule.name) for rule in RELATIONS.values() for phrase in rule.phrases}
    found |= {"and": Item("and", "and"), "while": Item("and", "and"), "with": Item("with", "with")}
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def cut_sentence(sentence: str) -> list[Item]:
    """The sentence cut at relation phrases, commas, "and" and "with"; what lies between are noun phrases."""
    phrases = _phrases()
    if sentence[1:2].islower():
        sentence = sentence[0].lower() + sentence[1:]
    sentence = re.sub(r",?\s+there (is|are|stands?|sits?)\s+", " , ", _LEAD_IN.sub("", sentence))
    words = "|".join(map(re.escape, phrases))
    if re.match(rf"(?:{words})\b", sentence, flags=re.I):  # "on the table is a mug"
        sentence = re.sub(r"\s+(is|are|stands?|sits?|lies)\s+", " , ", sentence, count=1)
    cuts = re.split(rf"(,|\b(?!{_NO_RELATION})(?:{words})\b)", sentence, flags=re.I)
    items: list[Item] = []
    for piece in cuts:
        text = " ".join(piece.split())
        if text == ",":
            items.append(Item(",", ","))
        elif text.lower() in phrases:
            items.append(phrases[text.lower()])
        elif any(letter.isalnum() for letter in text):
            items.append(Item("noun", text))
    return _glued([_trimmed(item, items[n + 1 : n + 2]) for n, item in enumerate(items)])


def _trimmed(item: Item, following: list[Item]) -> Item:
    """The noun without the verb that leads to a relation: "the cat is sitting" -> "the cat"."""
    if item.kind == "noun" and following and following[0].kind in ("relation", "bare"):
        text = item.text
        while _VERBS.search(text):
            text = _VERBS.sub("", text)
        return item._replace(text=text)
    return item


def _glued(items: list[Item]) -> list[Item]:
    """The items with descriptions put together again that a comma, "and" or "with" had cut."""
    glued: list[Item] = []
    for n, item in enumerate(items):
        joint, left = glued[-1:], glued[-2:-1]
        if item.kind == "noun" and joint and left and left[0].kind == "noun" and _belongs(left[0], joint[0], items[n:]):
            space = "" if joint[0].text == "," else " "
            glued[-2:] = [Item("noun", f"{left[0].text}{space}{joint[0].text} {item.text}")]
        else:
            glued.append(item)
    return glued


def _belongs(left: Item, joint: Item, rest: list[Item]) -> bool:
    """Whether the noun rest[0] goes on with the description in left."""
    if joint.kind == "with":
        return not names_a_guest(rest)
    if ends_in_adjective(left.text) and not starts_noun_phrase(rest[0].text):
        return True
    if joint.kind == "and":
        return " with " in left.text and [item.kind for item in rest[1:2]] not in (["relation"], ["bare"])
    if joint.kind != "," or not starts_noun_phrase(left.text) or starts_noun_phrase(rest[0].text):
        return False
    return [item.kind for item in rest[1:2]] != ["relation"] or singular(rest[0].text) == rest[0].text


def names_a_guest(rest: list[Item]) -> bool:
    """Whether "with" + rest names a thing at the noun before: "(with) a mug on top", "(with) a lamp behind it"."""
    kinds = [item.kind for item in rest[:3]]
    if kinds[1:2] != ["relation"]:
        return kinds[1:2] == ["bare"]
    return kinds[2:] != ["noun"] or rest[2].text.lower() in PRONOUNS
