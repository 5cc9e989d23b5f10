"""Work that is counted, memory limits that are kept, batches that are divided where memory is short."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from obverse.cli.main import app
from obverse.errors import ModelError
from obverse.models import work
from obverse.models.base import Conventions, LanguageModel
from obverse.models.causal import CausalModel
from obverse.models.counting import CountingModel
from obverse.models.seq2seq import Seq2SeqModel
from obverse.models.work import Budget, Work, divided
from obverse.queries import Query
from obverse.recipes.engine import size_in_bytes
from obverse.reports.work import work_lines
from tiny import gpt2, gpt2_tokenizer, t5, t5_tokenizer

CPU = torch.device("cpu")
MIB = 2**20


def causal(**rest):
    return CausalModel(gpt2(), gpt2_tokenizer(), name="tiny", conventions=Conventions(), **rest)


def seq2seq(**rest):
    return Seq2SeqModel(t5(), t5_tokenizer(), name="tiny", conventions=Conventions(eos="t0"), **rest)


QUERIES = [
    Query(given, f" {said}") for given in ("good bad", "good good bad") for said in ("good bad", "bad good good")
]


class TestCounting:
    def test_causal(self):
        lm = causal()
        lm.log_likelihoods([*QUERIES, QUERIES[0]])
        done = lm.work
        assert done.queries == 5
        # Read: the given text, and what is said without its last token.
        assert done.asked == (2 + 1) + (2 + 2) + (3 + 1) + (3 + 2) + (2 + 1)
        # One tree: good, then bad with good behind it and bad good; good bad with the same.
        assert done.computed == 1 + (1 + 1 + 2) + (2 + 1 + 2)
        assert done.batches == 1
        assert 0 < done.planning < done.seconds

    def test_encoder_decoder(self):
        lm = seq2seq()
        lm.log_likelihoods(QUERIES)
        # The start is read in place of the last scored token, the end of sequence: 2 and 3 tokens given, 2 and 3 said.
        assert lm.work.asked == 2 * (2 + 3) + (3 + 4) * 2
        # Each context once, padded to the longer; then a row a context: the start once, and behind it both said texts.
        assert lm.work.computed == 2 * 3 + 2 * (1 + 2 + 3)

    @pytest.mark.parametrize("make", [causal, seq2seq])
    def test_naive_computes_all_that_is_asked_and_answers_alike(self, make):
        lm = make()
        shared = lm.log_likelihoods(QUERIES * 2)
        lm = make()
        lm.limit(naive=True)
        alone = lm.log_likelihoods(QUERIES * 2)
        assert lm.work.computed == lm.work.asked
        for a, b in zip(shared, alone, strict=True):
            assert a.token_nats == pytest.approx(b.token_nats, abs=1e-5)

    def test_a_model_without_a_network_has_nothing_to_count(self):
        lm: LanguageModel = CountingModel()
        lm.limit(memory=10, naive=True)
        lm.log_likelihoods(QUERIES)
        assert lm.work == Work()


class TestBudget:
    def test_without_a_limit_it_stays(self):
        budget = Budget(CPU, 500)
        assert budget() == 500
        budget.note(500)
        assert budget() == 500

    def test_grows_while_the_measured_peak_allows(self, monkeypatch):
        peak = 0
        monkeypatch.setattr(work._Meter, "peak", lambda _: peak)
        budget = Budget(CPU, 1000)
        budget.limit(100 * MIB)
        sizes = [budget()]
        # A quarter of a mebibyte a token, and 4 whatever the batch.
        for _ in range(8):
            peak = max(peak, 4 * MIB + budget() * MIB // 4)
            budget.note(budget())
            sizes.append(budget())
        assert sizes[:3] == [64, 128, 256]
        assert peak < 100 * MIB
        # 80 % of the limit is aimed at.
        assert 280 <= sizes[-1] <= 310

    def test_shrinks_where_a_batch_took_more_than_it_should(self, monkeypatch):
        monkeypatch.setattr(work._Meter, "peak", lambda _: 200 * MIB)
        budget = Budget(CPU, 1000)
        budget.limit(100 * MIB)
        budget.note(64)
        assert budget() == 25

    def test_too_small(self):
        with pytest.raises(ModelError, match=r"(?s)limit of 5 bytes is too small.*at least 16MB"):
            Budget(CPU).limit(5)

    def test_a_system_that_does_not_tell(self, monkeypatch):
        monkeypatch.setattr(work, "_STATUS", Path("/nowhere/status"))
        with pytest.raises(ModelError, match="cannot be measured"):
            Budget(CPU).limit(100 * MIB)
        assert Budget(CPU).peak is None

    def test_a_limit_can_be_taken_away(self):
        budget = Budget(CPU, 700)
        budget.limit(100 * MIB)
        assert budget() == 64
        budget.limit(None)
        assert budget() == 700


class TestDivided:
    def test_halves_until_it_fits(self):
        sizes, halved = [], []

        def compute(some):
            sizes.append(len(some))
            if len(some) > 2:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ..")
            return [2 * each for each in some]

        assert divided(range(8), compute, halve=lambda: halved.append(1)) == [0, 2, 4, 6, 8, 10, 12, 14]
        assert sizes == [8, 4, 2, 2, 4, 2, 2]
        assert len(halved) == 3

    def test_one_that_does_not_fit_alone(self):
        def compute(some):
            raise torch.OutOfMemoryError("CUDA out of memory")

        with pytest.raises(ModelError, match=r"one text alone does not fit"):
            divided([1, 2], compute, halve=lambda: None)

    def test_other_faults_are_not_swallowed(self):
        def compute(some):
            raise RuntimeError("shapes do not fit")

        with pytest.raises(RuntimeError, match="shapes"):
            divided([1, 2], compute, halve=lambda: None)

    @pytest.mark.parametrize("make", [causal, seq2seq])
    def test_a_model_goes_on_with_smaller_batches(self, make, monkeypatch):
        queries = [Query(f"{q.given}{' good' * (i % 3)}", q.said) for i, q in enumerate(QUERIES * 3)]
        expected = make().log_likelihoods(queries)
        lm = make(token_budget=100)
        usual = type(lm._network).run_packed if make is causal else lm._encode_rows
        refused = []

        def run(*args):
            size = args[1].ids_T.numel() if make is causal else sum(map(len, args[0]))
            if size > 20:
                refused.append(size)
                raise RuntimeError("DefaultCPUAllocator: not enough memory")
            return usual(*args)

        if make is causal:
            monkeypatch.setattr(type(lm._network), "run_packed", run)
        else:
            monkeypatch.setattr(lm, "_encode_rows", run)
        for a, b in zip(lm.log_likelihoods(queries), expected, strict=True):
            assert a.token_nats == pytest.approx(b.token_nats, abs=1e-5)
        assert refused
        assert lm._budget() < 100


_MEASURED = """
import json, sys, torch
from transformers import GPT2Config, GPT2LMHeadModel
sys.path.insert(0, {tests!r})
from tiny import gpt2_tokenizer
from obverse.models.base import Conventions
from obverse.models.causal import CausalModel
from obverse.queries import Query
from obverse.recipes.engine import size_in_bytes
from obverse.reports.work import work_lines
torch.set_num_threads(1)
torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(vocab_size=24, n_embd=512, n_layer=2, n_head=4, n_positions=512))
lm = CausalModel(model, gpt2_tokenizer(), name="tiny", conventions=Conventions(), token_budget=16384)
lm._network
lm.log_likelihoods([Query("good bad", " good")])
limit = {limit}
lm.limit(memory=limit)
queries = [Query("good bad " * 60 + "good " * i, f" {{o}} bad") for i in range(250) for o in ("good", "bad")]
answers = lm.log_likelihoods(queries)
print(json.dumps([lm._budget.peak, lm._budget(), lm.work.batches, sum(a.nats for a in answers)]))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory cannot be measured on this system")
def test_three_limits_are_kept():
    found = {}
    for limit in (32 * MIB, 64 * MIB, 256 * MIB):
        script = _MEASURED.format(tests=str(Path(__file__).parent), limit=limit)
        out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
        found[limit] = json.loads(out.stdout)
    for limit, (peak, _, _, _) in found.items():
        assert peak < limit, found
    # A larger limit is made use of, and no answer depends on it.
    sizes = [size for _, size, _, _ in found.values()]
    assert sizes[0] < sizes[1] < sizes[2], found
    nats = [total for _, _, _, total in found.values()]
    assert nats == pytest.approx([nats[0]] * 3, abs=1e-2)


