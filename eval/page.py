"""The page that the report becomes: every part in HTML and in Markdown at once, and pictures that follow the reader's light or dark.

A part is a pair of texts (HTML, Markdown); whatever comes from a file is escaped in both. Colours are Okabe and Ito's, never alone:
markers, dashes, hatching and words say the same.
"""

import io
import re
from html import escape
from typing import NamedTuple

INK = "#1b1b1b"  # in a picture this becomes the page's own text colour
COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    INK,
)  # without yellow, which white paper swallows
MARKERS, DASHES = "os^Dv<>PXd", ("-", "--", "-.", ":")


class Cell(NamedTuple):
    text: str
    value: float | None = None  # what sorting compares
    note: str = ""  # small print
    mark: str = ""  # "best" or "worst"
    share: float | None = None  # 0 to 1: a bar behind the text
    code: bool = False  # a command or a file


# ---------------------------------------------------------------- parts


def literal(text):
    """A text as Markdown shows it: on one line, no character with a meaning of its own."""
    return re.sub(r"([\\`*_\[\]<>|~#$])", r"\\\1", re.sub(r"\s+", " ", text.replace("&", "&amp;")))


def paragraph(text):
    return f"<p>{escape(text)}</p>", literal(text)


def code(text):
    return f"<pre><code>{escape(text)}</code></pre>", f"```\n{text.replace('```', '')}\n```"


def details(summary, *parts):
    """Parts that a click unfolds."""
    body, text = zip(*parts)
    return f"<details><summary>{escape(summary)}</summary>{''.join(body)}</details>", "\n\n".join(
        (f"**{literal(summary)}**", *text)
    )


def table(caption, header, rows, sortable=False):
    """A table in a box of its own that scrolls; the first column names the row.

    Args:
        header: texts, or pairs (text, meaning shown on hovering). rows: lists of texts and `Cell`s. sortable: by a click on a header.
    """
    heads = [head if isinstance(head, tuple) else (head, "") for head in header]
    rows = [[cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row] for row in rows]

    def tagged(cell, first):
        tag = 'th scope="row"' if first else "td"
        if cell.value is not None:
            tag += f' data-value="{cell.value!r}"'
        if cell.mark:
            tag += f' class="{cell.mark}"'
        if cell.share is not None:
            tag += f' style="--share:{100 * cell.share:.1f}%"'
        notes = "".join(f" <small>{escape(note)}</small>" for note in (cell.note, cell.mark) if note)
        text = f"<code>{escape(cell.text)}</code>" if cell.code else escape(cell.text)
        return f"<{tag}>{text}{notes}</{tag.split()[0]}>"

    def marked(cell):
        around = {"best": "**", "worst": "_"}.get(cell.mark, "")
        return f"{around}{literal(cell.text)}{around}" + (f" {literal(cell.note)}" if cell.note else "")

    head = "".join(f'<th scope="col" title="{escape(meaning)}">{escape(text)}</th>' for text, meaning in heads)
    body = "\n".join("<tr>" + "".join(tagged(cell, not at) for at, cell in enumerate(row)) + "</tr>" for row in rows)
    page = (
        f"<figure><figcaption>{escape(caption)}{' Click a heading to sort.' * sortable}</figcaption>"
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table{" class=sortable" * sortable}>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div></figure>"
    )
    lines = [
        "| " + " | ".join(literal(text) for text, _ in heads) + " |",
        "|---" * len(heads) + "|",
        *("| " + " | ".join(map(marked, row)) + " |" for row in rows),
    ]
    return page, "\n".join((literal(caption), "", *lines))


