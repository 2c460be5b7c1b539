"""Sphinx configuration. Build with `python3 dev.py docs`; nothing is fetched, and every warning is an error."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), *(str(ROOT / folder) for folder in ("", "agents", "leaderboard"))]
os.environ.pop("BANEL_ASSETS", None)  # the pages are about the shipped instances of the tasks

import generate  # noqa: E402  # from the folder beside this file

project = "banel-envs"
author = "The banel-envs founders"
project_copyright = "The banel-envs founders, Apache-2.0"
release = generate.version()
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.doctest"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "generate", "generated/*.inc.md"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

default_role = "code"  # single backticks in docstrings are code, as everywhere else
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# Snippets run in a folder of their own, so that what they write does not end up in the checkout.
doctest_global_setup = """
import os, tempfile
_before, _folder = os.getcwd(), tempfile.TemporaryDirectory()
os.chdir(_folder.name)
"""
doctest_global_cleanup = """
os.chdir(_before)
_folder.cleanup()
"""

html_theme = "furo"
html_title = f"banel-envs {release}"
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_show_sphinx = False
html_copy_source = False

generate.write(DOCS / "generated")
