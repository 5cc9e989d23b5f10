"""What obverse-mini starts from, as models to train: the encoder-decoder, and the sentence encoder beside it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from obverse.models.base import Conventions, LanguageModel
from obverse.objectives.objectives import Objective
from obverse.recipes.recipe import ModelPart
from obverse.seeds import stream
from obverse.tasks.mixture import Draw, Mixture

_COUNTED_DRAWS = 1000


def mini_base(part: ModelPart, *, device: str | None = None) -> LanguageModel:
    """The warm-started encoder-decoder, its lowest encoder layers frozen.

    Raises:
        ModelError: the pretrained sentence encoder is not installed.
    """
    from obverse.models.precision import choose_device
    from obverse.models.seq2seq import Seq2SeqModel
    from obverse.training.warm_start import freeze, sentence_encoder_folder, tokenizer_with_sentinels, warm_started

    pretrained = sentence_encoder_folder()
    network: Any = warm_started(
        pretrained, decoder_layers=part.decoder_layers, dropout=0.1 if part.dropout is None else part.dropout
    )
    freeze(network, encoder_layers=part.frozen_encoder_layers)
    conventions = Conventions(eos="own", slots=part.slots or "sentinels")
    return Seq2SeqModel(
        network.to(choose_device(device)), tokenizer_with_sentinels(pretrained), name=part.base, conventions=conventions
    )


def mini_encoder(part: ModelPart, *, device: str | None = None) -> LanguageModel:
    """The pretrained sentence encoder, its embeddings and lowest layers frozen.

    Raises:
        ModelError: it is not installed.
    """
    from obverse.models.precision import choose_device
    from obverse.models.sentence_encoder import SentenceEncoderModel
    from obverse.training.warm_start import (
        freeze_encoder,
        sentence_encoder,
        sentence_encoder_folder,
        tokenizer_with_sentinels,
    )

    folder = sentence_encoder_folder()
    network: Any = sentence_encoder(folder, dropout=0.0 if part.dropout is None else part.dropout)
    freeze_encoder(network, layers=part.frozen_encoder_layers)
    return SentenceEncoderModel(network.to(choose_device(device)), tokenizer_with_sentinels(folder), name=part.base)


def prepare_mini(
    network: Any, mixture: Mixture, objectives: Sequence[Objective], *, seed: int, prior: float | None = None
) -> EncoderPrior | None:
    """Starting values that depend on the vocabulary and the data, and the prior of the untouched encoder.

    The marks of instructions get directions of their own, and the output bias starts from how often tokens are said.

    Args:
        prior: nats a unit of cosine; None for no prior.
    """
    from obverse.training.warm_start import distinguish_marks, start_from_unigrams

    model, tokenizer = network.model, network.tokenizer
    untouched = EncoderPrior(copy.deepcopy(model.encoder).eval(), tokenizer, prior) if prior else None
    distinguish_marks(model, tokenizer, seed=seed)
    counts = [0.0] * len(tokenizer)
    for i in range(_COUNTED_DRAWS):
        draw = mixture.draw(i)
        for number, objective in enumerate(objectives):
            fitted, _ = network.fit(draw, objective)
            pairs = objective.pairs(fitted, 0, stream(seed, "unigrams", i))
            for row in network.rows(pairs, number):
                for token in row.said:
                    counts[network.sink if objective.sink and not row.gold else token] += 1
    start_from_unigrams(model, counts, network.sink)
    return untouched


class EncoderPrior:
    """The untouched sentence encoder's similarity of text and option, scaled to nats."""

    def __init__(self, encoder: Any, tokenizer: Any, scale: float) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._scale = scale
        self._known: dict[str, Any] = {}

    def __call__(self, draws: Sequence[Draw]) -> list[list[float]]:
        from obverse.models.sentence_encoder import sentence_vectors

        texts = [draw.rendering.input_text for draw in draws]
        wanted = {text for draw, text in zip(draws, texts, strict=True) for text in (text, *draw.options)}
        fresh = [text for text in sorted(wanted) if text not in self._known]
        if len(self._known) > 50_000:
            self._known.clear()
            fresh = sorted(wanted)
        self._known.update(zip(fresh, sentence_vectors(self._encoder, self._tokenizer, fresh), strict=True))
        return [
            [self._scale * float(self._known[text] @ self._known[option]) for option in draw.options]
            for draw, text in zip(draws, texts, strict=True)
        ]
