"""What the rest of the house may ask of a language model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from obverse.errors import ModelError
from obverse.models.generation import Generated
from obverse.models.work import Work
from obverse.queries import Likelihood, Query

Progress = Callable[[int], None]
"""Called with the number of queries (or prompts) just answered."""


@dataclass(frozen=True, slots=True)
class Window:
    """How many tokens fit, special tokens not counted.

    `given` and `said` limit the two sides of an encoder-decoder; a causal model has one window for both, `joint`.
    None means no limit.
    """

    given: int | None = None
    said: int | None = None
    joint: int | None = None


@dataclass(frozen=True, slots=True)
class Conventions:
    """What travels with a model about how it wants to be asked; read from `obverse.json` beside the weights.

    Attributes:
        eos: end-of-sequence preset: `t0`, `flipped`, `lm-eval` or `own` (the tokenizer's own special tokens).
        slots: `sentinels` (`<extra_id_0>`) or `numbered` (`[1]`) marks for the instruction's places.
        method: the method used when none is asked for.
        trained: the directions it was trained on; empty when not known.
        length_rules: direction -> length rule used when none is asked for (`sum` where absent).
        temperatures: `method/length_rule` -> temperature of the softmax over options (1 where absent).
        blend: term -> weight of the `blend` method; empty where the model has none.
        truncation: `fields` (the longest input field is shortened) or `reference` (cut from the right).
        datasets: names of the data sets it was trained on.
    """

    eos: str = "own"
    slots: str = "numbered"
    method: str = "direct"
    trained: tuple[str, ...] = ()
    length_rules: Mapping[str, str] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    blend: Mapping[str, float] = field(default_factory=dict)
    truncation: str = "fields"
    datasets: tuple[str, ...] = ()


class LanguageModel(ABC):
    """Log-likelihoods of text given text.

    A subclass is final and belongs to one family. All numbers are natural logarithms.
    """

    name: str
    """How the model was asked for: a folder, a hub id, or `obverse-mini`."""
    family: str
    """`encoder-decoder`, `causal` or `counting`."""
    window: Window
    conventions: Conventions

    @abstractmethod
    def log_likelihoods(
        self, queries: Sequence[Query], *, progress: Progress | None = None, pieces: bool = False
    ) -> list[Likelihood]:
        """The likelihood of each query, in the order asked.

        The numbers do not depend on how queries are batched or ordered (to 1e-4 nats in fp32).

        Args:
            queries: any number, mixed lengths, repetitions allowed (each distinct query is computed once).
            progress: called as queries are answered.
            pieces: also return each said token's text.

        Raises:
            WindowError: a query does not fit the window, and the truncation is not `reference`.
        """

    def limit(self, *, memory: int | None = None, naive: bool = False) -> None:
        """How the model works from now on. No answer depends on it (to 1e-4 nats in fp32).

        Args:
            memory: bytes that batches may take on top of what is in use now; None for no limit.
            naive: compute each query alone, sharing nothing, as a check on all that is shared otherwise.

        Raises:
            ModelError: the limit is too small, or cannot be kept on this system.
        """
        del memory, naive  # there are no passes that take memory or share work

    def set_number_type(self, number_type: str) -> None:
        """Compute with weights of another number type from now on. There is no way back: load the model again.

        Args:
            number_type: `fp32`, or `bf16` or `int8`, in which answers differ a little from those in fp32.

        Raises:
            ModelError: the machine is not made for it, or the model has no weights.
        """
        if number_type != "fp32":
            raise ModelError(
                f"{self.name} has no weights that could be {number_type}",
                where="--number-type",
                mend="Leave it out.",
            )

    @property
    def work(self) -> Work:
        """What was asked of the model so far and what it computed; all zero where it runs no network."""
        return Work()

    @abstractmethod
    def count_tokens(self, text: str) -> int:
        """The number of tokens of `text` alone, special tokens not counted."""

    @abstractmethod
    def pieces(self, query: Query) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The tokens of a query as the tokenizer shows them, special ones included: those read, and those scored.

        Raises:
            WindowError: it does not fit, and the truncation is not `reference`.
        """

    @abstractmethod
    def digest(self) -> str:
        """A short hash of weights and conventions: equal for models that give equal answers."""

    def generate(
        self,
        prompts: Sequence[str],
        *,
        most_tokens: int,
        stop: Sequence[str] = (),
        begin_with: str = "",
        progress: Progress | None = None,
    ) -> list[Generated]:
        """What the model says after each prompt when it always takes the likeliest token, in the order asked.

        Texts do not depend on how prompts are batched or ordered. A prompt is read as it is, as the given side of a
        query is; a space at its end stays where it is. Special tokens are never said, but for the end of sequence.

        Args:
            prompts: any number, mixed lengths, repetitions allowed (each distinct prompt is computed once).
            most_tokens: as many are generated at most, and no more than the window has room for behind the prompt.
            stop: texts that end the answer, which is cut before the first of them.
            begin_with: text that every answer is made to begin with; neither returned nor counted. White space at its
                end is read as it stands in front of a word.
            progress: called as prompts are answered.

        Raises:
            ModelError: this model cannot generate, or the limits make no sense.
            WindowError: a prompt does not fit the window, and the truncation is not `reference`.
        """
        found = self.candidates(
            prompts, count=1, most_tokens=most_tokens, stop=stop, begin_with=begin_with, progress=progress
        )
        return [candidates[0] for candidates in found]

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
        """Several different texts for each prompt by beam search, the most nats a token first.

        Args:
            prompts, most_tokens, stop, begin_with, progress: as in `generate`.
            count: how many texts; fewer come back where the search ends on fewer.
            beams: places of the beam; None takes `count`.

        Raises:
            ModelError, WindowError: as `generate`.
        """
        raise ModelError(
            f"{self.name} cannot generate text: it is of the family {self.family}",
            mend="Take an encoder-decoder or a causal model.",
        )

    def similarities(self, texts: Sequence[str], labels: Sequence[Sequence[str]]) -> list[list[float]]:
        """Cosine similarity of each text and its options, for models that carry a sentence encoder.

        Raises:
            ModelError: this model has none.
        """
        raise ModelError(
            f"{self.name} carries no sentence encoder, so it has no prior over labels",
            mend="Use a method without the prior: direct, channel, flipped, pmi or product.",
        )
