"""Figures of the generated pages, as SVG that reads on light and dark pages."""

from __future__ import annotations

from pathlib import Path

INK = "#3b4252"
ACCENT = {"banel": "#b3402a"}


def draw_rates(path: Path, rates: dict[str, list[float]]) -> None:
    """One row a policy: its log10 success, and the range over the seeds.

    Args:
        path: the SVG file.
        rates: name -> [median, lowest, highest], or [value], or [] where it is zero or unknown.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.hashsalt": "banel", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(6.4, 2.1), layout="constrained")
        for place, (name, values) in enumerate(rates.items()):
            colour = ACCENT.get(name, INK)
            if values:
                axes.plot([min(values), max(values)], [place, place], color=colour, linewidth=2, alpha=0.5)
                axes.plot(values[0] if len(values) != 2 else [], place if len(values) != 2 else [], "o", color=colour)
            else:
                axes.text(0.01, place, "no number", transform=axes.get_yaxis_transform(), va="center", color=colour)
        axes.set_yticks(range(len(rates)), list(rates))
        axes.set_ylim(len(rates) - 0.5, -0.5)
        axes.set_xlim(right=0.2)
        axes.set_xlabel("log10 success rate (0 is certain)")
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
        pyplot.close(figure)
