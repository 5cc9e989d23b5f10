"""Tiny seeded models and tokenizers with vocabularies small enough to write token ids down by hand."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

WORDS = ("good", "bad", "film", "the", "was", "is", "it", "?", "input:", "output:")


def seeded(model: Any, seed: int = 0, spread: float = 0.3) -> Any:
    """The model with every parameter drawn anew, wide enough that answers differ by whole nats."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model.eval()


def t5_tokenizer() -> T5Tokenizer:
    """Unigram over whole words: 0 pad, 1 EOS, 2 unknown, 3 the lone word mark, then WORDS, from 14 on the sentinels."""
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -5.0), *((f"▁{word}", -2.0) for word in WORDS)]
    vocab += [(f"<extra_id_{i}>", 0.0) for i in range(4)]
    return T5Tokenizer(vocab=vocab, extra_ids=4)


def t5(*, tied: bool = True, vocab_size: int = 24, seed: int = 0) -> T5ForConditionalGeneration:
    """Two layers, 16 wide; untied as v1.1 is: a head of its own and no scaling of the decoder's outputs."""
    config = T5Config(
        vocab_size=vocab_size,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=tied,
    )
    model = T5ForConditionalGeneration(config)
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.zeros(vocab_size, 16))
    return seeded(model, seed)


def sentencepiece_file(folder: Path) -> Path:
    """`spiece.model` trained on a few sentences, ids 0 pad, 1 EOS, 2 unknown as T5 has them."""
    import sentencepiece

    sentences = [
        "the film was good and warm",
        "the film was bad and cold",
        "is it good or bad ?",
        "input: the film output: it was good",
        "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    ]
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 4),
        model_writer=written,
        vocab_size=60,
        model_type="unigram",
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    path = folder / "spiece.model"
    path.write_bytes(written.getvalue())
    return path


_BPE_PIECES = ("Ġ", "g", "o", "d", "b", "a", "go", "od", "good", "ba", "bad", "Ġgood", "Ġbad")
_BPE_MERGES = [("g", "o"), ("o", "d"), ("go", "od"), ("b", "a"), ("ba", "d"), ("Ġ", "good"), ("Ġ", "bad")]


def _bpe(specials: tuple[str, ...], unknown: str) -> Tokenizer:
    vocab = {piece: i for i, piece in enumerate((*specials, *_BPE_PIECES))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=_BPE_MERGES, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def bart_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: 0 <s>, 1 pad, 2 </s>, 3 unknown, then Ġ g o d b a go od good ba bad Ġgood Ġbad from 4 on."""
    tokenizer = _bpe(("<s>", "<pad>", "</s>", "<unk>"), "<unk>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def bart(seed: int = 0, **changes: Any) -> BartForConditionalGeneration:
    """Two layers, 16 wide, 64 positions, with a bias on its logits that must not be forgotten."""
    config = BartConfig(
        vocab_size=24,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=64,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
        **changes,
    )
    model = seeded(BartForConditionalGeneration(config), seed)
    model.final_logits_bias.copy_(torch.linspace(-2, 2, 24)[None, :])
    return model


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece: 0 [PAD], 1 [UNK], 2 [CLS], 3 [SEP], then good bad film the was ##s."""
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "the", "was", "##s")
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]"
    )


def bert2bert(seed: int = 0, *, encoder_width: int = 16) -> EncoderDecoderModel:
    """Two BERTs of two layers, the decoder 16 wide; another encoder width brings in a projection. 24 positions."""

    def side(width: int, **changes: Any) -> BertConfig:
        return BertConfig(
            vocab_size=10,
            hidden_size=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=24,
            **changes,
        )

    config = EncoderDecoderConfig.from_encoder_decoder_configs(
        side(encoder_width), side(16, is_decoder=True, add_cross_attention=True)
    )
    config.decoder_start_token_id = 2
    config.pad_token_id = 0
    return seeded(EncoderDecoderModel(config), seed)


def gpt2_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE without BOS: 0 EOS, then Ġ g o d b a go od good ba bad Ġgood Ġbad from 1 on."""
    return PreTrainedTokenizerFast(
        tokenizer_object=_bpe(("<|endoftext|>",), "<|endoftext|>"), eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    )


def gpt2(seed: int = 0) -> GPT2LMHeadModel:
    """Two layers, 16 wide, 64 positions."""
    config = GPT2Config(vocab_size=14, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    return seeded(GPT2LMHeadModel(config), seed)


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """The same pieces behind a BOS: 0 unknown, 1 BOS, 2 EOS, then the pieces from 3 on."""
    tokenizer = _bpe(("<unk>", "<s>", "</s>"), "<unk>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def llama(seed: int = 0) -> LlamaForCausalLM:
    """Two layers, 16 wide, grouped key and value heads, 64 positions."""
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
    )
    return seeded(LlamaForCausalLM(config), seed)
