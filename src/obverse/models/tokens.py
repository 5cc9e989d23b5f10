"""From texts to token ids, and the special tokens a tokenizer puts round a text of its own accord."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class Tokens:
    """Token ids of texts, each text tokenised once while it is remembered.

    Args:
        tokenizer: any transformers tokenizer.
        remembered: how many texts are kept. Said texts repeat (labels, instructions), long inputs hardly ever.
    """

    def __init__(self, tokenizer: Any, *, remembered: int = 50_000) -> None:
        self.tokenizer = tokenizer
        self._remembered = remembered
        self._known: dict[str, tuple[int, ...]] = {}
        self.leading, self.trailing = _own_marks(tokenizer)

    def of(self, texts: Iterable[str]) -> list[tuple[int, ...]]:
        """The ids of each text, special tokens not added, nothing cut."""
        texts = list(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        fresh = dict(zip(new, map(tuple, _tokenise(self.tokenizer, new)), strict=True))
        out = [fresh[text] if text in fresh else self._known[text] for text in texts]
        if len(self._known) + len(fresh) > self._remembered:
            self._known.clear()
        if len(fresh) <= self._remembered:
            self._known.update(fresh)
        return out

    def passing(self, texts: Iterable[str]) -> list[tuple[int, ...]]:
        """As `of`, but nothing is remembered: for texts that will not come again."""
        texts = list(texts)
        return list(map(tuple, _tokenise(self.tokenizer, texts)))

    def begun(self, texts: Iterable[str]) -> list[tuple[int, ...]]:
        """The ids of texts that a word is to follow.

        They are `passing`'s where a text does not end in white space. Such an end is often one token with the word
        behind it, or other tokens than without one: what counts is how it reads in front of a word.
        """
        texts = list(texts)
        spaced = [text != text.rstrip() for text in texts]
        read = self.passing(f"{text}a" if space else text for text, space in zip(texts, spaced, strict=True))
        return [ids[:-1] if space else ids for ids, space in zip(read, spaced, strict=True)]

    def text(self, ids: Sequence[int], *, behind: Sequence[int] = ()) -> str:
        """The text of tokens, special ones left out.

        Args:
            behind: tokens in front of them, whose text is not returned. With it the space in front of a first word is
                seen, which some tokenizers drop at the start of a text.
        """
        if not behind:
            return self._decoded(ids)
        before = self._decoded(behind)
        whole = self._decoded([*behind, *ids])
        return whole[len(before) :] if whole.startswith(before) else self._decoded(ids)

    def unsaid(self, vocabulary: int) -> tuple[int, ...]:
        """Special tokens, and numbers that no token has, of `vocabulary` numbers."""
        known = set(self.tokenizer.get_vocab().values())
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        special = {i for i, token in added.items() if token.special} | set(self.tokenizer.all_special_ids)
        return tuple(i for i in range(vocabulary) if i in special or i not in known)

    def _decoded(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        """The text of each token as the tokenizer shows it."""
        return tuple(self.tokenizer.convert_ids_to_tokens(list(ids)))


def surely_within(text: str, limit: int) -> bool:
    """Whether a text is so short that it cannot have more than `limit` tokens: no token is shorter than a byte."""
    # A tokenizer may put one word mark in front; the few characters that a normaliser spells out as many are found
    # later, when the text is tokenised for good.
    return len(text) * 4 < limit or len(text.encode("utf-8", "surrogatepass")) < limit


def _tokenise(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    # A lone surrogate (half a character, possible in JSON) has no bytes that a tokenizer could read.
    texts = [text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    encoded = tokenizer(
        texts,
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _own_marks(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the tokenizer puts in front of and behind a text: ([CLS], [SEP]) for BERT, ((), EOS) for T5."""
    plain = _tokenise(tokenizer, ["a"])[0]
    full = list(tokenizer("a", truncation=False, padding=False, verbose=False)["input_ids"])
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return tuple(full[:start]), tuple(full[start + len(plain) :])
    return (), ()