def asked(question, reference, kind, rows):
    """A question with the true answer and every model's.

    Args:
        kind: "leak" or "kept", how told words are shown. rows: (model, verdict, whether it is the one hoped for, small print,
        [(piece of the answer, told)]).
    """
    page, lines = [], ["| model | verdict | answer |", "|---|---|---|"]
    for model, verdict, good, note, pieces in rows:
        body = "".join(f'<mark class="{kind}">{escape(text)}</mark>' if told else escape(text) for text, told in pieces)
        page.append(
            f'<div><dt>{escape(model)} <span class="{"best" if good else "worst"}">{escape(verdict)}</span></dt>'
            f"<dd>{body or '<em>(nothing)</em>'}<small>{escape(note)}</small></dd></div>"
        )
        text = "".join(f"**{literal(text)}**" if told else literal(text) for text, told in pieces)
        lines.append(f"| {literal(model)} | {literal(verdict)} | {text or '(nothing)'} |")
    return (
        f"<article><h3>{escape(question)}</h3><p>True answer: {escape(reference)}</p><dl>{''.join(page)}</dl></article>",
        "\n".join((f"### {literal(question)}", "", f"True answer: {literal(reference)}", "", *lines)),
    )


# ---------------------------------------------------------------- pictures


def pyplot():
    """matplotlib.pyplot without a window, set up so that pictures come out as this page wants them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

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


def look(number):
    """(colour, marker, dashes) of the model at this place in the table, no two alike among the first 70."""
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)], DASHES[number % len(DASHES)]


def svg(figure, name, label):
    """A picture as SVG that stands in the page, and as a file: (text for inside HTML, text of the file).

    Nothing is filled behind it and its ink is the text colour around it; the file brings both colours itself.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.S).replace(
        INK, "currentColor"
    )
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", text)  # so that no two pictures of a page share an id
    colours = f"<style>svg{{color:{INK}}}@media(prefers-color-scheme:dark){{svg{{color:#ececec}}}}</style>"
    start = text.index(">") + 1
    box = re.search(r'viewBox="[^"]*"', text)[0]
    inline = re.sub(r"<style.*?</style>", "", text[start:], flags=re.S).replace("xlink:href", "href")
    return f'<svg role="img" aria-label="{escape(label)}" {box}>{inline}', text[:start] + colours + text[start:]


def picture(figure, file, label, caption, files):
    """A picture with its caption. For the Markdown, `files` gets it under the name `file`, as text (.svg) or bytes (.png)."""
    inline, files[file] = svg(figure, file.split(".")[0], label)
    if file.endswith(".png"):
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=150)
        files[file] = buffer.getvalue()
    return (
        f"<figure>{inline}<figcaption>{escape(caption)}</figcaption></figure>",
        f"![{literal(label)}]({file})\n\n{literal(caption)}",
    )


# ---------------------------------------------------------------- the whole

