"""Models with seeded weights and real vocabulary sizes, and their tokenizers, trained on made-up words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from obverse.models.base import Conventions, LanguageModel
from obverse.models.causal import CausalModel
from obverse.models.precision import choose_device, choose_dtype
from obverse.models.seq2seq import Seq2SeqModel
from scoring_speed.cases import SEED, made_up

WINDOW = 2048
SENTINELS = 100
SMALL = ("stub", "tiny")
"""Sizes whose vocabularies are small."""
# As large as those that people use: GPT-2, Llama 2 and T5. T5's words are fewer than its rows, as they are there.
VOCABULARIES = {"gpt2": 50_257, "llama": 32_000, "t5": 32_128}
_PIECES = {"gpt2": 50_257, "llama": 32_000, "t5": 32_000}
_TINY = {"gpt2": 900, "llama": 900, "t5": 800}
_TINY_VOCABULARIES = {"gpt2": 900, "llama": 900, "t5": 928}


@dataclass(frozen=True, slots=True)
class Shape:
    """Width, width between the two layers of a block's second half, blocks (on each side), heads."""

    width: int
    inner: int
    layers: int
    heads: int


SHAPES = {
    ("gpt2", "stub"): Shape(8, 8, 1, 1),
    ("t5", "stub"): Shape(8, 8, 1, 1),
    ("gpt2", "tiny"): Shape(64, 256, 2, 2),
    ("llama", "tiny"): Shape(64, 172, 2, 4),
    ("t5", "tiny"): Shape(64, 128, 2, 2),
    ("gpt2", "50m"): Shape(512, 2048, 8, 8),
    ("llama", "50m"): Shape(512, 1376, 6, 8),
    ("t5", "50m"): Shape(384, 1024, 6, 6),
    ("gpt2", "250m"): Shape(1024, 4096, 16, 16),
    ("llama", "250m"): Shape(1024, 2752, 16, 16),
    ("t5", "250m"): Shape(768, 2048, 12, 12),
}


def train_tokenizer(family: str, size: str, folder: Path) -> Path:
    """The file that holds the family's tokenizer, which is trained if it is not there."""
    pieces = _TINY[family] if size in SMALL else _PIECES[family]
    path = folder / f"tokenizer-{family}-{pieces}.json"
    if path.exists():
        return path
    words = made_up(max(4000, int(1.2 * pieces)))
    if family == "t5":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer: Any = trainers.UnigramTrainer(
            vocab_size=pieces,
            special_tokens=["<pad>", "</s>", "<unk>"],
            unk_token="<unk>",
            show_progress=False,
        )
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=pieces,
            special_tokens=["<|endoftext|>"] if family == "gpt2" else ["<unk>", "<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            min_frequency=1,
            show_progress=False,
        )
    tokenizer.train_from_iterator(_lines(words), trainer)
    if family == "llama":
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    temporary = path.with_suffix(".tmp")
    temporary.write_text(tokenizer.to_str(), encoding="utf-8")
    temporary.replace(path)
    return path


def load_tokenizer(family: str, size: str, folder: Path) -> Any:
    """The family's tokenizer as transformers has it."""
    path = train_tokenizer(family, size, folder)
    if family == "t5":
        pieces = [tuple(piece) for piece in json.loads(path.read_text(encoding="utf-8"))["model"]["vocab"]]
        pieces += [(f"<extra_id_{i}>", 0.0) for i in range(SENTINELS)]
        return T5Tokenizer(vocab=pieces, extra_ids=SENTINELS)
    marks = {"eos_token": "<|endoftext|>"} if family == "gpt2" else {"bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_file=str(path), **marks)


def build_network(family: str, size: str, device: str) -> Any:
    """The network with seeded weights, in evaluation, in the number type of its device."""
    torch.manual_seed(SEED)
    shape = SHAPES[family, size]
    vocabulary = (_TINY_VOCABULARIES if size in SMALL else VOCABULARIES)[family]
    model: Any
    if family == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocabulary,
                n_positions=WINDOW,
                n_embd=shape.width,
                n_inner=shape.inner,
                n_layer=shape.layers,
                n_head=shape.heads,
                initializer_range=0.04,  # so wide that another token is another number of nats
                bos_token_id=0,
                eos_token_id=0,
            )
        )
    elif family == "llama":
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=shape.width,
                intermediate_size=shape.inner,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.heads // 2,
                max_position_embeddings=WINDOW,
                initializer_range=0.04,
                bos_token_id=1,
                eos_token_id=2,
            )
        )
    else:
        model = T5ForConditionalGeneration(
            T5Config(
                vocab_size=vocabulary,
                d_model=shape.width,
                d_kv=64,
                d_ff=shape.inner,
                num_layers=shape.layers,
                num_heads=shape.heads,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
                decoder_start_token_id=0,
                pad_token_id=0,
                eos_token_id=1,
                tie_word_embeddings=False,
            )
        )
        # Of a size with which the logits lie near 0, as a trained model's do.
        model.lm_head.weight = torch.nn.Parameter(torch.randn(vocabulary, shape.width) * shape.width**-0.5)
        # lm-evaluation-harness would tie the head to the embeddings; it is one of its own, as in version 1.1.
        model.tie_weights = lambda *_, **__: None
    chosen = choose_device(device)
    return model.to(device=chosen, dtype=choose_dtype(chosen)).eval().requires_grad_(False)


def language_model(network: Any, tokenizer: Any) -> LanguageModel:
    """The network as Obverse asks it: end-of-sequence tokens stand where lm-evaluation-harness has them."""
    name = network.config.model_type
    model: Seq2SeqModel | CausalModel
    if network.config.is_encoder_decoder:
        model = Seq2SeqModel(network, tokenizer, name=name, conventions=Conventions(eos="lm-eval", slots="sentinels"))
    else:
        model = CausalModel(network, tokenizer, name=name, conventions=Conventions())
    # What the network can do is tried out here, once, and not in the first call.
    _ = model.packs if isinstance(model, Seq2SeqModel) else model.network
    return model


def _lines(words: list[str]) -> Iterator[str]:
    """Text in which words are common or rare as in a language: the n-th line of words stands there 1/n times."""
    for number, start in enumerate(range(0, len(words), 50), 1):
        line = " " + " ".join(words[start : start + 50])
        for _ in range(2 + 400 // number):
            yield line
