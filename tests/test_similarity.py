"""Training a sentence encoder: cosines, their loss by hand, the loop, the folder it leaves."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: E402
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast  # noqa: E402

from obverse.errors import RecipeError  # noqa: E402
from obverse.models.sentence_encoder import SentenceEncoderModel, sentence_vectors  # noqa: E402
from obverse.objectives.objectives import Objective  # noqa: E402
from obverse.queries import Query  # noqa: E402
from obverse.recipes.recipe import ObjectivePart, read_recipe  # noqa: E402
from obverse.recipes.train import build_objective  # noqa: E402
from obverse.seeds import stream  # noqa: E402
from obverse.tasks.directions import Similarity  # noqa: E402
from obverse.tasks.examples import Example  # noqa: E402
from obverse.tasks.mixture import Mixture  # noqa: E402
from obverse.tasks.wordings import AskedSource, AskedText, Facet, WordedSource  # noqa: E402
from obverse.training.loop import TrainingSettings, train  # noqa: E402
from obverse.training.network import Lengths, pair_network, save_pretrained  # noqa: E402
from obverse.training.optimizers import OptimizerSettings  # noqa: E402
from obverse.training.watch import Watcher  # noqa: E402

OBJECTIVE = Objective(Similarity(), negatives=2, likelihood=0.0, choice=1.0, choice_scale=10.0)
WORDS = ["the", "film", "was", "bright", "dull", "good", "bad", "happy", "sad", "very", "what", "mood", "?"]


def made() -> SentenceEncoderModel:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(special)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS) + 5, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=0,
    )  # fmt: skip
    return SentenceEncoderModel(BertModel(config, add_pooling_layer=False).eval(), fast, name="tiny")


def mixture() -> Mixture:
    facet = Facet("mood", ("what mood ?",), {"up": ("good", "happy"), "down": ("bad", "sad")})
    examples = [Example("1", {"text": "the film was very bright"}, "up"), Example("2", {"text": "dull"}, "down")]
    asked = AskedText("1", "the film was dull", (("what ?", ("very bad", "very good", "happy film")),))
    return Mixture([WordedSource("mood", examples, facet), AskedSource("asked", [asked])], rates=[1.0, 1.0], seed=2)


def rows(network, draws):
    out = []
    for group, draw in enumerate(draws):
        out += network.rows(OBJECTIVE.pairs(draw, group, stream(0, group)), 0)
    return out


def test_a_row_gives_the_cosine_of_its_sides():
    model = made()
    network = pair_network(model, lengths=Lengths(32, 16))
    draws = [mixture().draw(i) for i in range(6)]
    found = network(rows(network, draws))
    assert found.mask_NT.tolist() == [[1.0]] * len(found.log_probs_NT)
    place = 0
    for group, draw in enumerate(draws):
        for pair in OBJECTIVE.pairs(draw, group, stream(0, group)):
            both = sentence_vectors(
                model.model, model.tokenizer, [draw.rendering.input_text, draw.options[pair.option]]
            )
            assert float(found.log_probs_NT[place, 0].detach()) == pytest.approx(float(both[0] @ both[1]), abs=1e-6)
            place += 1
    queries = [OBJECTIVE.direction.query(draws[0].rendering, option) for option in draws[0].options]
    answers = model.log_likelihoods(queries)
    assert [a.tokens for a in answers] == [1] * len(queries)
    assert model.encode_all(queries, tokens=network._tokens)[0][0][0] == 2  # [CLS] first


def test_the_instruction_is_no_part_of_what_is_compared():
    draw = mixture().draw(0)
    query = Similarity().query(draw.rendering, "good")
    assert query == Query(draw.rendering.input_text, "good")
    assert "?" not in query.given


def test_the_loss_is_the_cross_entropy_of_scaled_cosines_and_falls(tmp_path):
    model = made()
    network = pair_network(model, lengths=Lengths(32, 16))
    drawn = mixture()
    draws = [drawn.draw(i) for i in range(4)]
    by_hand = []
    for group, draw in enumerate(draws):
        pairs = OBJECTIVE.pairs(draw, group, stream(3, "negatives", "similarity", group))
        options = [draw.options[pair.option] for pair in pairs]
        vectors = sentence_vectors(model.model, model.tokenizer, [draw.rendering.input_text, *options])
        scores = 10.0 * np.asarray(vectors[1:] @ vectors[0], dtype=float)
        by_hand.append(math.log(np.exp(scores).sum()) - scores[0])

    found = []

    class Losses(Watcher):
        def step(self, step, parts, **_):
            found.append(sum(parts.values()))

    train(
        network,
        drawn,
        [OBJECTIVE],
        TrainingSettings(20, 4, OptimizerSettings("adamw", 2e-3), token_budget=64, seed=3),
        output=tmp_path / "run",
        watcher=Losses(),
        fingerprint={},
    )
    assert found[0] == pytest.approx(sum(by_hand) / 4, abs=1e-5)
    assert sum(found[-4:]) < sum(found[:4])
    folder = save_pretrained(network, tmp_path / "model")
    loaded = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    texts = ["the film was bright", "good"]
    assert np.allclose(
        sentence_vectors(loaded, model.tokenizer, texts),
        sentence_vectors(model.model, model.tokenizer, texts),
        atol=1e-6,
    )


def test_a_sentence_encoder_says_no_sink():
    network = pair_network(made(), lengths=Lengths(32, 16))
    with pytest.raises(RecipeError, match="says no tokens"):
        network(rows(network, [mixture().draw(0)]), sink=True)
    with pytest.raises(RecipeError, match="256"):
        pair_network(made(), lengths=Lengths(300, 16))


RECIPE = """
steps = 2
examples_per_step = 2
[model]
base = "{base}"
[lengths]
given = 20
said = 10
[optimizer]
rate = 1e-3
[[objectives]]
direction = "{direction}"
{terms}
[mixture]
tasks = ["trec"]
"""


@pytest.mark.parametrize(
    ("base", "direction", "terms", "fault"),
    [
        ("obverse-mini-base", "similarity", "", 'goes with base = "obverse-mini-encoder"'),
        ("obverse-mini-encoder", "flipped", "", 'goes with direction = "similarity"'),
        ("obverse-mini-encoder", "similarity", "likelihood = 1.0", "`choice` is its only term"),
        ("obverse-mini-encoder", "similarity", '[[objectives]]\ndirection = "similarity"\nname = "b"', "are several"),
    ],
)
def test_recipes_that_cannot_be_followed(tmp_path, base, direction, terms, fault):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(base=base, direction=direction, terms=terms))
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert fault in str(caught.value)


def test_a_recipe_for_it_is_read(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(base="obverse-mini-encoder", direction="similarity", terms="choice_scale = 20.0"))
    part = read_recipe(path).objectives[0]
    assert part == ObjectivePart("similarity", "similarity", negatives=1, likelihood=0.0, choice=1.0, choice_scale=20.0)
    assert isinstance(build_objective(part, "numbered").direction, Similarity)
