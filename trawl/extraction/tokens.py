"""The tokenizer of a language model: counts and places of tokens, and a prompt as the ids that are sent.

Outside text stands in prompts, so what looks like a special token in it ("<|im_end|>", "</s>") is read as plain
letters: only the frame that the model's own chat template gives is parsed for special tokens. Ids are made here and
handed to the engine, so that nothing is added a second time.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from trawl import weights
from trawl.errors import ConfigError, EngineDied
from trawl.extraction.budget import Spans

_PLACE = "TRAWLPROMPT"  # stands for the prompt while the template is split


class ModelTokens:
    """A fast tokenizer and the frame that goes around each prompt: special tokens, chat template."""

    def __init__(self, tokenizer: Any, key: str, chat_template: bool) -> None:
        """Raises ConfigError for a tokenizer that does not say where its tokens stand."""
        if not tokenizer.is_fast:
            raise ConfigError(f"{key}: its tokenizer cannot say where a token stands; it needs a tokenizer.json")
        self._tokenizer = tokenizer
        templated = chat_template and bool(tokenizer.chat_template)
        self.before, self.after = self._template(key) if templated else (self._special(), [])

    def count(self, text: str) -> int:
        return len(self._read(text)["input_ids"])

    def spans(self, text: str) -> Spans:
        spans: Spans = self._read(text, return_offsets_mapping=True)["offset_mapping"]
        return spans

    def whole(self, prompt: str) -> int:
        return len(self.before) + self.count(prompt) + len(self.after)

    def ids(self, prompt: str) -> list[int]:
        """The prompt as it is sent: frame, prompt, frame."""
        return [*self.before, *self._read(prompt)["input_ids"], *self.after]

    def _read(self, text: str, **more: Any) -> Any:
        return self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False, **more)

    def _parse(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _special(self) -> list[int]:
        """What the tokenizer itself puts before a text; what it puts behind one would end the answer."""
        ids: list[int] = self._tokenizer("a")["input_ids"]
        return ids[: _place(ids, self._parse("a"))]

    def _template(self, key: str) -> tuple[list[int], list[int]]:
        """The template's ids before and behind the prompt. Models that can think aloud are asked not to."""
        turns = [{"role": "user", "content": _PLACE}]
        try:
            text: str = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=False, enable_thinking=False
            )
        except Exception as error:  # the template is the model's own code
            text, why = "", f" ({' '.join(str(error).split())[:150]})"
        else:
            why = ""
        if text.count(_PLACE) != 1:
            raise ConfigError(
                f"{key}: its chat template takes no single prompt of a user{why}; set extraction.chat_template to false"
            )
        before, after = text.split(_PLACE)
        return self._parse(before), self._parse(after)


def _place(ids: Sequence[int], of: Sequence[int]) -> int:
    """Where the one list stands in the other; 0 when it does not."""
    starts = (at for at in range(len(ids) - len(of) + 1) if list(ids[at : at + len(of)]) == list(of))
    return next(starts, 0)


@cache
def load_tokens(key: str, model: str, revision: str, chat_template: bool, kind: str = weights.MODEL) -> ModelTokens:
    """The tokenizer of a model, once per process; weights are not read. `kind`: of the folder, of weights'.

    Raises ConfigError, EngineDied.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    name, commit = weights.located(key, model, revision, kind)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=commit, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        why = " ".join(str(error).split())[:300]
        raise EngineDied(f"{key} = {model}: its tokenizer cannot be loaded: {why}") from None
    return ModelTokens(tokenizer, f"{key} = {model}", chat_template)