class TestCommandLine:
    @pytest.fixture
    def table(self, tmp_path):
        path = tmp_path / "texts.csv"
        path.write_text("text\ngood good film\nbad film\ngood good film\n", encoding="utf-8")
        return path

    def told(self, table, *options):
        out = table.with_name("out.csv")
        args = ["predict", str(table), "--labels", "good, bad", "--method", "direct", "--output", str(out)]
        ran = CliRunner().invoke(app, [*args, "--overwrite", "--explain-plan", *options])
        assert ran.exit_code == 0, ran.output
        return out.read_text(encoding="utf-8"), ran.stdout

    def test_the_account(self, table):
        rows, out = self.told(table)
        assert "Work: 6 queries of " in out
        assert "Memory beyond the weights: about " in out
        alone, out = self.told(table, "--plan", "naive")
        asked, computed = re.search(r"queries of ([\d,]+) tokens one by one; ([\d,]+) tokens computed", out).groups()
        assert asked == computed
        assert [row.split(",")[:2] for row in rows.splitlines()] == [row.split(",")[:2] for row in alone.splitlines()]
        limited, out = self.told(table, "--memory-limit", "200MB")
        assert limited == rows
        assert int(re.search(r"([\d,]+) MB at the peak", out)[1]) < 200

    def test_a_model_that_computes_nothing(self, table):
        _, out = self.told(table, "--model", "counting")
        assert "Work: nothing was computed" in out

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (["--plan", "naiv"], r"--plan: unknown plan 'naiv'\nDid you mean 'naive'"),
            (["--memory-limit", "lots"], r"--memory-limit: 'lots' is no size\nWrite a number and one of kB, MB"),
            (["--memory-limit", "0GB"], r"'0GB' is no size"),
            (["--memory-limit", "9" * 320], r"999' is no size"),
            (["--memory-limit", "1MB"], r"limit of 1,000,000 bytes is too small"),
        ],
    )
    def test_wrong_words(self, table, options, expected):
        args = ["predict", str(table), "--labels", "good, bad", "--output", str(table.with_name("out.csv"))]
        ran = CliRunner().invoke(app, [*args, *options])
        assert ran.exit_code == 2
        assert re.search(expected, ran.output)


