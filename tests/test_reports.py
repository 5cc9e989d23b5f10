"""Reports: what a reader finds in the terminal and in the pictures."""

from __future__ import annotations

import io
import json
import re
import struct
import warnings

import pytest
from rich.console import Console

from obverse.errors import DataError, LabelError, OutputError
from obverse.metrics.classification import Tally
from obverse.reports import figures
from obverse.reports.explanation import Explanation
from obverse.reports.figures import draw_explanation, draw_summary
from obverse.reports.summary import Summary
from obverse.reports.typography import duration, one_line, rate, shorten, shorten_names, signed

AWKWARD = ("Costs $5 or $10_a", "x_{1} \\frac", "😀 🚀 中文", "[red]not markup[/red]", ":smile:", "line\nbreak")


def tally(counts, *, abstained=None, confidence=0.8):
    """A tally with the given confusion counts."""
    classes = len(counts)
    result = Tally(classes)
    for i, row in enumerate(counts):
        for j, n in enumerate(row):
            for _ in range(n):
                result.add(i, j, confidence)
        for _ in range(abstained[i] if abstained else 0):
            result.add(i, None, 0.3)
    return result


def printed(thing, width=80, encoding="utf-8"):
    """What a pipe would get."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    thing.render(Console(file=file, width=width))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def diagonal(classes, right=5, wrong=1):
    return [
        [right if i == j else wrong if j == (i + 1) % classes else 0 for j in range(classes)] for i in range(classes)
    ]


def summary_of(classes=3, labels=None, **facts):
    labels = labels or [f"label {k}" for k in range(classes)]
    return Summary.of(
        tally(diagonal(len(labels))), labels, model="obverse-mini", method="flipped", resamples=50, **facts
    )


EXAMPLE = Summary.of(
    tally([[349, 59], [80, 485]], abstained=[12, 15]),
    ["praise", "complaint"],
    model="obverse-mini",
    method="flipped",
    length_rule="sum",
    calibration="batch",
    instruction="Is this\npraise or a complaint?",
    min_confidence=0.5,
    seconds=12.5,
    shortened=1203,
    empty=1,
    ties=2,
    notes=["The calibration was estimated on the first 1,000 rows."],
)


# --- the summary on the terminal ----------------------------------------------------------------------------------


def test_the_summary_says_what_there_is_to_say():
    text = printed(EXAMPLE)
    # 834 of 1,000 right, Wilson; 834 of the 973 that were answered
    for line in (
        "obverse-mini, flipped (length rule sum), calibration batch",
        "instruction: Is this praise or a complaint?",
        "1,000 texts in 12.5 s (80.0 texts a second)",
        "accuracy 0.834 (95 % interval 0.810 to 0.856, n = 1,000)",
        "accuracy where a label was given 0.857 (95 % interval 0.834 to 0.878, n = 973)",
        "- 27 texts below confidence 0.5: left without a label.",
        "- 1,203 texts cut to fit the model's window.",
        "- 1 text blank.",
        "- 2 ties between labels: the first label was taken.",
        "- The calibration was estimated on the first 1,000 rows.",
    ):
        assert line in text
    assert re.search(r"praise +429 +42\.9 % +█+\S* +0\.800", text)
    assert re.search(r"\(no label\) +27 +2\.7 % ", text)
    assert re.search(r"all +1,000 +0\.786", text)  # (973 * 0.8 + 27 * 0.3) / 1000 = 0.7865, binary just below
    # F1 698/849 of praise, 970/1124 of complaint... the mean of 2 * TP / (row + column)
    assert f"macro-F1 {(2 * 349 / (420 + 429) + 2 * 485 / (580 + 544)) / 2:.3f}" in text


def test_the_confusion_matrix_names_rows_and_columns():
    text = printed(EXAMPLE)
    assert re.search(r"gold +praise +complaint +\(no label\)", text)
    assert re.search(r"praise +349 +59 +12\n", text)
    assert re.search(r"complaint +80 +485 +15\n", text)


def test_without_gold_nothing_is_said_about_it():
    counts = Tally(2)
    counts.add(None, 1, 0.75)
    summary = Summary.of(counts, ["a", "b"])
    text = printed(summary)
    assert summary.gold is None and summary.labelled == 0
    assert "accuracy" not in text and "confusion" not in text
    assert re.search(r"b +1 +100\.0 % +█{20} +0\.750", text)
    assert re.search(r"a +0 +0\.0 % +-", text)


def test_no_rows_at_all_can_be_summarised():
    summary = Summary.of(Tally(2), ["a", "b"], seconds=0.0)
    assert "0 texts" in printed(summary)
    assert summary.texts_per_second is None and summary.to_json()["labels"][0]["share"] is None


@pytest.mark.parametrize("classes", [2, 6, 9, 12, 13, 40, 77])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_wider_than_the_console_or_coloured_in_a_pipe(classes, encoding, width):
    labels = [f"a rather long name of a label, number {k}" for k in range(classes)]
    text = printed(summary_of(labels=labels, notes=["word " * 40]), width=width, encoding=encoding)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_at_80_columns_no_number_and_no_head_is_cut(encoding):
    labels = [f"a rather long name of a label, number {k}" for k in range(12)]
    text = printed(Summary.of(tally(diagonal(12, right=120, wrong=34)), labels, resamples=20), encoding=encoding)
    assert "mean confidence" in text and "8.3 %" in text and "1,848" in text
    matrix = text[text.index("confusion:") :].splitlines()
    assert [line.split()[-1] for line in matrix[1:2]] == ["12"]
    assert sum(bool(re.search(r"\b120\b", line)) and bool(re.search(r"\b34\b", line)) for line in matrix) == 12


def test_long_names_are_shortened_but_stay_apart():
    labels = ["card payment not recognised (abroad)", "card payment not recognised (at home)", "other"]
    text = printed(summary_of(labels=labels))
    table = text[: text.index("accuracy")]
    assert re.search(r"card\S*.*…\S*.*\(abroad\)|card.*….*abroad\)", table)
    assert re.search(r"card.*….*home\)", table)


def test_many_classes_give_the_most_confused_pairs():
    counts = diagonal(15, right=20, wrong=0)
    counts[3][7] = 9
    counts[8][2] = 4
    text = printed(Summary.of(tally(counts), [f"label {k}" for k in range(15)], resamples=20))
    assert "confusion:" not in text
    assert re.search(r"label 3 +label 7 +9 +31\.0 %\n *\n?label 8 +label 2 +4 +16\.7 %", text)  # 9 of 29, 4 of 24


def test_many_labels_are_cut_to_the_most_frequent_and_nothing_is_lost():
    counts = Tally(30)
    for k in range(30):
        for _ in range(k + 1):
            counts.add(None, k, 0.5)
    text = printed(Summary.of(counts, [f"label {k}" for k in range(30)]))
    rows = re.findall(r"label (\d+) +(\d+) ", text)
    assert [int(k) for k, _ in rows] == list(range(29, 9, -1))
    assert re.search(r"10 more labels +55 +11\.8 % +0\.500", text)  # 1 + ... + 10 of 465


def test_labels_are_printed_letter_for_letter():
    text = printed(summary_of(labels=list(AWKWARD)))
    for label in (
        "Costs $5 or $10_a",
        "x_{1} \\frac",
        "😀 🚀 中文",
        "[red]not markup[/red]",
        ":smile:",
        "line\\nbreak",
    ):
        assert label in text


def test_colour_is_only_for_terminals():
    file = io.StringIO()
    EXAMPLE.render(Console(file=file, width=80, force_terminal=True, color_system="standard", legacy_windows=False))
    assert "\x1b[36m█" in file.getvalue()


def test_the_json_has_stable_keys_and_plain_values():
    data = json.loads(json.dumps(EXAMPLE.to_json()))
    assert list(data) == [
        "model", "method", "length_rule", "calibration", "instruction", "min_confidence", "rows", "labelled",
        "without_label", "below_min_confidence", "shortened", "empty", "ties", "seconds", "texts_per_second",
        "mean_confidence", "labels", "confidence_histogram", "gold", "notes",
    ]  # fmt: skip
    assert data["labels"][1] == {
        "label": "complaint",
        "count": 544,
        "share": 0.544,
        "mean_confidence": pytest.approx(0.8),
    }
    assert data["gold"]["confusion"] == {
        "rows": ["praise", "complaint"],
        "columns": ["praise", "complaint", None],
        "counts": [[349, 59, 12], [80, 485, 15]],
    }
    assert data["gold"]["accuracy"] == 0.834 and data["gold"]["answered"] == 973
    assert data["gold"]["accuracy_interval"] == pytest.approx([0.80967, 0.85577], abs=1e-5)
    # every confidence is 0.8, 834 of 973 are right
    assert data["gold"]["expected_calibration_error"] == pytest.approx(834 / 973 - 0.8)
    assert data["without_label"] == data["below_min_confidence"] == 27
    assert sum(data["confidence_histogram"]) == 1000


def test_labels_and_counts_must_fit():
    with pytest.raises(LabelError):
        Summary.of(Tally(3), ["a", "b"])


# --- the explanation on the terminal ------------------------------------------------------------------------------

EXPLANATION = Explanation(
    text="It broke\nafter a day.",
    labels=("praise", "complaint"),
    tokens=("▁Is", "▁it", "\n"),
    nats=((-1.0, -2.0, -0.5), (-1.5, -1.0, -0.5)),
    probabilities=(0.378, 0.622),
    kind="flipped",
)


def test_contrasts_add_up():
    # means over the labels: -1.25, -1.5, -0.5
    assert EXPLANATION.contrasts == ((0.25, -0.5, 0.0), (-0.25, 0.5, 0.0))
    assert EXPLANATION.totals == (-0.25, 0.25)
    assert EXPLANATION.winner == 1


def test_the_explanation_has_a_row_a_token_and_marks_the_winner():
    text = printed(EXPLANATION)
    assert "text: It broke after a day." in text and "flipped" in text
    assert re.search(r"token +praise +▶ complaint\n", text)
    assert re.search(r"▁Is +\+0\.25 +-0\.25\n▁it +-0\.50 +\+0\.50\n\\n +0\.00 +0\.00\n", text)
    assert re.search(r"sum +-0\.25 +\+0\.25\nprobability +0\.378 +0\.622", text)


def test_of_many_labels_the_winner_and_the_highest_sums_are_shown_and_it_is_said():
    labels = [f"label {k}" for k in range(9)]
    nats = [(float(-abs(k - 4)),) for k in range(9)]
    probabilities = [0.3 if k == 0 else 0.0875 for k in range(9)]
    explanation = Explanation("x", labels, ["t"], nats, probabilities, "flipped")
    text = printed(explanation)
    assert "4 of 9 labels shown" in text
    assert re.search(r"token +▶ label 0 +label 4 +label 3 +label 5\n", text)
    assert "9 labels" not in printed(explanation, width=160)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_an_explanation_fits_80_columns(encoding):
    tokens = ["a_very_long_token_that_would_not_fit_a_column"] * 3
    labels = [f"a rather long name of a label, number {k}" for k in range(20)]
    text = printed(
        Explanation("word " * 99, labels, tokens, [[-1.0] * 3] * 20, [0.05] * 20, "flipped"), encoding=encoding
    )
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("0.050") == 4 and text.count(" 0.00") == 16


@pytest.mark.parametrize(
    "change",
    [
        {"probabilities": (1.0,)},
        {"tokens": ("a", "b")},
        {"nats": ((-1.0, -2.0, -0.5),)},
        {"nats": ((-1.0, -2.0, float("-inf")), (-1.5, -1.0, -0.5))},
        {"labels": (), "nats": (), "probabilities": ()},
    ],
)
def test_shapes_that_do_not_fit_are_refused(change):
    facts = {name: getattr(EXPLANATION, name) for name in ("text", "labels", "tokens", "nats", "probabilities", "kind")}
    with pytest.raises(DataError):
        Explanation(**(facts | change))


# --- words and numbers --------------------------------------------------------------------------------------------


def test_numbers_are_set_for_people():
    assert [duration(s) for s in (0.4217, 9.999, 59.97, 185, 3725, 36000)] == [
        "0.42 s", "10.0 s", "1 min 00 s", "3 min 05 s", "1 h 02 min", "10 h 00 min",
    ]  # fmt: skip
    assert [rate(r) for r in (0.042, 8.126, 81.26, 1204.4)] == ["0.04", "8.13", "81.3", "1,204"]
    assert [signed(v) for v in (1.204, -0.306, -0.001, 0.004)] == ["+1.20", "-0.31", "0.00", "0.00"]


def test_shortening_counts_cells_not_letters():
    assert shorten("abcdef", 6) == "abcdef" and shorten("abcdefg", 6) == "abcde…"
    assert shorten("中文中文", 6) == "中文…"
    assert shorten_names(["the same start A", "the same start B", "short"], 9) == ["the …rt A", "the …rt B", "short"]
    assert one_line("a\tb\x1b[31m") == "a\\tb\\x1b[31m"


# --- figures ------------------------------------------------------------------------------------------------------


def png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


@pytest.mark.parametrize("classes", [2, 12, 30])
def test_a_summary_is_drawn(tmp_path, classes):
    path = tmp_path / "summary.png"
    draw_summary(summary_of(classes), path)
    width, height = png_size(path)
    assert 1500 < width < 4000 and 600 < height < 4000
    assert [p.name for p in tmp_path.iterdir()] == ["summary.png"]


def test_77_labels_without_gold_and_no_rows_are_drawn(tmp_path):
    counts = Tally(77)
    counts.add(None, 3, 0.5)
    draw_summary(Summary.of(counts, [f"label {k}" for k in range(77)]), tmp_path / "many.png")
    draw_summary(Summary.of(Tally(2), ["a", "b"]), tmp_path / "none.png")
    assert png_size(tmp_path / "many.png")[1] > png_size(tmp_path / "none.png")[1]


def test_more_than_a_hundred_labels_are_cut_and_the_picture_says_so(tmp_path):
    counts = Tally(130)
    for k in range(130):
        counts.add(None, k, 0.5)
    draw_summary(Summary.of(counts, [f"label {k}" for k in range(130)]), tmp_path / "a.png")
    assert png_size(tmp_path / "a.png")[1] < 5000


def artists_of(figure):
    """The visible texts of a figure after its layout, each once."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    found = {id(a): a for a in figure.findobj(Text)}  # a subfigure's artists are found more than once
    return [a for a in found.values() if a.get_text().strip() and a.get_visible()]


