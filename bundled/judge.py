"""Judge the bundled model: writes docs/results/mini.json and docs/results/mini.md."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from obverse.models.bundled import FOLDER, load_bundled
from obverse.recipes.judge import judge, markdown, summarize

_HEAD = """# obverse-mini on sets and wordings it never saw

Macro-F1 of what one text alone gets, over rows drawn with a fixed seed; sets, instructions and label words as in
`bundled/judge.toml`; one label word, "weather" in clinc_oos, also stands among the training
wordings. `cosine` is the untouched sentence encoder (text against label words). Intervals: paired bootstrap
over instances, wordings of a set resampled together. Command: `python bundled/judge.py --data DATA`.

"""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds p3/ and index.json")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the packed model")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    here = Path(__file__).parent
    summary = summarize(judge(load_bundled(arguments.folder, device="cpu"), here / "judge.toml", arguments.data))
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "mini.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    (arguments.output / "mini.md").write_text(_HEAD + markdown(summary), encoding="utf-8")
    print(markdown(summary))