@pytest.mark.parametrize(("text", "size"), [("512MB", 512 * 10**6), ("1.5 GiB", 3 * 2**29), ("300000000", 3 * 10**8)])
def test_sizes(text, size):
    assert size_in_bytes(text) == size


def test_the_account_in_words():
    work = Work(1, 10, 4, 1, 0.01, 0.1, 3, 2_000_000, None)
    assert work_lines(work) == [
        "Work: 1 query of 10 tokens one by one; 4 tokens computed in 1 batch, 2.5 times fewer.",
        "Shared beginnings: 3 tokens, each computed once.",
        "Time: 0.10 s in the model, 10.0 % of it planning and tokenising.",
        "Memory beyond the weights: about 2 MB estimated for a batch, the peak cannot be measured here.",
    ]
    assert (
        "8 tokens computed in 2 batches, 33 % more (25.0 % of them padding)."
        in work_lines(Work(2, 6, 8, 2, padding=2))[0]
    )


def test_the_account_tells_of_classes_that_share_nothing():
    lines = work_lines(Work(3, 30, 30, 2, unshared=2))
    assert lines[1].startswith("Read whole: 2 queries, for this class of network cannot go on")


class TestHeadRows:
    def test_so_many_that_logits_are_small(self):
        assert Budget(CPU).head_rows(50_000) == 160
        assert Budget(CPU).head_rows(10**9) == 1

    def test_under_a_limit_logits_and_probabilities_take_a_quarter_of_it(self):
        budget = Budget(CPU)
        budget.limit(64 * MIB)
        assert budget.head_rows(1000) == 64 * MIB // 4 // 8 // 1000
