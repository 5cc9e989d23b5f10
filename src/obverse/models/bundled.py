"""obverse-mini, the model that ships with the package.

In the package its matrices are int8 with one scale a row; in memory they are fp32. Beside the trained encoder-decoder
stand the layers of the sentence encoder that it was made from, where they differ: the similarity of text and label is
the prior of the `blend` method. Layers that training left alone serve both.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from obverse.errors import ModelError, OutputError
from obverse.models.base import Conventions, LanguageModel, Progress, Window
from obverse.models.generation import Generated
from obverse.models.sentence_encoder import sentence_vectors
from obverse.models.work import Work
from obverse.queries import Likelihood, Query

if TYPE_CHECKING:
    import torch
    from torch import nn

    from obverse.models.seq2seq import Seq2SeqModel

NAME = "obverse-mini"
FOLDER = Path(__file__).parent / "mini"
_WEIGHTS = "weights.safetensors"
_PRIOR = "prior."
# Positions exist for 510 tokens; the sentence encoder was made for 256, and training saw hardly longer texts.
_WINDOW = Window(given=254, said=126)


class BundledModel(LanguageModel):
    """An encoder-decoder with a sentence encoder beside it.

    Args:
        language_model: scores queries.
        sentence_encoder: a BERT-shaped module; its mean-pooled, normalised states are compared.
        tokenizer: of both.
    """

    family = "encoder-decoder"

    def __init__(self, language_model: Seq2SeqModel, sentence_encoder: nn.Module, tokenizer: Any) -> None:
        self.name = NAME
        self._language_model = language_model
        self._sentence_encoder = sentence_encoder
        self._tokenizer = tokenizer
        self._vectors: OrderedDict[str, np.ndarray] = OrderedDict()

    @property
    def window(self) -> Window:  # type: ignore[override]
        return self._language_model.window

    @property
    def conventions(self) -> Conventions:  # type: ignore[override]
        return self._language_model.conventions

    @property
    def language_model(self) -> Seq2SeqModel:
        """What scores queries."""
        return self._language_model

    def log_likelihoods(
        self, queries: Sequence[Query], *, progress: Progress | None = None, pieces: bool = False
    ) -> list[Likelihood]:
        return self._language_model.log_likelihoods(queries, progress=progress, pieces=pieces)

    @property
    def work(self) -> Work:
        return self._language_model.work

    def limit(self, *, memory: int | None = None, naive: bool = False) -> None:
        self._language_model.limit(memory=memory, naive=naive)

    def set_number_type(self, number_type: str) -> None:
        from obverse.models.low_precision import set_number_type

        self._language_model.set_number_type(number_type)
        set_number_type(self._sentence_encoder, number_type, self._language_model.device)
        self._vectors.clear()

    def candidates(
        self,
        prompts: Sequence[str],
        *,
        count: int,
        most_tokens: int,
        stop: Sequence[str] = (),
        begin_with: str = "",
        beams: int | None = None,
        progress: Progress | None = None,
    ) -> list[list[Generated]]:
        return self._language_model.candidates(
            prompts,
            count=count,
            most_tokens=most_tokens,
            stop=stop,
            begin_with=begin_with,
            beams=beams,
            progress=progress,
        )

    def encode(self, query: Query) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The token ids of both sides, special tokens included."""
        return self._language_model.encode(query)

    def pieces(self, query: Query) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self._language_model.pieces(query)

    def count_tokens(self, text: str) -> int:
        return self._language_model.count_tokens(text)

    def digest(self) -> str:
        return self._language_model.digest()

    def similarities(self, texts: Sequence[str], labels: Sequence[Sequence[str]]) -> list[list[float]]:
        vectors = self.embed(texts)
        wanted = sorted({label for row in labels for label in row})
        known = {label: self._vectors[label] for label in wanted if label in self._vectors}
        fresh = [label for label in wanted if label not in known]
        for label, vector in zip(fresh, self.embed(fresh), strict=True):
            known[label] = self._vectors[label] = vector
        while len(self._vectors) > 10_000:
            self._vectors.popitem(last=False)
        out = []
        for vector, row in zip(vectors, labels, strict=True):
            out.append([float(s) for s in np.stack([known[label] for label in row]) @ vector])
        return out

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Sentence vectors of length 1, shape (n, hidden)."""
        return sentence_vectors(self._sentence_encoder, self._tokenizer, texts)


def quantize(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix as int8 with one fp32 scale a row: weights = int8 * scale, to half a scale's step."""
    import torch

    scale = weights.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    return (weights / scale).round().to(torch.int8), scale[:, 0].to(torch.float32)


