"""The board: what is shown of proved runs, in words, tables, figures and a page."""
