"""A prompt in plain English -> slots and the relations between them, by its relation words alone.

Understood: the phrases of the relation table; lists with commas and "and"; counts ("two red cubes"); "the cube" and
"it" for something mentioned before; "each other"; "a table with a mug on top"; "a cube on the left" without an object;
several sentences. Where English is ambiguous:
  - a relation right after a noun belongs to that noun: in "a mug on a table next to a lamp" the table is next to it;
  - after a comma or "and" it belongs to the clause's subject, or, beside something, to what the subject stands on: a
    stack is placed as a whole;
  - "and" after a side relation adds objects ("left of a sphere and a cone"), after on or under a body of its own;
  - "and" after "with" goes on describing ("a house with a red roof and a blue door"), a comma ends the description, and
    so does a relation that follows.
Not understood, and kept as part of an object's description: between, around, inside, "in", facing, against.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

from ..errors import RequestError
from ..schema import MAX_SLOTS, Relation, RelationName, Slot
from .consistency import check_consistent
from .noun_phrase import (
    NounPhrase,
    head_of,
    is_known,
    read_noun_phrase,
    short_name,
    singular,
    with_article,
)
from .relations import RELATIONS
from .sentence import PRONOUNS, Item, cut_sentence, names_a_guest

_STACKING = ("on top of", "under")
_NOT_UNDERSTOOD = re.compile(r"\b(between|around|inside|surrounding|surrounded|facing|against|opposite)\b", re.I)


class Parsed(NamedTuple):
    """What a prompt says."""

    slots: tuple[Slot, ...]  # default boxes; layout.lay_out places them
    relations: tuple[Relation, ...]
    not_understood: tuple[str, ...] = ()  # words that look like relations but are not in the vocabulary


def parse(prompt: str) -> Parsed:
    """The slots and relations the prompt speaks of.

    Raises RequestError when it is empty, names no object or more than 16, or contradicts itself.
    """
    if not prompt.strip():
        raise RequestError(
            "the prompt is empty", where="prompt", remedy='Describe a scene: "a red cube on a blue sphere"'
        )
    reader = _Reader()
    for sentence in re.split(r"[.;!?]+(?:\s+|$)|\n+", prompt):
        if sentence.strip():
            reader.read_sentence(cut_sentence(sentence.strip()))
    if not reader.slots:
        raise RequestError(f"no object found in {prompt[:80]!r}", where="prompt", remedy='Name one, as in "a red cube"')
    relations = tuple(dict.fromkeys(reader.relations()))
    check_consistent(relations)
    return Parsed(tuple(reader.slots), relations, tuple(dict.fromkeys(_NOT_UNDERSTOOD.findall(prompt.lower()))))


class _Reader:
    """Reads sentences one after another; slots are numbered in the order of their first mention."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.texts: list[str] = []  # each slot's noun phrase, without the number that makes its name unique
        self.pairs: list[tuple[int, RelationName, int]] = []
        self.waiting: list[tuple[list[int], RelationName]] = []  # relations that never named an object
        self.topic: list[int] = []  # what "it" means: the last sentence's subject

    def relations(self) -> list[Relation]:
        """The relations read so far; one without an object relates to the nearest other slot, an earlier one first."""
        pairs = list(self.pairs)
        for subjects, name in self.waiting:
            others = sorted(
                set(range(len(self.slots))) - set(subjects), key=lambda n: (n > subjects[0], abs(n - subjects[0]))
            )
            pairs += [(subject, name, others[0]) for subject in subjects if others]
        names = [slot.name for slot in self.slots]
        return [Relation(subject=names[a], relation=relation, object=names[b]) for a, relation, b in pairs]

    def read_sentence(self, items: list[Item]) -> None:
        """Add the slots and relations of one sentence."""
        self.subject: list[int] = []  # of the clause
        self.last: list[int] = []  # the slots named last
        self.pending: tuple[list[int], RelationName] | None = None  # waits for its object; no subjects: "on it, a mug"
        self.listed: tuple[list[int], RelationName] | None = None  # the relation whose objects are being listed
        self.placed = False  # the subject's place is said, without an object: "a cube on the left"
        self.host: list[int] = []  # of the things that "with" names
        for n, item in enumerate(items):
            before = items[n - 1].kind if n else ","
            after = items[n + 1].kind if n + 1 < len(items) else ""
            if item.kind == "noun":
                if before == "with" and names_a_guest(items[n:]):
                    self.host = self.last if items[n - 2].kind == "noun" and n > 1 else self.subject
                self._read_noun(item.text, before, after)
            elif item.kind in ("relation", "bare"):
                name = _relation_name(item.text)
                self._read_relation(name, before, has_object=item.kind == "relation" and after == "noun")
        self.topic = self.subject or self.last or self.topic

    def _read_noun(self, text: str, before: str, after: str) -> None:
        if self.pending:
            subjects, name = self.pending
            if text.lower() in ("each other", "one another") and len(subjects) > 1:
                self._chain(subjects, name)
                self.pending = None
                return
            self.last = self._mention(text, exclude=subjects[-1:])
            if set(self.last) & set(subjects):  # "a tree, a car, a dog next to the tree": the dog alone is
                self.subject = subjects = subjects[-1:]
            self.pending, self.listed = None, (subjects, name)
            if subjects:
                self._relate(subjects, name, self.last)
            return
        named = self._mention(text, exclude=[])
        if self.host:
            pass
        elif self.listed and not self.listed[0]:
            self._relate(named, self.listed[1], self.last)
            self.subject, self.listed = named, None
        elif self.listed and self.listed[1] not in _STACKING and before != "noun" and after not in ("relation", "bare"):
            self._relate(self.listed[0], self.listed[1], named)
        elif self.listed or self.placed or not self.subject:
            self.subject, self.listed, self.placed = named, None, False
        else:
            self.subject = self.subject + named
        self.last = named

    def _read_relation(self, name: RelationName, before: str, has_object: bool) -> None:
        if self.host:
            self._relate(self.last, name, self.host)
            self.last, self.host = self.host, []
            self.pending = ([], name) if has_object else None
            return
        subjects = self.subject
        if before == "noun" and self.listed:
            subjects = self.last
        elif before in (",", "and") and name not in _STACKING:
            subjects = list(dict.fromkeys(self._base(slot) for slot in subjects))
        self.placed = not has_object
        if has_object:
            self.pending = (subjects, name)
        elif len(subjects) > 1 and name == "next to":
            self._chain(subjects, name)
        elif subjects:
            self.waiting.append((subjects, name))

    def _relate(self, subjects: list[int], name: RelationName, objects: list[int]) -> None:
        """Every subject to every object; one to one where a body cannot stand so to all of them."""
        one_to_one = name in _STACKING or (name == "next to" and len(subjects) > 1)
        for n, subject in enumerate(subjects):
            for object in objects[n % len(objects) :][:1] if one_to_one and objects else objects:
                self.pairs.append((subject, name, object))

    def _chain(self, slots: list[int], name: RelationName) -> None:
        self.pairs += [(slot, name, before) for before, slot in itertools.pairwise(slots)]

    def _base(self, slot: int) -> int:
        """What the slot stands on, all the way down."""
        for _ in self.slots:
            below = [o for s, name, o in self.pairs if s == slot and name == "on top of"]
            below += [s for s, name, o in self.pairs if o == slot and name == "under"]
            slot = below[0] if below else slot
        return slot

    def _mention(self, text: str, exclude: list[int]) -> list[int]:
        """Slots the noun phrase speaks of, made where they are new."""
        others = [n for n in range(len(self.slots)) if n not in exclude]
        if text.lower() in PRONOUNS:
            return [n for n in self.topic if n in others] or others[-1:]
        phrase = read_noun_phrase(text)
        if is_known(phrase):
            one = singular(phrase.text)
            found = [n for n in others if self.texts[n].lower() in (phrase.text.lower(), one.lower())]
            found = found or [n for n in others if _is_short_for(one, self.texts[n])]
            if found:
                return found[-phrase.number :] if phrase.number > 1 or one == phrase.text else found
        if len(self.slots) + phrase.number > MAX_SLOTS:
            remedy = f"At most {MAX_SLOTS} fit one scene"
            raise RequestError(f"more than {MAX_SLOTS} objects, at {text[:80]!r}", where="prompt", remedy=remedy)
        for number in range(1, phrase.number + 1):
            self._add(phrase, number)
        return list(range(len(self.slots) - phrase.number, len(self.slots)))

    def _add(self, phrase: NounPhrase, number: int) -> None:
        stem = short_name(phrase.text)[:56].strip()
        taken = [slot.name for slot in self.slots]
        name = f"{stem} {number}" if phrase.number > 1 else stem
        while name in taken:
            number += 1
            name = f"{stem} {number}"
        prompt = with_article(phrase)
        if len(prompt) > 1000:
            raise RequestError(
                f"description too long: {stem!r}...", where="prompt", remedy="Use fewer than 1000 characters"
            )
        self.slots.append(Slot(name=name, prompt=prompt))
        self.texts.append(phrase.text)


def _relation_name(name: str) -> RelationName:
    return RELATIONS[name].name


def _is_short_for(short: str, text: str) -> bool:
    """Whether "cube" or "red cube" can mean "big red cube"."""
    words, head = head_of(text).lower().split(), short.lower().split()
    return words[-1:] == head[-1:] and set(head) <= set(words)
