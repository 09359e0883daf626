"""How Sphinx builds the site: `make docs`."""

import inspect
import os
import sys
from importlib import metadata
from pathlib import Path

# The programs that are compiled for a page are run once.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

project = "jaxrnn"
author = "the authors of jaxrnn"
release = metadata.version("jaxrnn")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.linkcode",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "cell_pages",
    "docstrings",
    "generated",
    "mathml",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"  # notebooks are kept as text; their outputs are made here
nb_execution_raise_on_error = True
nb_execution_timeout = 120

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autosummary_generate = True
autosummary_ignore_module_all = False
napoleon_custom_sections = [("Args", "params_style"), ("Returns", "returns_style")]
default_role = "py:obj"  # `name` links to it where it is known, and is code anywhere else
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Inventories come over the network: a build without one has no links to other projects.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "jax": ("https://docs.jax.dev/en/latest", None),
        "flax": ("https://flax.readthedocs.io/en/latest", None),
        "optax": ("https://optax.readthedocs.io/en/latest", None),
    }
    if os.environ.get("DOCS_ONLINE")
    else {}
)

html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"jaxrnn {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False

SOURCE = "https://github.com/jaxrnn/jaxrnn/blob/main"


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """The line of the source where a name is defined."""
    if domain != "py" or not info["module"]:
        return None
    value = sys.modules[info["module"]]
    for part in info["fullname"].split("."):
        value = getattr(value, part, None)
    try:
        file = inspect.getsourcefile(inspect.unwrap(value))  # type: ignore[arg-type]
        lines, start = inspect.getsourcelines(value)  # type: ignore[arg-type]
    except (TypeError, OSError):
        return None
    path = Path(file or "").resolve()
    if HERE.parent not in path.parents:
        return None
    where = path.relative_to(HERE.parent).as_posix()
    return f"{SOURCE}/{where}#L{start}-L{start + len(lines) - 1}"
