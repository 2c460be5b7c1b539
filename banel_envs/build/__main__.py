"""python -m banel_envs.build NAME: rebuild the assets of one task family."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from banel_envs import kernel
from banel_envs.assets import FOLDER, write_digests
from banel_envs.errors import BanelError

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def main() -> None:
    """Parse, say what it will take, build, record the digests."""
    parser = argparse.ArgumentParser(prog="python -m banel_envs.build", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--data", type=Path, help="folder with raw data, for the families that need any")
    parser.add_argument("--instance", type=int, default=0, help="0 is what ships; another number makes another task")
    parser.add_argument("--out", type=Path, help="where to write (default for instance 0: the package's own assets)")
    options = parser.parse_args()
    if options.instance < 0:
        parser.error(f"--instance is {options.instance}; it must be at least 0")
    if options.instance and options.out is None:
        parser.error(
            f"--instance {options.instance} is not what ships: give --out DIR, so that nothing is written over"
        )
    try:
        build(options.name, options.out or FOLDER, options.data, options.instance)
    except (BanelError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except ModuleNotFoundError as error:
        parser.exit(2, f"{parser.prog}: building needs {error.name}: pip install 'banel-envs[all]'\n")


def build(name: str, out: Path, data: Path | None, instance: int) -> None:
    """Write one family's assets and the digests of the folder."""
    import torch

    torch.set_num_threads(1)
    builder = importlib.import_module(f"banel_envs.build.{name}")
    print(f"{name}: {builder.TAKES}; writing to {out}")
    out.mkdir(parents=True, exist_ok=True)
    with kernel.using(kernel.TORCH):  # what ships was built so, and comes out the same to the bit wherever it is built
        builder.build(out, data, instance)
    write_digests(out)


if __name__ == "__main__":
    main()
