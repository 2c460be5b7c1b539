"""The markers of agents as SVG paths, for the page."""

from __future__ import annotations

from markupsafe import Markup

from banel_leaderboard.board.chart import Style

SHAPES = {  # Matplotlib's markers as paths in a box of -5 to 5
    "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "s": "M-3.6-3.6h7.2v7.2h-7.2z",
    "^": "M0-4.5L4.3 3.6H-4.3z",
    "D": "M0-4.8L4.8 0L0 4.8L-4.8 0z",
    "v": "M0 4.5L4.3-3.6H-4.3z",
    "P": "M-1.5-4.3h3v2.8h2.8v3h-2.8v2.8h-3v-2.8h-2.8v-3h2.8z",
    "X": "M-4-1.9L-1.9-4L0-2.1L1.9-4L4-1.9L2.1 0L4 1.9L1.9 4L0 2.1L-1.9 4L-4 1.9L-2.1 0z",
    "h": "M0-4.5L3.9-2.25V2.25L0 4.5L-3.9 2.25V-2.25z",
    "<": "M-4.5 0L3.6-4.3V4.3z",
    ">": "M4.5 0L-3.6-4.3V4.3z",
    "p": "M0-4.5L4.3-1.4L2.6 3.6H-2.6L-4.3-1.4z",
}


def swatch(style: Style) -> Markup:
    """An agent's line and marker, which stand beside its name."""
    colour = f"var(--c{style.colour_index})"
    return Markup(
        f'<svg class="swatch" viewBox="-12 -6 24 12" width="24" height="12" aria-hidden="true">'
        f'<path d="M-12 0H12" stroke="{colour}" stroke-width="2"/>'
        f'<path d="{SHAPES[style.marker]}" fill="{colour}"/></svg>'
    )