def texts_of(figure):
    return [artist.get_text() for artist in artists_of(figure)]


def test_awkward_texts_are_drawn_as_they_are_and_without_warnings(tmp_path):
    summary = summary_of(labels=list(AWKWARD), instruction="Is $x_1$ {text}?")
    tokens = [*AWKWARD, " ", "\n", "▁Ġ", "👩\u200d🚀\ufe0f", "$", "\ud800", "\x1b"]
    nats = [[-float(i + j) for j in range(len(tokens))] for i in range(len(AWKWARD))]
    explanation = Explanation("$5_{a}\t😀 \x00", AWKWARD, tokens, nats, [1 / 6] * 6, "flipped")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for ending in figures.ENDINGS:
            draw_summary(summary, tmp_path / f"summary{ending}")
            draw_explanation(explanation, tmp_path / f"explanation{ending}")
        with figures._style([*AWKWARD]) as drawable:
            texts = texts_of(figures._summary_figure(summary, drawable))
    for label in ("Costs $5 or $10_a", "x_{1} \\frac", "😀 🚀 中文", "[red]not markup[/red]", "line\\nbreak"):
        assert texts.count(label) == 3  # bars, rows and columns of the confusion matrix


def test_a_character_that_no_font_has_becomes_a_replacement_character(monkeypatch):
    monkeypatch.setattr(figures, "_fonts", lambda: iter([("DejaVu Sans", frozenset(map(ord, "ab")))]))
    drawable = figures._Drawable(["a🚀b\u200d"])
    assert drawable.families == ["DejaVu Sans"]
    assert drawable("a🚀b\u200d") == "a\ufffdb"


