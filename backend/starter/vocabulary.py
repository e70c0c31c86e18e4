"""Every word the starter models know, and the tokenizers made of them."""

from __future__ import annotations

import re

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from ..arrange.relations import RELATIONS
from ..guidance import questions
from .shapes import COLOURS, NOUNS

UNKNOWN, PADDING = "[unknown]", "[padding]"
CHAT_TOKENS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
ROLES = ("user", "assistant")
STUDY = (  # what is asked in training besides the reward's own questions
    "What do these pictures show?",
    "What object is it?",
    "What colour is it?",
    "What colour is the {noun}?",
    "Which object is {colour}?",
    "Where is the {subject} from the {object}?",
    "Is it {what}?",
    "Is the {noun} {colour}?",
)
ANSWERS = ("Yes", "No", "and", "whole", "broken", "thing")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORD = r"[A-Za-z]+|[?.,]"


def words() -> list[str]:
    """All words and marks, lower case, in an order that only grows at the end."""
    asked = [questions.CONTENT, questions.GEOMETRY, questions.CONTENT_AND_GEOMETRY, questions.PRESENCE, *STUDY]
    asked += [rule.question for rule in RELATIONS.values()]
    texts = [*asked, *RELATIONS, *ANSWERS, *COLOURS, *NOUNS, "a an the . , ?", *ROLES]
    found = re.findall(WORD, re.sub(r"{\w+}", "", " ".join(texts)))
    return list(dict.fromkeys(word.lower() for word in found))


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, with Qwen's chat and picture tokens and a chat template of the same shape."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_word_level([PADDING, UNKNOWN, *CHAT_TOKENS]),
        unk_token=UNKNOWN,
        pad_token=PADDING,
        eos_token="<|im_end|>",
        additional_special_tokens=[t for t in CHAT_TOKENS if t != "<|im_end|>"],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def caption_tokenizer(length: int) -> PreTrainedTokenizerFast:
    """One token a word, framed and padded to `length` as a CLIP text encoder wants it."""
    inner = _word_level([PADDING, UNKNOWN, "<|startoftext|>", "<|endoftext|>"])
    inner.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[(t, inner.token_to_id(t)) for t in ("<|startoftext|>", "<|endoftext|>")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token=UNKNOWN,
        pad_token=PADDING,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        model_max_length=length,
    )


def _word_level(special: list[str]) -> Tokenizer:
    vocabulary = {token: i for i, token in enumerate([*special, *words()])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    tokenizer.add_special_tokens(special)
    return tokenizer
