"""How sphinx builds the site: sphinx-build -W --keep-going -b html docs site."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))  # for gallery_order

project = "skectonas"
author = "The skectonas developers"
copyright = author
version = release = version_of("skectonas")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
default_role = "py:obj"  # what docstrings put in single backticks
pygments_style = "tango"

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc gives the types, in words
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
autodoc_default_options = {"members": True}
numpydoc_show_class_members = False  # the template of a class lists them

myst_heading_anchors = 3

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    # These two need data that come from outside: they are shown, not run.
    "filename_pattern": r"/(?!adult|fashion_mnist)\w+\.py$",
    "ignore_pattern": r"\bstory\.py$",
    "within_subsection_order": "gallery_order.by_theme",
    "abort_on_example_error": True,
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skectonas",),
    "default_thumb_file": str(Path(__file__).parent / "images" / "topology.svg"),
    "remove_config_comments": True,
    "write_computation_times": False,  # a page with scripts of another host
}

html_theme = "pydata_sphinx_theme"
html_title = "skectonas"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {"getting_started": [], "extending": []}  # they have no pages below them
html_theme_options = {
    "show_prev_next": True,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_nav_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}

# Nothing is fetched while the site is built, unless it is asked for.
if os.environ.get("SKECTONAS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "skorch": ("https://skorch.readthedocs.io/en/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
    }


def adapt(app: Any, docname: str, source: list[str]) -> None:
    """Let links to examples lead to their pages, and end doctests without an empty line."""
    link = r"\]\((?:\.\./)+examples/(\w+)\.(?:py|rst)\)"
    up = "../" * docname.count("/")

    def page(found: re.Match[str]) -> str:
        name = "index" if found[1] == "README" else found[1]
        return f"]({up}auto_examples/{name}.rst)"

    source[0] = re.sub(link, page, source[0]).replace("\n\n```\n", "\n```\n")


def of_protocol(app: Any, what: str, name: str, obj: Any, *others: Any) -> Any:
    """Leave out the signature of a protocol, which nobody calls."""
    return ("", "") if getattr(obj, "_is_protocol", False) else None


def setup(app: Any) -> None:
    """Add what the site needs beyond its extensions."""
    app.connect("source-read", adapt)
    app.connect("autodoc-process-signature", of_protocol)