def test_the_picture_shows_the_numbers_of_the_summary():
    with figures._style([]) as drawable:
        figure = figures._summary_figure(EXAMPLE, drawable)
        texts = texts_of(figure)
    assert {"349", "59", "80", "485", "12", "15", "429 (42.9 %)", "544 (54.4 %)", "27 (2.7 %)"} <= set(texts)
    title = next(text for text in texts if "obverse-mini" in text)
    assert "1,000 texts" in title and "accuracy 0.834 (0.810 to 0.856)" in title and "flipped" in title


def test_no_texts_of_the_picture_overlap():
    for summary in (
        EXAMPLE,
        summary_of(12),
        summary_of(labels=["a rather long name of a label"[: 20 + k] for k in range(8)]),
    ):
        with figures._style([]) as drawable:
            figure = figures._summary_figure(summary, drawable)
            # slanted texts are left out: their upright boxes overlap where they themselves do not
            boxes = [(a.get_text(), a.get_window_extent()) for a in artists_of(figure) if a.get_rotation() in (0, 90)]
            frame = figure.bbox
        for i, (text, box) in enumerate(boxes):
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1, text
            for other, second in boxes[i + 1 :]:
                apart = box.x1 <= second.x0 or second.x1 <= box.x0 or box.y1 <= second.y0 or second.y1 <= box.y0
                assert apart, (text, other)


