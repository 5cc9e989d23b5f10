"""What is shared and how work is cut into batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from obverse.models.plan import Shared, batches, blocks, common_prefix, share

PAIRS = [("x", "a"), ("y", "a"), ("x", "b"), ("x", "a"), ("y", "a")]


def test_share_groups_by_given_and_drops_repetitions():
    assert share(PAIRS) == [Shared("x", ("a", "b"), ((0, 3), (2,))), Shared("y", ("a",), ((1, 4),))]


def test_blocks_split_large_groups():
    assert list(blocks(share(PAIRS), 2)) == [
        [Shared("x", ("a", "b"), ((0, 3), (2,)))],
        [Shared("y", ("a",), ((1, 4),))],
    ]
    assert list(blocks(share(PAIRS), 1)) == [
        [Shared("x", ("a",), ((0, 3),))],
        [Shared("x", ("b",), ((2,),))],
        [Shared("y", ("a",), ((1, 4),))],
    ]
    assert list(blocks([], 5)) == []


def test_batches_are_of_like_length_longest_first():
    assert list(batches([3, 100, 3, 99], 200, slack=8)) == [[1, 3], [0, 2]]
    assert list(batches([3, 3, 3], 6, slack=8)) == [[0, 1], [2]]
    assert list(batches([500], 10)) == [[0]]
    assert list(batches([], 10)) == []


def test_a_little_padding_is_cheaper_than_a_batch():
    assert list(batches([3, 100, 3, 99], 10_000, slack=1000)) == [[1, 3, 0, 2]]


@given(st.lists(st.integers(0, 60), max_size=80), st.integers(1, 300), st.integers(0, 100))
def test_batches_hold_every_row_once_within_the_budget(lengths, budget, slack):
    cut = batches(lengths, budget, slack=slack)
    assert sorted(i for batch in cut for i in batch) == list(range(len(lengths)))
    for batch in cut:
        width = max(lengths[i] for i in batch)
        area = width * len(batch)
        assert len(batch) == 1 or area <= budget
        assert area - sum(lengths[i] for i in batch) <= slack + area // 8


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abcd")), max_size=40), st.integers(1, 7))
def test_blocks_answer_every_pair_once(pairs, rows):
    answered = {}
    for block in blocks(share(pairs), rows):
        assert sum(len(group.said) for group in block) <= rows
        for group in block:
            for said, places in zip(group.said, group.places, strict=True):
                for place in places:
                    assert place not in answered
                    answered[place] = (group.given, said)
    assert [answered[place] for place in range(len(pairs))] == pairs


@given(st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), min_size=1, max_size=6))
def test_common_prefix_is_the_longest(sequences):
    n = common_prefix(sequences)
    assert len({s[:n] for s in sequences}) == 1
    assert min(map(len, sequences)) == n or len({s[: n + 1] for s in sequences}) > 1


def test_common_prefix_of_nothing():
    assert common_prefix([]) == 0
