"""English noun phrases, as far as prompts need them: determiner, count, head noun, plural."""

from __future__ import annotations

import re
from typing import NamedTuple

_COUNTS = dict(one=1, two=2, both=2, three=3, four=4, five=5, six=6, seven=7, eight=8, nine=9, ten=10, twelve=12)
_DETERMINERS = ("a", "an", "the", "another", "one", "this", "that", "these", "those", "some", "my", "your", "its")
_KNOWN = ("the", "this", "that", "these", "those", "both")  # they speak of something mentioned before
_IRREGULAR = dict(
    men="man", women="woman", people="person", children="child", mice="mouse", geese="goose", teeth="tooth"
)
_IRREGULAR |= dict(
    feet="foot", knives="knife", leaves="leaf", loaves="loaf", shelves="shelf", wolves="wolf", dice="die"
)
_IRREGULAR |= dict(glasses="glass", dresses="dress", buses="bus", vases="vase", houses="house", horses="horse")
_TAIL = re.compile(
    r"\b(of|with|in|made|from|that|which|wearing|holding|for|without)\b|,"
)  # the head noun ends before it
_ADJECTIVES = frozenset(
    "red green blue yellow orange purple violet pink brown black white grey gray gold golden silver cyan magenta teal "
    "big small large little tiny huge tall short long wide thin thick round square flat old new shiny matte dark light "
    "bright heavy soft hard rough smooth wooden metal plastic stone glass".split()
)


class NounPhrase(NamedTuple):
    """A noun phrase taken apart."""

    determiner: str  # "a", "the", ..., lower case; empty where there is none
    number: int  # how many are meant; 1 where nothing is said
    text: str  # the rest, singular where number is above 1


def read_noun_phrase(text: str) -> NounPhrase:
    """The phrase taken apart: "the two red cubes" -> the, 2, red cube."""
    words = text.split()
    determiner, count = "", 1
    if words and words[0].lower() in _DETERMINERS and len(words) > 1:
        determiner = words.pop(0).lower()
    if len(words) > 1 and determiner in ("", *_KNOWN):
        number = words[0].lower()
        if number in _COUNTS or number.isdecimal():
            count = _COUNTS.get(number) or int(number[:9])
            determiner = determiner or ("the" if number == "both" else "")
            words = words[1:]
    rest = " ".join(words)
    return NounPhrase(determiner, count, singular(rest) if count > 1 else rest)


def is_known(phrase: NounPhrase) -> bool:
    """Whether the phrase speaks of something mentioned before, as "the cube" does."""
    return phrase.determiner in _KNOWN


def starts_noun_phrase(text: str) -> bool:
    """Whether the text begins with an article, another determiner or a count."""
    first = text.split()[:1]
    return bool(first) and (first[0].lower() in (*_DETERMINERS, *_COUNTS) or first[0].isdecimal())


def ends_in_adjective(text: str) -> bool:
    """Whether the last word is one of the common adjectives, so that the noun is still to come."""
    return text.split()[-1:] != [] and text.split()[-1].lower() in _ADJECTIVES


def head_of(text: str) -> str:
    """The words up to and with the head noun: "glasses of water" -> "glasses"."""
    tail = _TAIL.search(text)
    return (text[: tail.start()] if tail else text).strip() or text


def short_name(text: str) -> str:
    """The phrase up to the comma after its noun: "big, red cube, photorealistic" -> "big, red cube"."""
    parts = text.split(",")
    while len(parts) > 1 and not ends_in_adjective(",".join(parts[:-1])):
        parts.pop()
    return ",".join(parts)


def singular(text: str) -> str:
    """The phrase with its head noun in the singular: "glasses of water" -> "glass of water"."""
    head = head_of(text)
    before, _, noun = head.rpartition(" ")
    return f"{before} {_singular_word(noun)}".strip() + text[len(head) :]


def with_article(phrase: NounPhrase) -> str:
    """The phrase as a prompt for one object: "a red cube". Plurals without a count stay as they are."""
    if phrase.determiner in ("a", "an", "my", "your", "its", "some"):
        return f"{phrase.determiner} {phrase.text}"
    noun = head_of(phrase.text).split()[-1]
    if phrase.number == 1 and phrase.determiner != "another" and _singular_word(noun) != noun:
        return phrase.text
    return f"{'an' if phrase.text[0].lower() in 'aeiou' else 'a'} {phrase.text}"


def _singular_word(noun: str) -> str:
    lower = noun.lower()
    if lower in _IRREGULAR:
        return _IRREGULAR[lower]
    if re.search(r"[^aeiou]ies$", lower):
        return noun[:-3] + "y"
    if re.search(r"(x|ch|sh|ss|to)es$", lower):
        return noun[:-2]
    if re.search(r"[^su]s$", lower) and not lower.endswith("is"):
        return noun[:-1]
    return noun
