"""The site's settings. Everything is built from this checkout, without network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generate

import divaug

generate.write_all(Path(__file__).parent / "generated")

project = "divaug"
author = "the divaug authors"
copyright = author
version = release = divaug.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "tutorial.md", "what_is_fast.md"]  # sources of generated pages
smartquotes = False  # flags keep their two dashes
suppress_warnings = ["myst.xref_missing"]  # links of CONTRIBUTING and CHANGELOG to files outside the site

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Reference"]

html_theme = "furo"
html_title = f"divaug {version}"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_show_copyright = False