CSS = """
:root { color-scheme: light dark; --page: #fdfdfc; --ink: #1b1b1b; --soft: #595959; --line: #d4d4cf; --best: #00588a; --worst: #9c3d00;
  --leak: #ffd5b0; --kept: #cbe6f9; --bar: #cfe4f2 }
@media (prefers-color-scheme: dark) { :root { --page: #151618; --ink: #ececec; --soft: #adadad; --line: #3d4043; --best: #6cc0f5;
  --worst: #ff9d5c; --leak: #6b3a12; --kept: #14486a; --bar: #1d3d52 } }
* { box-sizing: border-box }
body { margin: 0; padding: 1rem; background: var(--page); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
header, main, footer { max-width: 66rem; margin: auto }
h1 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line) } h3 { margin: 1.5rem 0 0; font-size: 1rem }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; list-style: none }
a { color: var(--best) }
small, figcaption, footer { color: var(--soft); font-size: .85rem } small { font-weight: normal }
figure { margin: 1rem 0 } figcaption { margin: .5rem 0; max-width: 45rem }
figure svg { display: block; width: 100%; max-width: 36rem; height: auto } svg * { stroke-linejoin: round }
figure svg text { font-family: system-ui, sans-serif !important }
.scroll { overflow-x: auto; max-height: 80vh }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
td small, th small { display: block; white-space: nowrap }
thead th { position: sticky; top: 0; z-index: 1; background: var(--page); font-size: .85rem; vertical-align: bottom }
th[scope=row] { position: sticky; left: 0; background: var(--page); max-width: min(16rem, 42vw); overflow-wrap: break-word } .sortable td { white-space: nowrap }
td code { display: block; width: 28rem; overflow-wrap: anywhere }
thead th:first-child { left: 0; z-index: 2 }
th button { all: unset; cursor: pointer; white-space: nowrap } th button:focus-visible { outline: 2px solid }
th[aria-sort] button { text-decoration: underline }
th[aria-sort=descending] button::after { content: " ▾" } th[aria-sort=ascending] button::after { content: " ▴" }
td[style] { min-width: 5rem; background: linear-gradient(to right, var(--bar) var(--share), transparent 0) }
.best { color: var(--best); font-weight: bold } .worst { color: var(--worst); font-style: italic } .best small, .worst small { color: inherit }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: .75rem; margin: .5rem 0 }
dl div { border-left: 3px solid var(--line); padding-left: .75rem } dt { font-weight: bold } dd { margin: 0 } dd small { display: block }
dt span { font-size: .85rem }
mark { color: inherit; padding: 0 .1em; text-decoration: underline }
.leak { background: var(--leak); text-decoration-style: double } .kept { background: var(--kept) }
pre { white-space: pre-wrap; border: 1px solid var(--line); padding: .75rem } code { font-size: .85rem }
summary { cursor: pointer; margin: .5rem 0 } summary:focus-visible, .scroll:focus-visible { outline: 2px solid }
"""
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0]
  heads.forEach((head, column) => {
    const button = document.createElement("button")
    button.append(...head.childNodes)
    head.append(button)
    button.onclick = () => {
      const up = head.ariaSort == "descending" || (!column && head.ariaSort != "ascending")  // numbers: largest first; names: A first
      heads.forEach(other => other.removeAttribute("aria-sort"))
      head.setAttribute("aria-sort", up ? "ascending" : "descending")
      const key = row => column ? parseFloat(row.cells[column].dataset.value) : row.cells[0].textContent
      const order = (a, b) => column ? a - b : a.localeCompare(b)
      const known = row => key(row) === key(row)  // NaN is not itself: rows without a value stay last
      const rows = [...body.rows]
      body.append(...rows.filter(known).sort((a, b) => (up ? 1 : -1) * order(key(a), key(b))), ...rows.filter(row => !known(row)))
    }
  })
}
"""


def page(title, lead, sections, footer):
    """The whole in both forms.

    Args:
        sections: (heading, list of parts); one without parts is left out. lead, footer: parts.
    Returns:
        (HTML, Markdown).
    """
    sections = [(heading, parts) for heading, parts in sections if parts]
    anchors = [re.sub(r"\W+", "-", heading.lower()).strip("-") for heading, _ in sections]
    links = "".join(
        f'<li><a href="#{anchor}">{escape(heading)}</a></li>' for anchor, (heading, _) in zip(anchors, sections)
    )
    body = "\n".join(
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(heading)}</h2>\n'
        + "\n".join(part for part, _ in parts)
        + "</section>"
        for anchor, (heading, parts) in zip(anchors, sections)
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{CSS}</style></head>\n'
        f'<body><header><h1>{escape(title)}</h1>{lead[0]}<nav aria-label="Contents"><ul>{links}</ul></nav></header>\n'
        f"<main>{body}</main>\n<footer>{footer[0]}</footer>\n<script>{SCRIPT}</script></body></html>\n",
        "\n\n".join(
            (
                f"# {literal(title)}",
                lead[1],
                *(
                    text
                    for heading, parts in sections
                    for text in (f"## {literal(heading)}", *(part for _, part in parts))
                ),
                footer[1],
            )
        )
        + "\n",
    )
