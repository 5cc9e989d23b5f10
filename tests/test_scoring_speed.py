"""The benchmark of scoring: its texts are as long as it says, and its checks can fail."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obverse.errors import ObverseError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from scoring_speed import alone, cases, models, report, run, work  # noqa: E402

CASES = {case.name: case for case in cases.CASES}
HARNESS = importlib.util.find_spec("lm_eval") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


@pytest.fixture(scope="module")
def tokenizers(folder: Path) -> dict[str, Any]:
    return {family: models.load_tokenizer(family, "tiny", folder) for family in ("gpt2", "llama", "t5")}


def counter(tokenizer: Any) -> Callable[[list[str]], list[int]]:
    return lambda texts: [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def found(**changes: Any) -> dict[str, Any]:
    """A case as `measure` leaves it: Obverse takes 1 s for 8 instances, the others 6 s for 4."""
    slow = {"half": [3.0, 3.1, 2.9], "few": [6.0, 6.2, 5.8]}
    own = {"few": [0.6, 0.6, 0.6], "many": [1.0, 1.0, 1.0]}
    ways = (cases.HARNESS, cases.PADDED, cases.SORTED, cases.ONE_BY_ONE)
    return {
        "case": "direct",
        "family": "t5",
        "size": "50m",
        "few": 4,
        "many": 8,
        "requests_an_instance": 4,
        "tokens": {"half": 100, "few": 200, "many": 400},
        "batches": dict.fromkeys(ways, 4) | {cases.TOGETHER: 1},
        "tuning": {way: {"4": 0.1, "16": None} for way in ways} | {cases.TOGETHER: {}},
        "seconds": {**dict.fromkeys(ways, slow), cases.TOGETHER: own},
        "differences": {way: {"nats": 1e-5, "nats_a_token": 1e-6} for way in cases.WAYS},
        "memory": {way: {"bytes": 2**20, "instances": 4, "positions": 80, "head": 8} for way in cases.WAYS},
        "account": {"asked": 620, "computed": 160, "planning": 0.25},
        "work": {"positions": 80, "head": 8, "attention": 10**8, "matrices": [[64, 128, 9 * 10**8]]},
        "rates": [[64, 128, 2e9]],
        "cube": {"width": 256, "rate": 4e9},
        "parameters": 50_000_000,
        "vocabulary": 32_128,
        "threads": 1,
        "gpu": None,
        "number_type": "float32",
        **changes,
    }


def content(*units: dict[str, Any]) -> dict[str, Any]:
    versions = {"obverse": "1", "lm-eval": None}
    return {
        "machine": {"processor": "a processor", "cores": 2, "python": "3", "versions": versions},
        "given": {"device": "cpu", "rounds": 3, "small": False, "size": ["50m"]},
        "units": list(units),
        "growth": [{"family": "gpt2", "rows": [{"queries": 1000, "seconds": 0.5, "planning": 0.9}]}],
    }


# Texts


@pytest.mark.parametrize("name", CASES)
def test_texts_have_the_stated_numbers_of_tokens(name: str, tokenizers: dict[str, Any]) -> None:
    stated = {
        "prefix": {(1350, 3)},
        "plain": {(150, 4)},
        "direct": {(150, 4)},
        "flipped": {(n + 4, 25) for n in (20, 300, 160)},
        "single": {(150, 1)},
        "causal-channel": {(3, 150)},
        "channel": {(4, 150)},
        "causal-flipped": {(153, 25)},
        "calibration": {(150, 3), (26, 3), (25, 3)},
    }
    case = CASES[name]
    for family in cases.FAMILIES[case.kind]:
        tokenizer = tokenizers[family]
        asked = cases.requests(case, cases.Words(counter(tokenizer)), 4)
        lengths = set()
        for prompt, said in (request for rows in asked for request in rows):
            read = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
            if case.kind == cases.CAUSAL:
                both = len(tokenizer(prompt + said, add_special_tokens=False)["input_ids"]) - read
            else:
                both = len(tokenizer(said, add_special_tokens=False)["input_ids"])
            lengths.add((read, both))
        assert lengths == stated[name]


def test_a_text_of_another_length_is_an_error(tokenizers: dict[str, Any]) -> None:
    words = cases.Words(counter(tokenizers["gpt2"]))
    [[request, *_]] = cases.requests(CASES["single"], words, 1)
    words.check([request], [(150, 1)], joint=True)
    with pytest.raises(ObverseError, match="150 given and 1 said tokens instead of 150 and 2"):
        words.check([request], [(150, 2)], joint=True)


def test_contexts_that_should_be_shared_are_the_same_texts(tokenizers: dict[str, Any]) -> None:
    words = cases.Words(counter(tokenizers["gpt2"]))
    direct = cases.requests(CASES["prefix"], words, 3)
    assert [len({given for given, _ in rows}) for rows in direct] == [1, 1, 1]
    assert len({given for rows in direct for given, _ in rows}) == 3
    begun = {
        given[: min(len(given) for rows in direct for given, _ in rows) // 2] for rows in direct for given, _ in rows
    }
    assert len(begun) == 1
    channel = cases.requests(CASES["causal-channel"], words, 3)
    assert len({given for rows in channel for given, _ in rows}) == 4
    calibration = cases.requests(CASES["calibration"], words, 3)
    assert [len(rows) for rows in calibration] == [16, 16, 16]
    assert len({request for rows in calibration for request in rows}) == 3 * 4 + 3 * 4


def test_the_first_instances_do_not_depend_on_how_many_there_are(tokenizers: dict[str, Any]) -> None:
    words = cases.Words(counter(tokenizers["t5"]))
    assert cases.requests(CASES["flipped"], words, 6)[:2] == cases.requests(CASES["flipped"], words, 2)


def test_mixed_lengths_have_the_same_mean_however_many_there_are() -> None:
    lengths = cases.lengths(CASES["flipped"], 200)
    assert (min(lengths), max(lengths)) == (20, 300)
    assert all(a + b == 320 for a, b in zip(lengths[::2], lengths[1::2], strict=True))
    assert len(set(lengths)) > 100


# The least work


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=4), st.lists(st.integers(0, 2), max_size=3)))
)
def test_beginnings_are_counted_once(lists: list[tuple[list[int], list[int]]]) -> None:
    rows = [(tuple(a), tuple(b)) for a, b in lists]
    read = {(a + b)[:n] for a, b in rows for n in range(1, len(a + b))}
    asked = {(a + b)[:n] for a, b in rows for n in range(len(a), len(a + b))}
    assert work.beginnings(rows) == (len(read), sum(map(len, read)), len(asked))


def test_least_work_of_a_small_encoder_decoder_by_hand(tokenizers: dict[str, Any]) -> None:
    network = models.build_network("t5", "stub", "cpu")
    least = work.least_work(network, [((5, 6, 7), (8, 9)), ((5, 6, 7), (8, 10)), ((5, 6, 7), (11,))])
    # Three tokens are read; the start and token 8 are said before something is asked.
    assert (least.positions, least.head) == (5, 2)
    # Encoder: 3 queries see 3 keys; decoder: 1 + 2 keys of its own and 2 times 3 across; 64 wide, 2 products, 2 FLOP.
    assert least.attention == 4 * 64 * (9 + 3 + 6)
    # Gate, inner and outer layer are 8 x 8, on both sides; the head is 8 x 928.
    assert least.matrices[8, 8] == 2 * 64 * 3 * (3 + 2)
    assert least.matrices[8, 928] == 2 * 8 * 928 * 2
    # Queries, keys and values: 3 of the encoder, 3 of the decoder, and across a query of the said, two of the read.
    assert least.matrices[8, 64] == 2 * 8 * 64 * (3 * 3 + 3 * 2 + 2 + 2 * 3)


# Checks


def test_answers_that_differ_are_a_fault() -> None:
    assert report.unsound(found()) == []
    for gap, soundly in ((0.9e-3, True), (1.1e-3, False), (float("inf"), False), (float("nan"), False)):
        differences = found()["differences"] | {cases.PADDED: {"nats": gap, "nats_a_token": gap}}
        faults = report.unsound(found(differences=differences))
        assert (not faults) is soundly
        assert soundly or "padded and obverse differ by" in faults[0]


def test_in_bf16_the_difference_a_token_counts() -> None:
    differences = found()["differences"] | {cases.PADDED: {"nats": 5.0, "nats_a_token": 0.05}}
    assert report.unsound(found(differences=differences, number_type="bfloat16")) == []
    differences[cases.PADDED]["nats_a_token"] = 0.2
    assert report.unsound(found(differences=differences, number_type="bfloat16"))


@pytest.mark.parametrize(("few", "sound"), [(6.0, True), (7.4, True), (7.6, False), (4.9, True), (4.7, False)])
def test_time_that_is_not_linear_is_a_fault(few: float, sound: bool) -> None:
    seconds = found()["seconds"] | {cases.SORTED: {"half": [3.0], "few": [few]}}
    faults = report.unsound(found(seconds=seconds))
    assert (not faults) is sound
    assert report.unsound(found(seconds=seconds), timed=False) == []


# The report


def test_ratios_and_shares_by_hand() -> None:
    # 6 s / 4 over 1 s / 8 is 12.
    assert report.ratios(found(), cases.PADDED) == pytest.approx([12.0, 12.4, 11.6])
    # (0.9 + 0.1) GFLOP in 1 s, of 2 GFLOP/s, and of 4.
    assert report.share(found()) == pytest.approx((0.5, 0.25))


def test_a_missed_target_is_said_plainly() -> None:
    assert report.verdict(CASES["direct"], found()) == "3 x lm-eval: met"
    seconds = found()["seconds"] | {cases.HARNESS: {"half": [0.6] * 3, "few": [1.2] * 3}}
    assert report.verdict(CASES["direct"], found(seconds=seconds)) == "**3 x lm-eval: MISSED**"
    assert "MISSED" in report.table(content(found(seconds=seconds)))


def test_without_the_harness_its_column_is_missing() -> None:
    seconds = {way: parts for way, parts in found()["seconds"].items() if way != cases.HARNESS}
    text = report.table(content(found(seconds=seconds)))
    assert "**lm-eval is missing**" in text
    assert "| missing |" in text
    assert "3 x lm-eval: not judged, lm-eval is missing" in text
    assert report.picture(content(found(seconds=seconds))).startswith(b"\x89PNG")


# The command


class Canned:
    """Answers as children would; `gap` is the difference of two ways."""

    gap = 1e-5
    asked: list[str] = []  # noqa: RUF012

    def run(self, function: str, settings: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(function)
        if function == "prepare":
            return {"seconds": 0.0}
        if function == "growth":
            return {"family": settings["family"], "rows": [{"queries": 100, "seconds": 0.1, "planning": 0.9}]}
        if function == "memory_case":
            return {"bytes": 1, "instances": 4, "positions": 8, "head": 4}
        gaps = {way: {"nats": self.gap, "nats_a_token": self.gap} for way in cases.WAYS}
        return found(case=settings["case"], family=settings["family"], size="tiny", differences=gaps)


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> type[Canned]:
    monkeypatch.setattr(Canned, "asked", [])
    monkeypatch.setattr(run, "Children", Canned)
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    return Canned


def test_ways_that_differ_leave_no_file(
    tmp_path: Path, canned: type[Canned], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(canned, "gap", 0.5)
    command = ["--small", "--output", str(tmp_path), "--work", str(tmp_path / "work")]
    assert run.main(command) == 1
    assert "nothing is written" in capsys.readouterr().err
    assert list(tmp_path.glob("scoring_speed*")) == []


def test_cases_are_kept_and_files_of_some_tell_of_these_alone(tmp_path: Path, canned: type[Canned]) -> None:
    command = ["--small", "--output", str(tmp_path), "--work", str(tmp_path / "work")]
    assert run.main([*command, "--case", "direct", "growth"]) == 0
    page = tmp_path / "scoring_speed.md"
    assert " --case direct growth --small`" in page.read_text(encoding="utf-8")
    assert [unit["case"] for unit in json.loads((tmp_path / "scoring_speed.json").read_text())["units"]] == ["direct"]
    canned.asked.clear()
    assert run.main(command) == 0
    assert canned.asked.count("time_case") == 1
    assert canned.asked.count("growth") == 0
    assert {path.suffix for path in tmp_path.glob("scoring_speed*")} == {".md", ".json", ".png"}
    canned.asked.clear()
    assert run.main([*command, "--rounds", "2"]) == 0
    assert canned.asked.count("time_case") == 2  # other settings, other figures


def test_an_output_that_is_not_there_is_found_before_any_work(
    tmp_path: Path, canned: type[Canned], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["--small", "--output", str(tmp_path / "absent")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert canned.asked == []


def test_the_small_run_from_end_to_end(tmp_path: Path, folder: Path, tokenizers: dict[str, Any]) -> None:
    script = BENCHMARKS / "scoring_speed" / "run.py"
    command = [sys.executable, str(script), "--small", "--output", str(tmp_path), "--work", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "scoring_speed.json").read_text(encoding="utf-8"))
    assert [unit["case"] for unit in kept["units"]] == ["direct", "single"]
    ways = [way for way in cases.WAYS if HARNESS or way != cases.HARNESS]
    for unit in kept["units"]:
        assert list(unit["seconds"]) == ways
        assert max(gap["nats"] for gap in unit["differences"].values()) < 1e-3
        told = unit["account"]
        assert told["computed"] == unit["memory"][cases.TOGETHER]["positions"]
        assert unit["spread"] > 0.1  # the answers are not all alike, or they would agree whatever was done
    direct, single = (unit["memory"] for unit in kept["units"])
    an_instance = {name: {way: m["positions"] / m["instances"] for way, m in memory.items()} for name, memory in
                   (("direct", direct), ("single", single))}  # fmt: skip
    # 384 + 64 for each of 4 options; 151 + 4 for each; 151 once, the start, and 3 of each option, of which two
    # begin alike.
    assert an_instance["direct"][cases.PADDED] == 4 * (384 + 64)
    assert an_instance["direct"][cases.SORTED] == 4 * (151 + 4)
    assert an_instance["direct"][cases.TOGETHER] == 151 + 1 + 4 * 3 - 1
    assert an_instance["single"][cases.PADDED] == 4 * 150
    assert an_instance["single"][cases.TOGETHER] == 150
    if HARNESS:
        assert an_instance["direct"][cases.HARNESS] == 4 * (151 + 4)
        assert an_instance["single"][cases.HARNESS] == 150  # it shares contexts of labels of one token
    text = (tmp_path / "scoring_speed.md").read_text(encoding="utf-8")
    assert ("lm-eval is missing" in text) is not HARNESS
    assert (tmp_path / "scoring_speed.png").read_bytes().startswith(b"\x89PNG")


def test_ways_alone_by_hand() -> None:
    unit = {
        "case": "flipped", "family": "t5", "size": "50m", "few": 2, "many": 4,
        "seconds": {cases.PADDED: [0.5, 0.7], cases.TOGETHER: [0.2, 0.2]},
        # 1.2 GFLOP in 0.8 s are 1.5 GFLOP/s; the matrices run at 2 and the square at 3.
        "work": {"attention": 2e8, "matrices": [(8, 8, 1e9)]}, "rates": [(8, 8, 2e9)], "cube": {"rate": 3e9},
        "account": {"planning": 0.012},
    }  # fmt: skip
    text = alone.table([unit], 2, ["flipped"])
    assert "| t5, 50m | 0.200 | 0.600; 3.0 x | 2.7 x padded | 75 %; 50 % | 1.2 % |" in text


def test_ways_alone_need_the_benchmark_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["alone.py", "--output", str(tmp_path), "--work", str(tmp_path / "work")])
    assert alone.main() == 2
    assert "Run benchmarks/scoring_speed/run.py first." in capsys.readouterr().err
    (tmp_path / "scoring_speed.json").write_text("[1]", encoding="utf-8")
    assert alone.main() == 2
    assert "is not what run.py writes" in capsys.readouterr().err
