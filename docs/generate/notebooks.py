"""The notebooks as pages: their text and their code, without outputs, which would go stale."""

from __future__ import annotations

import json
from pathlib import Path

from generate.text import save, toctree

NOTEBOOKS = Path(__file__).resolve().parents[2] / "examples" / "notebooks"


def write(folder: Path) -> None:
    """A page for each notebook, and the page that lists them."""
    found = sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in found:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        save(folder / "notebooks" / f"{path.stem}.md", "\n\n".join(map(block, cells)))
    about = (
        "Three notebooks to walk through. They stand in `examples/notebooks`, and the tests execute them; "
        "`pip install jupyterlab` brings what opens them."
    )
    contents = toctree(path.stem for path in found)
    save(folder / "notebooks" / "index.md", f"# Notebooks\n\n{about}\n\n{contents}")


def block(cell: dict[str, object]) -> str:
    """One cell as Markdown."""
    source = cell["source"]
    text = source if isinstance(source, str) else "".join(source)  # type: ignore[arg-type]
    return f"```python\n{text}\n```" if cell["cell_type"] == "code" else text