def pack(
    model: Any,
    original: Mapping[str, torch.Tensor],
    tokenizer: Any,
    conventions: Mapping[str, Any],
    folder: Path,
) -> None:
    """Write a trained model as the package keeps it.

    Args:
        model: the trained encoder-decoder (`training.warm_start`), fp32.
        original: state dict of the sentence encoder that is the prior.
        conventions: what goes into `obverse.json`.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    # Loading by class name builds poolers, which nothing uses.
    trained = {name: tensor for name, tensor in model.state_dict().items() if ".pooler." not in name}
    # The one embedding table appears under three names.
    for copy in ("decoder.bert.embeddings.word_embeddings.weight", "decoder.cls.predictions.decoder.weight"):
        trained.pop(copy, None)
    trained.pop("decoder.cls.predictions.decoder.bias", None)  # another name of cls.predictions.bias
    kept = dict(trained)
    for name, tensor in original.items():
        now = trained.get(f"encoder.{name}")
        if now is None or not torch.equal(now.cpu(), tensor.cpu()):
            kept[_PRIOR + name] = tensor
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in kept.items():
        tensor = tensor.detach().cpu().contiguous()
        if not tensor.is_floating_point():
            continue
        if tensor.dim() == 2 and tensor.numel() > 1000:
            tensors[name], tensors[f"{name}.scale"] = quantize(tensor)
        else:
            tensors[name] = tensor.to(torch.float32)
    save_file(tensors, folder / _WEIGHTS)
    (folder / "config.json").write_text(
        json.dumps(_without_places(model.config.to_dict()), indent=1) + "\n", encoding="utf-8"
    )
    tokenizer.save_pretrained(folder)
    (folder / "obverse.json").write_text(json.dumps(conventions, indent=1) + "\n", encoding="utf-8")


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the folders that its parts were read from."""
    return {
        key: "" if key == "_name_or_path" else _without_places(value) if isinstance(value, dict) else value
        for key, value in config.items()
    }


def load_bundled(folder: Path = FOLDER, *, device: str | None = None, **changes: Any) -> BundledModel:
    """The model that ships, or another folder written by `pack`.

    Args:
        device: where it runs; None takes the best there is.
        changes: conventions to override (`eos=`, `truncation=`).

    Raises:
        ModelError: the files are not all there.
    """
    import dataclasses

    from safetensors.torch import load_file
    from transformers import EncoderDecoderConfig, EncoderDecoderModel, PreTrainedTokenizerFast
    from transformers.models.bert.modeling_bert import BertLMHeadModel, BertModel

    from obverse.models.conventions import read_conventions
    from obverse.models.precision import choose_device
    from obverse.models.seq2seq import Seq2SeqModel

    for name in (_WEIGHTS, "config.json", "tokenizer.json", "obverse.json"):
        if not (folder / name).is_file():
            raise ModelError(
                f"the bundled model's file {name} is missing", where=str(folder), mend="Reinstall obverse."
            )
    stored = load_file(folder / _WEIGHTS)
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(".scale"):
            continue
        scale = stored.get(f"{name}.scale")
        weights[name] = tensor if scale is None else tensor.float() * scale[:, None]
    config: Any = EncoderDecoderConfig.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    table = weights["encoder.embeddings.word_embeddings.weight"]
    weights["decoder.bert.embeddings.word_embeddings.weight"] = table
    weights["decoder.cls.predictions.decoder.weight"] = table
    weights["decoder.cls.predictions.decoder.bias"] = weights["decoder.cls.predictions.bias"]
    model = _without_initialisation(
        lambda: EncoderDecoderModel(
            config=config,
            encoder=BertModel(config.encoder, add_pooling_layer=False),
            decoder=BertLMHeadModel(config.decoder),
        )
    )
    _assign(model, {name: tensor for name, tensor in weights.items() if not name.startswith(_PRIOR)}, folder)
    encoder = _without_initialisation(lambda: BertModel(config.encoder, add_pooling_layer=False))
    prior = {name: weights.get(_PRIOR + name, weights.get(f"encoder.{name}")) for name in encoder.state_dict()}
    _assign(encoder, {n: t for n, t in prior.items() if t is not None}, folder)
    where = choose_device(device)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    conventions = dataclasses.replace(
        read_conventions(folder) or Conventions(), **{k: v for k, v in changes.items() if v is not None}
    )
    language_model = Seq2SeqModel(model.eval().to(where), tokenizer, name=NAME, conventions=conventions, window=_WINDOW)
    return BundledModel(language_model, encoder.eval().to(where), tokenizer)


