"""What all figures share: colours, one style, matplotlib without a screen, whole files or none."""

import io
import warnings

from lib.files import write_bytes

# Okabe and Ito's, told apart by colour-blind readers too; without yellow, which white paper swallows
BLUE, ORANGE, GREEN, PINK, VERMILION, SKY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"
INK = "#1b1b1b"  # text and lines; in the report's page this becomes the page's own text colour
COLOURS = (BLUE, ORANGE, GREEN, PINK, VERMILION, SKY, INK)
MARKERS, DASHES = "os^Dv<>PXd", ("-", "--", "-.", ":")


def style(number: int) -> tuple[str, str, str]:
    """(colour, marker, dashes) of the model at this place of a table, no two alike among the first 70."""
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)], DASHES[number % len(DASHES)]


def pyplot():
    """matplotlib.pyplot, drawing to files in the style of all figures: open above and right, no formulas in texts."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    warnings.filterwarnings("ignore", message="Glyph")  # a letter that the font lacks is drawn as a box
    ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    matplotlib.rcParams.update(
        dict.fromkeys(ink, INK)
        | {
            "font.size": 9,
            "svg.fonttype": "none",
            "svg.hashsalt": "report",
            "text.parse_math": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
        }
    )
    return plt


def write_figure(path, figure):
    """A figure of matplotlib's as a PNG file; it is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    pyplot().close(figure)
    write_bytes(path, buffer.getvalue())
