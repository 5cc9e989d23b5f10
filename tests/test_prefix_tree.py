"""The tree of what causal models read: each token behind what it follows, each scored token asked for once."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obverse.models.prefix_tree import Stored, packed, tree_batches


def read_off(rows, budget, recall=None):
    """Walk the batches as a network would, with the text read so far as its state; returns texts and token counts."""
    seen = {}
    found = {}
    lengths = []
    for batch in tree_batches(rows, lambda: budget, recall=recall):
        lengths.append(sum(group.length for group in batch))
        fresh = []
        for group in batch:
            before = ()
            for stored in group.behind.path if group.behind is not None else ():
                # What is stored was computed in an earlier batch.
                before += seen[id(stored)]
            texts = []
            for run in group.runs:
                start = before if run.parent < 0 else texts[run.parent]
                texts.append(start + run.tokens)
                for ask in run.asks:
                    assert (ask.row, ask.index) not in found
                    found[ask.row, ask.index] = (start + run.tokens[: ask.offset + 1], ask.token)
            if group.keep is not None:
                assert len(group.runs) == 1
                fresh.append((group.keep, group.runs[0].tokens))
        for keep, tokens in fresh:
            assert keep.tokens == tokens
            seen[id(keep)] = tokens
    return found, lengths


def check(rows, budget, recall=None):
    found, lengths = read_off(rows, budget, recall)
    expected = {
        (i, j): (begun + said[:j], token) for i, (begun, said) in enumerate(rows) for j, token in enumerate(said)
    }
    assert found == expected
    return lengths


tokens = st.lists(st.integers(0, 2), max_size=12).map(tuple)
rows_of_tokens = st.lists(st.tuples(tokens.map(lambda t: (0, *t)), tokens), min_size=1, max_size=12)


@given(rows_of_tokens, st.sampled_from([1, 3, 10, 1000]))
@settings(max_examples=300, deadline=None)
def test_every_token_is_asked_for_once_behind_its_own_text(rows, budget):
    check(rows, budget)


@given(st.lists(tokens, min_size=2, max_size=8), tokens, st.integers(30, 80), st.sampled_from([16, 64, 200]))
@settings(max_examples=100, deadline=None)
def test_with_a_long_common_beginning(contexts, said, stem, budget):
    rows = [((*([1] * stem), *context), (*said, option)) for context in contexts for option in (0, 1, 2)]
    check(rows, budget)


def test_a_whole_tree_that_fits_is_one_batch_with_every_token_once():
    rows = [((5, 6, 7), (1, 2)), ((5, 6, 7), (1, 3)), ((5, 6, 8), (4,)), ((9,), (1, 1))]
    # 5 6, then 7 with 1 behind it, and 8; 9 with 1 behind it.
    assert check(rows, 100) == [7]


def test_a_beginning_too_large_for_one_batch_is_computed_once():
    stem = tuple(range(100, 300))
    rows = [((*stem, i, i), (k, 9, 9)) for i in range(50) for k in (1, 2, 3)]
    lengths = check(rows, 64)
    assert lengths[0] == 200
    # Behind it each context has 2 tokens, and 2 of each of its three options.
    assert sum(lengths) == 200 + 50 * (2 + 3 * 2)
    assert max(lengths[1:]) <= 64


def test_labels_of_the_channel_direction_are_stored_each_once():
    stem, labels = tuple(range(100, 200)), [(1, 2, 3), (4, 5, 6)]
    inputs = [tuple(range(1000 * i, 1000 * i + 40)) for i in range(1, 31)]
    rows = [((*stem, *label), text) for text in inputs for label in labels]
    lengths = check(rows, 128)
    assert sum(lengths) == 100 + 2 * 3 + 2 * 30 * 39


def test_short_common_beginnings_are_not_worth_a_batch_of_their_own():
    rows = [((7, *range(10 * i, 10 * i + 9)), (1,)) for i in range(1, 9)]
    # 8 tokens saved at most: the 7 is computed in front of each.
    assert sum(check(rows, 20)) == 8 * 10


def test_texts_that_share_next_to_nothing_are_no_group():
    # A mark in front of all texts, which together fit into a batch.
    rows = [((0, *range(1000 * i, 1000 * i + 150)), (k, 1)) for i in range(1, 6) for k in (1, 2, 3)]
    batches = list(tree_batches(rows, lambda: 5000))
    assert [[group.length for group in batch] for batch in batches] == [[154] * 5]


def test_what_is_still_stored_is_not_computed_again():
    stem = tuple(range(50))
    kept = Stored(stem)
    rows = [((*stem, i), (k, 1)) for i in (60, 61) for k in (1, 2)]
    computed = []
    for batch in tree_batches(rows, lambda: 1000, recall=lambda tokens, most: kept if most >= 50 else None):
        computed.extend(batch)
        assert all(group.behind is kept for group in batch)
    assert sum(group.length for group in computed) == 2 * (1 + 2)


def test_tokens_that_something_is_read_off_are_not_recalled():
    asked = []
    rows = [((1, 2, 3), (4, 5, 6, 7)), ((1, 2, 3, 4, 5, 6), (8,))]

    def recall(tokens, most):
        asked.append(most)

    check(rows, 1000, recall)
    # 4 is read off the third token, which therefore has to be computed.
    assert asked == [2]


def test_deep_trees_do_not_exhaust_the_stack():
    rows = [(tuple(range(n)), (n,)) for n in range(1, 2000, 3)]
    lengths = check(rows, 10**6)
    assert sum(lengths) == 1999 or sum(lengths) == max(len(g) for g, _ in rows)


@pytest.mark.parametrize("budget", [1, 5])
def test_a_batch_holds_no_more_than_its_budget_unless_a_text_is_longer(budget):
    rows = [((i, *range(3 + i % 4)), (1, 2)) for i in range(10, 30)]
    for batch in tree_batches(rows, lambda: budget):
        assert sum(g.length for g in batch) <= budget or len(batch) == 1


def test_no_rows_no_batches():
    assert list(tree_batches([], lambda: 10)) == []


def test_equal_rows_are_all_answered():
    found, lengths = read_off([((1, 2), (3,)), ((1, 2), (3,)), ((1,), (2, 3))], 10)
    assert Counter(row for row, _ in found) == {0: 1, 1: 1, 2: 2}
    assert lengths == [2]


@given(st.lists(tokens, max_size=12), st.sampled_from([1, 4, 9, 1000]), st.sampled_from([(7,), (7, 8)]))
@settings(max_examples=300, deadline=None)
def test_packed_texts_are_asked_for_once_behind_their_beginning(said, most, start):
    found = {}
    for group in packed(start, said, most):
        assert group.behind is None
        assert group.keep is None
        members = {ask.row for run in group.runs for ask in run.asks}
        assert group.length <= max(most, *(len(start) + len(said[i]) - 1 for i in members))
        texts = []
        for run in group.runs:
            before = () if run.parent < 0 else texts[run.parent]
            texts.append(before + run.tokens)
            for ask in run.asks:
                assert (ask.row, ask.index) not in found
                found[ask.row, ask.index] = (before + run.tokens[: ask.offset + 1], ask.token)
    assert found == {(i, j): (start + ids[:j], token) for i, ids in enumerate(said) for j, token in enumerate(ids)}


def test_packed_texts_share_what_they_begin_with():
    (group,) = packed((9,), [(1, 2, 3), (1, 2, 4), (5, 6), (), (1, 7)], 100)
    # 9; behind it 1, behind that 2; and 5. The last token of each is never read.
    assert sorted(run.tokens for run in group.runs) == [(1,), (2,), (5,), (9,)]
    assert [group.length for group in packed((9,), [(1, 2, 3), (4, 5, 6), (7, 8)], 5)] == [5, 2]
