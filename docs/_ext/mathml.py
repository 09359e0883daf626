"""Mathematics as MathML, which browsers draw by themselves: pages need no script and no network.

docutils has the translator. MathJax would need its megabytes of script beside the site.
"""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer `html_math_renderer = "mathml"`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mathml(latex: str, as_block: bool = False) -> str:
    """What docutils makes of it, with primes that are not apostrophes."""
    return tex2mathml(latex, as_block=as_block).replace("<mo>'</mo>", "<mi>′</mi>")


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math"))
    self.body.append(mathml(node.astext(), as_block=True) + "</div>\n")
    raise nodes.SkipNode
