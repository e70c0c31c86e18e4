"""What both frozen networks ask of a tokenizer."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from ..errors import ModelError


def tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of the text, nothing added."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]


def single_token(tokenizer: PreTrainedTokenizerBase, word: str) -> int:
    """The id of a word that must be one token. Raises ModelError when it is not."""
    ids = tokens(tokenizer, word)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise ModelError(f"{word!r} is not one token", where="tokenizer", remedy="Use a Qwen-VL model")
    return ids[0]


def known_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The words a word-level tokenizer has, sorted."""
    return sorted(word for word in tokenizer.get_vocab() if word.isalpha())


def unknown_words(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The words of `text` the tokenizer has no token for, each once, in order."""
    unknown = tokenizer.unk_token_id
    words = [word.strip(".,;:!?'\"()") for word in text.split()]
    return [w for w in dict.fromkeys(words) if w and unknown in tokens(tokenizer, w)]


def words_cut(tokenizer: PreTrainedTokenizerBase, text: str, length: int = 0) -> str:
    """The end of `text` that a sequence of `length` tokens has no room for; "" when all of it fits.

    length: the tokenizer's own longest sequence when 0.
    """
    length = length or tokenizer.model_max_length
    pieces = tokenizer(
        [text],
        add_special_tokens=False,
        truncation=True,
        max_length=length - tokenizer.num_special_tokens_to_add(),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )["offset_mapping"]
    if len(pieces) == 1:
        return ""
    start = text.rfind(" ", 0, pieces[1][0][0] + 1) + 1  # the beginning of a word that is cut in two
    return text[start:].strip()
