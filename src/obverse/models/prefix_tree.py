"""What causal models read of many queries, as a tree in which every shared beginning stands once.

Pure bookkeeping over token ids: which tokens are computed, in which batches, and where each scored token is read off.
Nothing here changes an answer. A beginning that many texts share, and that is too large for one batch together with
all of them (demonstrations, an instruction, a label in the channel direction), is computed first and stored. What is
left of a context stands with all that is said after it in one group, in which a token sees its own ancestors only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Tokens = tuple[int, ...]

# Tokens that storing a beginning has to save before it is worth a place of its own in the tree.
_WORTH_STORING = 64
# Pairs of places that are compared in the time of one token, through a layer of some 700 units.
_PAIRS_A_TOKEN = 4096
# Stored tokens that are held at a time for what stands behind them, in batches.
_HELD_BATCHES = 4


@dataclass(eq=False, slots=True)
class Stored:
    """A beginning that is computed once, before everything behind it.

    Attributes:
        tokens: its ids.
        behind: what it follows itself.
        payload: whatever the network keeps of it.
    """

    tokens: Tokens
    behind: Stored | None = None
    payload: Any = None

    @property
    def path(self) -> tuple[Stored, ...]:
        """All that is seen from behind it, from the first token on."""
        out: list[Stored] = []
        each: Stored | None = self
        while each is not None:
            out.append(each)
            each = each.behind
        return tuple(reversed(out))


@dataclass(frozen=True, slots=True)
class Ask:
    """A scored token: read off the state at `offset` of a run, wanted as number `index` of what `row` says."""

    offset: int
    row: int
    index: int
    token: int


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens of a group that follow one another, behind the group's run `parent` (-1: the first one)."""

    tokens: Tokens
    parent: int
    asks: tuple[Ask, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Tokens that go through the network together.

    A token sees those in front of it in its own run, the runs that its run follows, and the path of `behind`.

    Attributes:
        runs: parents before children.
        behind: what was stored before; None where the group begins its texts.
        keep: where the network is to store the group, which then is a single run.
    """

    runs: tuple[Run, ...]
    behind: Stored | None = None
    keep: Stored | None = None

    @property
    def length(self) -> int:
        """Its tokens."""
        return sum(len(run.tokens) for run in self.runs)

    @property
    def shape(self) -> tuple[tuple[int, int], ...]:
        """Length and parent of each run. In groups of one shape the same places see one another."""
        return tuple((len(run.tokens), run.parent) for run in self.runs)


Recall = Callable[[Tokens, int], Stored | None]
"""Given the tokens a text begins with: what an earlier call stored of at most so many of them, or None."""


def tree_batches(
    rows: Sequence[tuple[Tokens, Tokens]], budget: Callable[[], int], *, recall: Recall | None = None
) -> Iterator[list[Group]]:
    """The batches that compute all rows, each behind those it depends on.

    Args:
        rows: ids that are read (at least one) and ids that are scored behind them. The last scored one is never read.
        budget: tokens of the next batch at most; a longer text that shares nothing stands alone.
        recall: what is still stored.

    Returns:
        lists of groups. Every scored token of every row is asked for exactly once.
    """
    root = _tree(rows)
    waiting: list[tuple[list[_Branch], bool]] = [([_Branch(node) for node in root.children], False)]
    while waiting:
        branches, stores = waiting.pop()
        if stores:
            keeps: list[Group] = []
            behind: list[_Branch] = []
            for branch in branches:
                group, children = branch.stored(recall)
                keeps.extend(group)
                behind.extend(children)
            yield from _filled(keeps, budget)
            branches = behind
        whole, large = _parted(branches, budget())
        yield from _filled([group for branch in whole for group in branch.groups(recall)], budget)
        waiting.extend((piece, True) for piece in reversed(_pieces(large, _HELD_BATCHES * budget())))


def packed(start: Tokens, said: Sequence[Tokens], most: int) -> list[Group]:
    """Texts that all begin with the same tokens as groups of at most so many tokens, each of them with that beginning.

    Args:
        start: at least one token.
        said: ids that are scored behind it; the last one is never read. Texts without any are in no group.
        most: of a group; a longer text stands alone.

    Returns:
        groups whose `Ask.row` counts `said`.
    """
    groups = []
    members: list[int] = []
    tokens = 0
    before: Tokens = ()
    for i in sorted((i for i, ids in enumerate(said) if ids), key=said.__getitem__):
        read = said[i][:-1]
        fresh = len(read) - _alike(before, read)
        if members and len(start) + tokens + fresh > most:
            groups.append(_packed(start, said, members))
            members, tokens, fresh = [], 0, len(read)
        members.append(i)
        tokens += fresh
        before = read
    if members:
        groups.append(_packed(start, said, members))
    return groups


def _packed(start: Tokens, said: Sequence[Tokens], members: Sequence[int]) -> Group:
    root = _tree([(start, said[i]) for i in members], numbers=members)
    (group,) = _Branch(root.children[0]).groups(None)
    return group


@dataclass(eq=False, slots=True)
class _Node:
    """A run of tokens with no fork inside, in the tree of all rows."""

    tokens: Tokens
    start: int
    parent: _Node | None
    children: list[_Node] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    size: int = 0


@dataclass(eq=False, slots=True)
class _Branch:
    """A node with all below it, behind tokens of its parents that were not worth storing."""

    node: _Node
    behind: Stored | None = None
    prefix: Tokens = ()
    prefix_asks: tuple[Ask, ...] = ()

    @property
    def size(self) -> int:
        return len(self.prefix) + self.node.size

    @property
    def saving(self) -> int:
        """Tokens that are not computed again if this node is stored."""
        return (len(self.prefix) + len(self.node.tokens)) * (len(self.node.children) - 1)

    @property
    def is_wide(self) -> bool:
        """Whether its children see so little in common that pairs of places would be computed for nothing.

        In a group all places are compared. A beginning of one token that all texts share must not make one group of
        them: to compute the token again for each costs less.
        """
        front = len(self.prefix) + len(self.node.tokens)
        children = [front + child.size for child in self.node.children]
        saved = self.size**2 - sum(size**2 for size in children)
        return saved > _PAIRS_A_TOKEN * front * (len(children) - 1)

    def children(self) -> list[_Branch]:
        """The branches below, each with this one's tokens in front; what is asked of these is asked once."""
        tokens, asks = self._run()
        return [
            _Branch(child, self.behind, tokens, asks if i == 0 else ()) for i, child in enumerate(self.node.children)
        ]

    def stored(self, recall: Recall | None) -> tuple[list[Group], list[_Branch]]:
        """What has to be computed to store this node, if anything, and the branches behind it."""
        behind, tokens, asks = self._recalled(recall)
        groups = []
        if tokens:
            behind = Stored(tokens, behind)
            groups.append(Group((Run(tokens, -1, asks),), behind.behind, behind))
        return groups, [_Branch(child, behind) for child in self.node.children]

    def groups(self, recall: Recall | None) -> list[Group]:
        """This branch whole: one group, or one for each child where all in front of them is still stored."""
        behind, tokens, asks = self._recalled(recall)
        if not tokens:
            return [group for child in self.node.children for group in _Branch(child, behind).groups(None)]
        runs = [Run(tokens, -1, asks)]
        todo = [(child, 0) for child in reversed(self.node.children)]
        while todo:
            node, parent = todo.pop()
            todo.extend((child, len(runs)) for child in reversed(node.children))
            runs.append(Run(node.tokens, parent, tuple(node.asks)))
        return [Group(tuple(runs), behind)]

    def _run(self) -> tuple[Tokens, tuple[Ask, ...]]:
        return self.prefix + self.node.tokens, (*self.prefix_asks, *_moved(self.node.asks, len(self.prefix)))

    def _recalled(self, recall: Recall | None) -> tuple[Stored | None, Tokens, tuple[Ask, ...]]:
        """What is stored of the beginning, and the tokens and asks that are left."""
        tokens, asks = self._run()
        # A token that something is read off has to be computed.
        most = min([len(tokens), *(ask.offset for ask in asks)])
        if self.behind is not None or recall is None or most <= 0:
            return self.behind, tokens, asks
        found = recall(tokens, most)
        if found is None:
            return None, tokens, asks
        done = sum(len(each.tokens) for each in found.path)
        return found, tokens[done:], tuple(_moved(asks, -done))


def _tree(rows: Sequence[tuple[Tokens, Tokens]], numbers: Sequence[int] | None = None) -> _Node:
    """The tree of what the rows read; its root is empty. What is asked goes by the rows' numbers, if they have any."""
    reads = [given + said[:-1] for given, said in rows]
    root = _Node((), 0, None)
    leaves: list[_Node] = [root] * len(rows)
    # In order, rows that begin alike stand side by side, and each leaves the path of the one before at the first token
    # in which they differ.
    path = [root]
    before: Tokens = ()
    for i in sorted(range(len(reads)), key=reads.__getitem__):
        read = reads[i]
        shared = _alike(before, read)
        while len(path) > 1 and path[-1].start >= shared:
            path.pop()
        end = path[-1].start + len(path[-1].tokens)
        if end > shared:
            path[-1] = _split(path[-1], shared)
        if len(read) > shared:
            leaf = _Node(read[shared:], shared, path[-1])
            path[-1].children.append(leaf)
            path.append(leaf)
        leaves[i] = path[-1]
        before = read
    for i, (given, said) in enumerate(rows):
        node = leaves[i]
        for j in range(len(said) - 1, -1, -1):
            place = len(given) - 1 + j
            while node.start > place:
                node = node.parent or root
            node.asks.append(Ask(place - node.start, i if numbers is None else numbers[i], j, said[j]))
    _measure(root)
    return root


def _split(node: _Node, place: int) -> _Node:
    """Cut a node in two at a place of its texts; `node` stays the lower part. Returns the upper one."""
    cut = place - node.start
    upper = _Node(node.tokens[:cut], node.start, node.parent, [node])
    if node.parent is not None:
        # Rows come in order, so the one on the path is the last of its siblings.
        node.parent.children[-1] = upper
    node.tokens, node.start, node.parent = node.tokens[cut:], place, upper
    return upper


def _measure(root: _Node) -> None:
    order = [root]
    for node in order:
        order.extend(node.children)
    for node in reversed(order):
        node.size = len(node.tokens) + sum(child.size for child in node.children)


def _alike(a: Tokens, b: Tokens) -> int:
    """How many first items two sequences have in common."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _moved(asks: Iterable[Ask], by: int) -> Iterator[Ask]:
    return (Ask(ask.offset + by, ask.row, ask.index, ask.token) for ask in asks)


def _parted(branches: Sequence[_Branch], budget: int) -> tuple[list[_Branch], list[_Branch]]:
    """The branches that are computed whole, and those whose first node is stored before."""
    whole, large = [], []
    todo = list(reversed(branches))
    while todo:
        branch = todo.pop()
        if not branch.node.children or (branch.size <= budget and not branch.is_wide):
            whole.append(branch)
        elif branch.saving >= _WORTH_STORING:
            large.append(branch)
        else:
            todo.extend(reversed(branch.children()))
    return whole, large


def _pieces(branches: Sequence[_Branch], most: int) -> list[list[_Branch]]:
    out: list[list[_Branch]] = []
    tokens = 0
    for branch in branches:
        length = len(branch.prefix) + len(branch.node.tokens)
        if not out or tokens + length > most:
            out.append([])
            tokens = 0
        out[-1].append(branch)
        tokens += length
    return out


def _filled(groups: Sequence[Group], budget: Callable[[], int]) -> Iterator[list[Group]]:
    """Groups in batches; those behind the same and of the same shape side by side."""
    paths: dict[int, int] = {}
    ordered = sorted(
        groups, key=lambda group: (paths.setdefault(id(group.behind), len(paths)), -group.length, group.shape)
    )
    batch: list[Group] = []
    tokens = 0
    for group in ordered:
        length = group.length
        if batch and tokens + length > budget():
            yield batch
            batch, tokens = [], 0
        batch.append(group)
        tokens += length
    if batch:
        yield batch
