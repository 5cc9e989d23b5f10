"""Training a sentence encoder by the loop of the language models: cosines of a text and its options, compared."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from obverse.errors import RecipeError
from obverse.models.forward import padded
from obverse.models.sentence_encoder import LONGEST, SentenceEncoderModel, pooled
from obverse.training.network import PairLogProbs, PairNetwork, Row


class SimilarityNetwork(PairNetwork):
    """A sentence encoder. What it gives for a row is one number, the cosine of both sides.

    Cosines are no log-probabilities: of an objective's terms `choice` alone means something here, with `choice_scale`
    the nats a unit of cosine.
    """

    language_model: SentenceEncoderModel
    _joint = False

    def forward(self, rows: Sequence[Row], *, sink: bool = False) -> PairLogProbs:
        if sink:
            raise RecipeError("a sentence encoder says no tokens, so no sink token", where="objectives")
        # Texts and labels apart: padded together, every label would cost as much as a text.
        order = sorted(dict.fromkeys(ids for row in rows for ids in (row.given, row.said)), key=len)
        cut = _split([len(ids) for ids in order])
        vectors_ND = torch.cat([self._vectors(some) for some in (order[:cut], order[cut:]) if some])
        place = {ids: n for n, ids in enumerate(order)}
        given = torch.tensor([place[row.given] for row in rows], device=self._device)
        said = torch.tensor([place[row.said] for row in rows], device=self._device)
        # Not by brackets: the gradient of those adds up in no fixed order.
        cosines_N1 = (vectors_ND.index_select(0, given) * vectors_ND.index_select(0, said)).sum(1, keepdim=True)
        return PairLogProbs(cosines_N1.float(), None, torch.ones_like(cosines_N1, dtype=torch.float32))

    def _vectors(self, texts: Sequence[tuple[int, ...]]) -> torch.Tensor:
        ids_BT, mask_BT = padded(list(texts), self._fill, self._device)
        states_BTD = self.model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        return pooled(states_BTD, torch.ones_like(ids_BT) if mask_BT is None else mask_BT)

    def _check_lengths(self) -> None:
        for side in ("given", "said"):
            length = getattr(self.lengths, side)
            if length > LONGEST:
                raise RecipeError(
                    f"is {length:,}, and {self.language_model.name} reads at most {LONGEST} tokens there",
                    where=f"lengths.{side}",
                    mend=f"Lower it to {LONGEST}.",
                )

    def _marks(self) -> tuple[int, int, int]:
        before, after = self.language_model.marks
        return len(before), len(after), len(after)


def _split(lengths: Sequence[int]) -> int:
    """Where to part sorted lengths in two batches so that the least is padded."""
    n = len(lengths)
    return min(range(1, n + 1), key=lambda k: k * lengths[k - 1] + (n - k) * lengths[-1])
