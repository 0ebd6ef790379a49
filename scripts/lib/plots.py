"""What all figures share: colours, matplotlib without a screen, whole files or none."""

import io
import warnings

from lib.files import write_bytes

# Okabe and Ito's, told apart by colour-blind readers too; without yellow, which white paper swallows
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#882255", "#000000")


def pyplot():
    """matplotlib.pyplot, drawing to files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    warnings.filterwarnings("ignore", message="Glyph")  # a letter that the font lacks is drawn as a box
    return plt


def write_figure(path, figure):
    """A figure of matplotlib's as a PNG file; it is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    pyplot().close(figure)
    write_bytes(path, buffer.getvalue())
