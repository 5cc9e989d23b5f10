"""Write the bundled model's card from its recipe, its conventions and its figures. Run by `make bundled`."""

from __future__ import annotations

import json
import math
from pathlib import Path

from obverse.models.bundled import FOLDER
from obverse.recipes.bundled import read_asked_texts, read_own_texts
from obverse.recipes.judge import ONE_TEXT
from obverse.recipes.recipe import read_recipe
from obverse.tasks.wordings import read_facets

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results"

_CARD = """# obverse-mini

An English encoder-decoder for labelling short texts with labels it has never seen; the default model of Obverse.

* Shape: BERT encoder of 6 layers and decoder of {decoder} layers, 384 wide, one embedding table, and the upper layers
  of a sentence encoder; {parameters:.1f} million parameters, {size:.1f} MB on disk (int8 with a scale a row), fp32 in
  memory.
* Made from: all-MiniLM-L6-v2 (Apache-2.0), twice. As the encoder of an encoder-decoder it was trained in two directions
  at once: flipped, log P(instruction | text, label), and direct, log P(label | instruction, text). As a sentence
  encoder, the prior, it was trained on how alike texts and their right options are, and {kept:.0%} of its weights were
  then taken from the original again, which does it good on unseen kinds of text. The lowest {frozen} layers and the
  embeddings (but those of marks) are as they were, and serve both.
* Wrong pairs of the flipped direction are trained to say a sink token, and options are compared in training as in use,
  half of the draws on top of the original's similarity. Direct has unlikelihood of a wrong label.
* Default method `blend`: {blend}. Its temperature is part of these weights.
* Window: 254 tokens of text, label and marks; training saw at most {given}.

## Data

{own} texts with {instructions} instructions and {wordings} label wordings, and {asked} texts with {asks} questions of
their own, each with its own options, all of this project's own writing (Apache-2.0); and these public sets, every draw
with a fresh instruction and wording. Licences as stated by the sources, not verified, are in NOTICE.

{data}

{draws:,} draws in {steps:,} steps of {per_step} for the encoder-decoder and {similarity_draws:,} for the sentence
encoder, on two CPU cores. `make bundled` trains both anew by `bundled/recipe.toml` and `bundled/similarity.toml`.

## Figures

Mean macro-F1 over pairs of a data set and a wording, none of them seen in training, one text at a time, up to 200 rows
each. `cosine` is the published sentence encoder, the baseline. Versions were compared on the first {pairs} pairs; the
{pairs_aside} pairs kept aside chose nothing. Every number with its command is in `docs/results/mini.md` and
`mini_aside.md`.

| | {methods} |
|---|{rules}|
| {pairs} pairs | {f1} |
| {pairs_aside} pairs kept aside | {f1_aside} |

Blend against cosine: {difference:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, paired bootstrap); kept aside
{difference_aside:+.1f} ({low_aside:+.1f} to {high_aside:+.1f}). {rewording}

Expected calibration error of the blend, mean over the pairs: {ece:.3f}. Confidences are estimates: on kinds of text far
from the training data they are too high.

## Limits

English only. Single short texts: opinions, topics, intents, tone, kinds of question. It does not know the world, does
not reason, and is weak on pairs of texts (entailment, paraphrase) and on multiple-choice questions. Wordings move its
answers; try several on texts whose labels you know. Its sources contain the biases of reviews, tweets-like messages and
encyclopedia articles. Do not let it decide about people unless somebody looks.
"""


def main() -> None:
    """Fill the card."""
    recipe, similarity = (read_recipe(HERE / name) for name in ("recipe.toml", "similarity.toml"))
    assert recipe.own is not None and recipe.own.asked is not None
    facets = read_facets(Path(recipe.own.facets)).values()
    asked = read_asked_texts(Path(recipe.own.asked))
    judged, aside = (
        json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in ("mini", "mini_aside")
    )
    conventions = json.loads((FOLDER / "obverse.json").read_text(encoding="utf-8"))
    against, against_aside = (figures["differences_macro_f1"]["blend - cosine"] for figures in (judged, aside))
    card = _CARD.format(
        decoder=len(recipe.model.decoder_layers),
        parameters=_parameters(FOLDER / "weights.safetensors") / 1e6,
        size=sum(p.stat().st_size for p in FOLDER.iterdir() if p.name != "README.md") / 1e6,
        frozen=recipe.model.frozen_encoder_layers,
        kept=1 - similarity.model.trained_share,
        similarity_draws=similarity.steps * similarity.examples_per_step,
        blend=", ".join(f"{weight:g} x {term}" for term, weight in conventions["blend"].items()),
        given=recipe.lengths.given,
        own=f"{len(read_own_texts(Path(recipe.own.texts))):,}",
        instructions=f"{sum(len(f.instructions) for f in facets):,}",
        wordings=f"{sum(len(w) for f in facets for w in f.labels.values()):,}",
        asked=f"{len(asked):,}",
        asks=f"{sum(len(text.asks) for text in asked):,}",
        data=", ".join(entry.dataset for entry in recipe.data) + ".",
        draws=recipe.steps * recipe.examples_per_step,
        steps=recipe.steps,
        per_step=recipe.examples_per_step,
        pairs=len(judged["pairs"]),
        pairs_aside=len(aside["pairs"]),
        methods=" | ".join(ONE_TEXT),
        rules="---:|" * (len(ONE_TEXT) - 1) + "---:",
        f1=" | ".join(f"{judged['mean_macro_f1'][m]:.3f}" for m in ONE_TEXT),
        f1_aside=" | ".join(f"{aside['mean_macro_f1'][m]:.3f}" for m in ONE_TEXT),
        difference=100 * against["difference"],
        low=100 * against["interval"][0],
        high=100 * against["interval"][1],
        difference_aside=100 * against_aside["difference"],
        low_aside=100 * against_aside["interval"][0],
        high_aside=100 * against_aside["interval"][1],
        rewording=_rewording(),
        ece=judged["blend_calibration_error"],
    )
    (FOLDER / "README.md").write_text(card, encoding="utf-8")
    print(card)


def _rewording() -> str:
    """What is lost under new label words, where that was measured."""
    path = RESULTS / "mini_rewording.json"
    if not path.exists():
        return ""
    loss = {m: 100 * v["loss"] for m, v in json.loads(path.read_text(encoding="utf-8"))["methods"].items()}
    return (
        f"When labels are said in words\nthat training never used, the blend loses {loss['blend']:.1f} points of "
        f"accuracy and direct {loss['direct']:.1f}\n(`mini_rewording.md`)."
    )


def _parameters(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        names = [name for name in file.keys() if not name.endswith(".scale")]  # noqa: SIM118  (not a mapping)
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names)


if __name__ == "__main__":
    main()
