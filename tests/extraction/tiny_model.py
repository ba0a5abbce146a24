"""Language models of a few hundred kilobytes, made on the spot: Qwen2's architecture, a tokenizer of their own.

`make_tiny_qwen2` leaves a folder as `save_pretrained` does. With `answer`, the weights are set so that the model says
just that after any prompt: attention and feed-forward add nothing, so that each token decides alone which one follows.
Without, the weights are random and so is what it says.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

ANSWER = "Genre: comedy, warm and light."
_SPECIAL = ("<|end|>", "<|user|>", "<|model|>")
_TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<|model|>{% endif %}"
)


def make_tiny_qwen2(folder: Path, answer: str = ANSWER, *, hidden: int = 128, layers: int = 1) -> Path:
    """Write the model into `folder` and return it.

    Raises ValueError when a token of the answer would need two successors.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = _tokenizer(answer)
    vocabulary = len(tokenizer)
    end = tokenizer.convert_tokens_to_ids(_SPECIAL[0])
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,  # vLLM's attention on CPU wants heads of 64 at least
        num_key_value_heads=hidden // 64,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=end,
        dtype="float32",
    )
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).eval()
    if answer:
        steps = [tokenizer.convert_tokens_to_ids(_SPECIAL[2]), *tokenizer(answer)["input_ids"], end]
        _say(model, steps)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _say(model: Any, steps: Sequence[int]) -> None:
    """After each of these tokens comes the next one."""
    import torch

    if len(set(steps)) < len(steps):
        raise ValueError("a token stands twice in the answer; choose other words")
    with torch.no_grad():
        torch.nn.init.normal_(model.model.embed_tokens.weight)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for now, following in pairwise(steps):
            model.lm_head.weight[following] = model.model.embed_tokens.weight[now]


def _tokenizer(answer: str) -> Any:
    """Byte-level BPE whose words are the answer's; everything else is read letter by letter or in short pieces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    common = "Extract from the texts what matters for recommending the item, under each of these key factors. The film"
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([answer, common] * 50, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_SPECIAL[0], pad_token=_SPECIAL[0])
    fast.chat_template = _TEMPLATE
    return fast
