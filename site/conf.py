"""The settings of Sphinx for the site; build.py lays out the pages and runs it."""
from importlib.util import find_spec
from pathlib import Path
from typing import Any

project = "The Vision Transformer, step by step"
copyright = "its authors, MIT licence"
language = "en"
extensions = ["myst_nb", "sphinx_design", "sphinx_copybutton", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
exclude_patterns = ["originals"]

# Notebooks are shown as they are stored; nothing is executed.
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "html_image"]
myst_heading_anchors = 4
# A heading of the third level may follow one of the first, as in an exercise.
suppress_warnings = ["myst.header"]

# Docstrings are plain text: shapes, units, what is raised. They are shown as they are written.
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_inherit_docstrings = False

html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["progress.js"]
html_extra_path = ["extra"]  # the explorer
html_show_sphinx = False
html_copy_source = False
templates_path = []
# No request leaves a page: MathJax is a file of the site.
mathjax = find_spec("sphinx-mathjax-offline")
assert mathjax is not None and mathjax.origin is not None
html_static_path.append(str(Path(mathjax.origin).parent / "static" / "mathjax" / "tex-svg.js"))
mathjax_path = "tex-svg.js"


def as_written(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make a docstring a block of plain text."""
    if lines:
        lines[:] = [".. code-block:: text", "", *(f"   {line}" for line in lines), ""]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", as_written)