def test_an_explanation_is_drawn_and_grows_with_its_tokens(tmp_path):
    draw_explanation(EXPLANATION, tmp_path / "short.png")
    tokens = [f"▁token{t}" for t in range(90)]
    nats = [[-1.0 - 0.1 * (t % 3) * k for t in range(90)] for k in range(3)]
    draw_explanation(Explanation("x " * 400, "abc", tokens, nats, [0.5, 0.3, 0.2], "flipped"), tmp_path / "long.PNG")
    short, long = png_size(tmp_path / "short.png"), png_size(tmp_path / "long.PNG")
    assert short[0] == long[0] == 1920 and long[1] > 2 * short[1]


@pytest.mark.parametrize("labels", [1, 77])
@pytest.mark.parametrize("tokens", [0, 1])
def test_small_and_large_explanations_are_drawn(tmp_path, labels, tokens):
    explanation = Explanation(
        text="",
        labels=[f"label {k}" for k in range(labels)],
        tokens=["word" * 30] * tokens,
        nats=[[-1.0] * tokens] * labels,
        probabilities=[1 / labels] * labels,
        kind="flipped",
    )
    draw_explanation(explanation, tmp_path / "a.png")
    assert png_size(tmp_path / "a.png")[0] == 1920


def test_tokens_are_broken_into_balanced_lines():
    assert figures._balanced_lines([1.0] * 10, 4.0) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert figures._balanced_lines([1.0] * 6, 5.0) == [[0, 1, 2], [3, 4, 5]]
    assert figures._balanced_lines([1.0], 5.0) == [[0]]
    assert figures._balanced_lines([9.0, 1.0], 5.0) == [[0], [1]]


