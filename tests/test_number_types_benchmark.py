"""The benchmark of number types: what it counts, and what it says where a type cannot be measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obverse.models.bundled import FOLDER
from obverse.models.checkpoints import load_model

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import number_types as benchmark  # noqa: E402

FIRST = benchmark.Answers(
    "first",
    "flipped",
    np.array([0, 1, 1, 0]),
    {
        "fp32": np.array([[-1.0, -2.0], [-3.0, -1.0], [-1.0, -1.5], [-1.0, -4.0]]),  # 0 1 0 0: three right
        "int8": np.array([[-1.0, -2.5], [-1.0, -1.5], [-1.0, -1.5], [-1.0, -4.0]]),  # 0 0 0 0: two right
    },
    {
        "fp32": np.array([[0.7, 0.3], [0.4, 0.6], [0.6, 0.4], [0.9, 0.1]]),
        "int8": np.array([[0.8, 0.2], [0.6, 0.4], [0.6, 0.4], [0.9, 0.1]]),
    },
    {"fp32": [4.0, 5.0, 6.0], "int8": [2.0, 9.0, 3.0]},
)
SECOND = benchmark.Answers(
    "second",
    "flipped",
    np.array([0, 2]),
    {t: np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]) for t in ("fp32", "int8")},
    {t: np.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]]) for t in ("fp32", "int8")},
    {"fp32": [1.0, 1.0, 1.0], "int8": [1.0, 1.0, 1.0]},
)


def test_a_type_is_compared_text_by_text_and_sets_weigh_the_same():
    found = benchmark.compared([FIRST, SECOND], "int8")
    assert (found["differ"], found["texts"]) == (1, 6)
    assert found["accuracy"] == pytest.approx((0.5 + 1) / 2)
    assert found["accuracy_difference"] == pytest.approx((-0.25 + 0) / 2)
    low, high = found["accuracy_interval"]
    assert low < -0.125 < high == 0
    # Of 14 scores three have moved: by 0.5, 2 and 0.5.
    assert (found["score_median"], found["score_largest"]) == (0, 2)
    assert found["probability_largest"] == pytest.approx(0.2)
    assert found["lead_where_differ"] == pytest.approx(0.2)
    # Medians 5 + 1 against 3 + 1 seconds.
    assert found["faster"] == pytest.approx(1.5)
    assert found["texts_per_second"] == pytest.approx(6 / 4)
    assert found["faster_by_round"] == pytest.approx([5 / 3, 6 / 10, 7 / 4])


def test_fp32_is_compared_with_nothing():
    assert benchmark.compared([FIRST, SECOND], "fp32") == {
        "texts": 6,
        "seconds": 6.0,
        "texts_per_second": 1.0,
        "accuracy": pytest.approx((0.75 + 1) / 2),
    }


def test_types_take_turns():
    called = []

    def maker(name: str) -> Any:
        return lambda: lambda: called.append(name)

    _, seconds = benchmark.timed({name: maker(name) for name in "abc"}, 3)
    assert "".join(called) == "abcbcacab"
    assert [len(each) for each in seconds.values()] == [3, 3, 3]


def test_types_that_cannot_be_are_named():
    models, lacking = benchmark.models_by_type(lambda: load_model("counting"))
    assert list(models) == ["fp32"]
    assert list(lacking) == ["bf16", "int8"]
    assert "bf16" in lacking["bf16"]


@pytest.mark.parametrize(
    ("interval", "told"),
    [
        ([-0.02, -0.001], "less accurate"),
        ([0.001, 0.02], "more accurate"),
        ([-0.01, 0.0], "no difference in accuracy found"),
    ],
)
def test_conclusions_follow_the_figures(interval: list[float], told: str):
    found = benchmark.compared([FIRST, SECOND], "int8") | {"accuracy_interval": interval}
    content = {
        "lacking": {"bf16": "no instructions for it"},
        "lowered": ["int8"],
        "mini": {"methods": {"flipped": {"int8": found}}},
        "networks": {"single": {"int8": {"faster": 0.5}}, "direct": {"int8": {"faster": 1.25}}},
    }
    first, second = benchmark.conclusions(content)
    assert first == "* bf16 was not measured: no instructions for it."
    assert "1.50 times as fast as fp32, 1 of 6 labels differ (in fp32 those were ahead by at most 0.200" in second
    assert f", {told}: -12.50 points" in second
    assert second.endswith("0.50 to 1.25 times as fast as in fp32.")


def test_a_folder_that_lacks_data_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert benchmark.main(["--data", str(tmp_path), "--output", str(tmp_path), "--small"]) == 2
    assert (
        capsys.readouterr().err == f"{tmp_path / 'p3'}: there is no such folder\n--data names the one that holds p3/.\n"
    )
    (tmp_path / "p3").mkdir()
    assert benchmark.main(["--data", str(tmp_path), "--output", str(tmp_path), "--small"]) == 2
    assert "cr has no split 'validation'" in capsys.readouterr().err
    assert benchmark.main(["--data", str(tmp_path), "--output", str(tmp_path / "none"), "--small"]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["p3"]


def test_a_set_without_its_columns_or_label_names_is_refused(tmp_path: Path):
    write_set(tmp_path, "cr", {"words": ["Fine."], "label": [1]})
    with pytest.raises(benchmark.DataError, match="no columns 'text' and 'label'"):
        benchmark.open_sets(tmp_path, ["cr"], 1)
    write_set(tmp_path, "banking77", {"text": ["My card is late."], "label": [11]})
    with pytest.raises(benchmark.DataError, match=r"index\.json: does not say"):
        benchmark.open_sets(tmp_path, ["banking77"], 1)
    (tmp_path / "index.json").write_text(
        json.dumps({"p3": [{"name": "banking77", "label_names": [f"case_{i}" for i in range(77)]}]}), encoding="utf-8"
    )
    (opened,) = benchmark.open_sets(tmp_path, ["banking77"], 1)
    assert opened.labels[:3] == ("case 0", "case 8", "case 11")
    assert opened.gold.tolist() == [2]


@pytest.mark.skipif(not (FOLDER / "weights.safetensors").is_file(), reason="the bundled model is not there")
@pytest.mark.parametrize("able", [True, False])
def test_a_small_run_writes_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, able: bool):
    write_set(tmp_path, "cr", {"text": ["It broke at once.", "I would buy it again."], "label": [0, 1]})
    write_set(tmp_path, "emotion", {"text": ["I could cry.", "What a lovely day!"], "label": [0, 1]})
    for name in ("_is_avx512_bf16_supported", "_is_vnni_supported"):
        # What a processor computes slowly it computes all the same.
        monkeypatch.setattr(f"torch.cpu.{name}", lambda: able)
    folders = ["--output", str(tmp_path), "--work", str(tmp_path / "work")]
    assert benchmark.main(["--data", str(tmp_path), "--small", "--rows", "2", *folders]) == 0
    content = json.loads((tmp_path / "number_types.json").read_text(encoding="utf-8"))
    page = (tmp_path / "number_types.md").read_text(encoding="utf-8")
    types = ["fp32", "bf16", "int8"] if able else ["fp32"]
    assert [list(found) for found in content["mini"]["methods"].values()] == [types, types]
    assert [list(found) for found in content["networks"].values()] == [types] * 3
    assert page.count("| not measured: ") == (0 if able else 2 * (2 + 3))
    assert "Command: `python benchmarks/number_types.py --data DATA --rows 2 --small`." in page
    assert str(tmp_path) not in page


def write_set(data: Path, name: str, columns: dict[str, list[Any]]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    (data / "p3" / name).mkdir(parents=True)
    parquet.write_table(pyarrow.table(columns), data / "p3" / name / "validation.parquet")
