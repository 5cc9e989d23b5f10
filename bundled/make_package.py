"""Pack a training run into the model that ships. Run by `make bundled`."""

from __future__ import annotations

import argparse
from pathlib import Path

from obverse.catalog.toml_files import read_toml
from obverse.models.bundled import FOLDER
from obverse.recipes.package import package

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="run folder of `obverse train`")
    parser.add_argument(
        "--prior", type=Path, help="folder of the trained sentence encoder (default: the pretrained one)"
    )
    parser.add_argument("--blend", type=Path, help="ratio of the blend's terms (default: fitted)")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds p3/ and promptsource/")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the package goes")
    arguments = parser.parse_args()
    package(
        data=arguments.data,
        run=arguments.run,
        folder=arguments.folder,
        prior=arguments.prior,
        ratio=None if arguments.blend is None else read_toml(arguments.blend),
    )