def test_the_same_numbers_give_the_same_file(tmp_path):
    for ending in figures.ENDINGS:
        one, two = tmp_path / f"one{ending}", tmp_path / f"two{ending}"
        draw_explanation(EXPLANATION, one)
        draw_explanation(EXPLANATION, two)
        assert one.read_bytes() == two.read_bytes()


def test_the_users_matplotlib_settings_are_neither_used_nor_changed(tmp_path):
    import matplotlib

    draw_explanation(EXPLANATION, tmp_path / "one.png")
    with matplotlib.rc_context({"savefig.bbox": "tight", "font.size": 30, "axes.facecolor": "black"}):
        draw_explanation(EXPLANATION, tmp_path / "two.png")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.png.txt"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(OutputError, match=r"Let the name end in \.png, \.svg or \.pdf\."):
        draw_summary(EXAMPLE, tmp_path / name)
    with pytest.raises(OutputError):
        draw_explanation(EXPLANATION, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        draw_explanation(EXPLANATION, tmp_path / "nowhere" / "a.png")


def test_a_failure_leaves_the_old_picture_and_no_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fails(source, target):
        assert source.stat().st_size > 1000  # the new picture is complete before it takes the old one's place
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figures.os, "replace", fails)
    with pytest.raises(OutputError, match="No space left on device"):
        draw_explanation(EXPLANATION, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_pyplot_is_never_loaded():
    import subprocess
    import sys

    code = (
        "import sys, tempfile, pathlib\n"
        "import obverse.reports.figures as f\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from obverse.reports.explanation import Explanation\n"
        "e = Explanation('x', ('a', 'b'), ('t',), ((-1.0,), (-2.0,)), (0.7, 0.3), 'flipped')\n"
        "with tempfile.TemporaryDirectory() as d:\n"
        "    f.draw_explanation(e, pathlib.Path(d) / 'a.png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