def export(folder: Path, target: Path) -> None:
    """Write the bundled model as a plain transformers folder in fp32, without the prior, which has no place there.

    Raises:
        OutputError: `target` exists.
    """
    import os
    import shutil

    import torch

    if target.exists():
        raise OutputError("exists already", where=str(target), mend="Name a folder that does not exist yet.")
    bundled = load_bundled(folder, device="cpu")
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        network = bundled._language_model.model
        # Loading by class name builds a pooler that nothing here uses; zeros spare the reader a warning about it.
        width = network.config.encoder.hidden_size
        state = dict(network.state_dict())
        state["encoder.pooler.dense.weight"] = torch.zeros(width, width)
        state["encoder.pooler.dense.bias"] = torch.zeros(width)
        # The class ties the output to the decoder's table only, and refuses to save one table under two sides' names.
        table = state["encoder.embeddings.word_embeddings.weight"].clone()
        state["decoder.bert.embeddings.word_embeddings.weight"] = table
        state["decoder.cls.predictions.decoder.weight"] = table
        network.save_pretrained(fresh, state_dict=state)
        bundled._tokenizer.save_pretrained(fresh)
        raw = json.loads((folder / "obverse.json").read_text(encoding="utf-8"))
        raw.pop("blend", None)
        raw["method"] = "product"
        (fresh / "obverse.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
        os.rename(fresh, target)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise OutputError(f"cannot be written: {error.strerror}", where=str(target)) from None


def folder_digest(folder: Path) -> str:
    """SHA-256 over the packed files, 16 hexadecimal digits."""
    state = hashlib.sha256()
    for name in (_WEIGHTS, "config.json", "tokenizer.json", "obverse.json"):
        state.update((folder / name).read_bytes())
    return state.hexdigest()[:16]


def _without_initialisation(build: Any) -> Any:
    """Build a module on no device: random weights that are replaced at once are not worth a second."""
    import torch

    with torch.device("meta"):
        return build()


def _assign(module: nn.Module, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Put weights into a module built without storage, and make its buffers."""
    import torch

    missing, unexpected = module.load_state_dict(dict(weights), strict=False, assign=True)
    missing = [name for name in missing if "position_ids" not in name and "token_type_ids" not in name]
    if missing or unexpected:
        raise ModelError(
            f"the weights do not fit the configuration (missing {missing[:3]}, unexpected {unexpected[:3]})",
            where=str(folder),
        )
    for part in module.modules():
        for name, buffer in list(part.named_buffers(recurse=False)):
            if not buffer.is_meta:
                continue
            if name == "position_ids":
                made = torch.arange(buffer.shape[-1]).expand(buffer.shape).clone()
            elif name == "token_type_ids":
                made = torch.zeros(buffer.shape, dtype=torch.long)
            else:
                raise ModelError(f"the buffer {name} has no stored value", where=str(folder))
            setattr(part, name, made)
