"""python -m banel_envs.build NAME: rebuild the assets of one task family."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from banel_envs.assets import FOLDER, write_digests

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def main() -> None:
    """Parse, say what it will take, build, record the digests."""
    parser = argparse.ArgumentParser(prog="python -m banel_envs.build", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--data", type=Path, help="folder with raw data, for the families that need any")
    parser.add_argument("--instance", type=int, default=0, help="0 is what ships; another number makes another task")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where to write (default: the package's own assets)")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    builder = importlib.import_module(f"banel_envs.build.{options.name}")
    print(f"{options.name}: {builder.TAKES}; writing to {options.out}")
    options.out.mkdir(parents=True, exist_ok=True)
    builder.build(options.out, options.data, options.instance)
    write_digests(options.out)


if __name__ == "__main__":
    main()
