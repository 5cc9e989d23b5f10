"""Judge the bundled model: writes docs/results/mini.json and mini.md, or mini_aside.* for the sets kept aside."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from obverse.models.bundled import FOLDER, load_bundled
from obverse.recipes.judge import judge, judge_rewording, markdown, rewording_markdown, summarize
from obverse.recipes.output_files import write_json, write_text

_HEAD = """# obverse-mini on {title}

Macro-F1 of what one text alone gets, over rows drawn with a fixed seed; sets, instructions and label words as in
`bundled/{plan}`. {note} `cosine` is the pretrained sentence encoder as it was published (text against label
words), `similarity` the one that was trained from it. Intervals: paired bootstrap over instances, wordings of a set
resampled together. Command: `python bundled/judge.py --data DATA{flag}`.

"""
_REWORDING = """# obverse-mini when labels are said in other words

Accuracy of what one text alone gets, under label words that training used and under others that occur nowhere in it, by
the sets and words of `bundled/rewording.toml`: rows, instruction and classes are the same. Intervals: bootstrap over
rows. Command: `python bundled/judge.py --data DATA`.

"""
_JUDGED = {
    "title": "sets and wordings it never saw",
    "plan": "judge.toml",
    "note": "Versions of the model were compared on these.",
    "flag": "",
}
_ASIDE = {
    "title": "sets that were kept aside",
    "plan": "aside.toml",
    "note": "No choice was made by them.",
    "flag": " --aside",
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds p3/ and index.json")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the packed model")
    parser.add_argument("--aside", action="store_true", help="judge the sets of aside.toml")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    told, name = (_ASIDE, "mini_aside") if arguments.aside else (_JUDGED, "mini")
    plan = Path(__file__).parent / told["plan"]
    model = load_bundled(arguments.folder, device="cpu")
    summary = summarize(judge(model, plan, arguments.data))
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_json(arguments.output / f"{name}.json", summary)
    write_text(arguments.output / f"{name}.md", _HEAD.format(**told) + markdown(summary))
    print(markdown(summary))
    if not arguments.aside:
        reworded = judge_rewording(model, Path(__file__).parent / "rewording.toml", arguments.data).summary()
        write_json(arguments.output / "mini_rewording.json", reworded)
        write_text(arguments.output / "mini_rewording.md", _REWORDING + rewording_markdown(reworded))
        print(rewording_markdown(reworded))
