"""The board: runs ranked, in words, tables, figures and a page."""
