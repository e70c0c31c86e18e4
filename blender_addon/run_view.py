"""A run as the panels show it: progress, picture, rewards, and words the models do not know. Changes nothing."""

import math
import textwrap
from collections.abc import Iterable
from typing import Any

import bpy

from . import jobs
from .answers import duration, unknown_words
from .layouts import TEXT_SCALE, draw_text

PICTURE_SCALE = 9.0  # of the live preview, in rows
PROMPT_LETTERS = 80  # of a run of somebody else's
VALUE_LETTERS = 6  # of the width, for the percentage beside a question
PHASES = {"loading": "Loading models", "optimising": "Optimising", "exporting": "Writing the result"}
STATES = {"sending": "Sending", "queued": "Waiting in the queue", "cancelling": "Stopping"}
CANDIDATES = {"best": "The best candidate", "mean": "All candidates"}  # what is scored of a picture


def draw_run(layout: bpy.types.UILayout, context: bpy.types.Context, status: Any) -> None:
    """Progress, the way to stop, and what there is to see."""
    column = layout.column(align=True)
    column.progress(factor=status.factor, text=_state(status))
    row = column.row()
    row.label(text=f"{duration(status.seconds_left)} left" if status.seconds_left > 0.0 else "", icon="TIME")
    row.operator("diorama.cancel", icon="CANCEL")
    icon = jobs.session().pictures.icon(status.job)
    if icon:
        layout.template_icon(icon, scale=PICTURE_SCALE)
    draw_rewards(layout, context, status)
    if jobs.session().watching():
        draw_text(layout, context, "This run was sent from elsewhere.", "INFO")
        layout.operator("diorama.look_away", icon="HIDE_ON")


def draw_other(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """That the backend works for somebody else, and the button to see how; nothing where it does not."""
    other = jobs.session().other_run()
    if other is None:
        return
    box = layout.box()
    prompt = textwrap.shorten(other.prompt, PROMPT_LETTERS, placeholder=" ...")
    draw_text(box, context, f"The backend is busy with a run that was sent from elsewhere: {prompt}", "TIME")
    box.operator("diorama.watch", icon="HIDE_OFF").job = other.id


def _state(status: Any) -> str:
    """How far the run is, and whether it is a picture's: all panels show it, whichever it was begun in."""
    said = STATES.get(status.state) or PHASES.get(status.phase, "Running")
    if status.kind in ("image", "edit"):
        said = f"Picture, {said[0].lower()}{said[1:]}"
    if status.state == "queued" and status.position:
        said = f"{said} ({status.position})"
    if status.state == "running" and status.steps:
        said = f"{said}: {status.step} of {status.steps}"
    return said


def draw_rewards(layout: bpy.types.UILayout, context: bpy.types.Context, status: Any) -> None:
    """How sure the vision-language model is of each question, as it was told last."""
    if not status.rewards:
        return
    layout.label(text="The vision model says yes to:")
    column = layout.column()
    for asked, sure in answers(status.rewards).items():
        row = column.row()
        draw_text(row.column(), context, asked, "CHECKMARK" if sure > 0.5 else "DOT", VALUE_LETTERS)
        value = row.column()
        value.alignment, value.scale_y = "RIGHT", TEXT_SCALE
        value.label(text=f"{sure:.0%}")


def answers(rewards: Iterable[Any]) -> dict[str, float]:
    """Slots and relations -> probability of a Yes, of several questions the least sure one's."""
    least: dict[str, float] = {}
    for reward in rewards:
        what, colon, _ = reward.name.rpartition(": ")  # a slot's name may hold one, a question does not
        asked = what if colon else CANDIDATES.get(reward.name, reward.name)
        least[asked] = min(least.get(asked, 1.0), _probability(reward.log_odds))
    return least


def _probability(log_odds: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * log_odds))  # the logistic function; tanh does not overflow


def draw_unknown_words(layout: bpy.types.UILayout, context: bpy.types.Context, preset: str, prompt: str) -> None:
    """The words of the prompt that the preset's models have never seen; nothing where there are none."""
    unknown = unknown_words(prompt, jobs.session().vocabulary.get(preset))
    if unknown:
        words = ", ".join(f"'{word}'" for word in unknown[:6])
        draw_text(layout, context, f"This preset's models do not know {words}", "QUESTION")
