"""The report's page: every part in HTML and in Markdown at once, and pictures that follow the reader's light or dark.

A part is a pair of texts (HTML, Markdown); whatever comes from a file is escaped in both. Colours never stand alone:
markers, dashes, hatching and words say the same. Style and script of the page are page.css and page.js beside this
file.
"""

import io
import re
from html import escape
from pathlib import Path
from typing import NamedTuple

from lib.files import read_text
from lib.plots import INK, pyplot

Part = tuple[str, str]  # (HTML, Markdown)


class Cell(NamedTuple):
    """One cell of a table."""

    text: str
    value: float | None = None  # what sorting compares
    note: str = ""  # small print
    mark: str = ""  # "best", or nothing
    share: float | None = None  # 0 to 1: a bar behind the text
    code: bool = False  # a command or a file


# ---------------------------------------------------------------- parts


def literal(text: str) -> str:
    """A text as Markdown shows it: on one line, no character with a meaning of its own."""
    return re.sub(r"([\\`*_\[\]<>|~#$])", r"\\\1", re.sub(r"\s+", " ", text.replace("&", "&amp;")))


def paragraph(text: str) -> Part:
    return f"<p>{escape(text)}</p>", literal(text)


def code(text: str) -> Part:
    return f"<pre><code>{escape(text)}</code></pre>", f"```\n{text.replace('```', '')}\n```"


def details(summary: str, *parts: Part) -> Part:
    """Parts that a click unfolds."""
    body, text = zip(*parts)
    return (
        f"<details><summary>{escape(summary)}</summary>{''.join(body)}</details>",
        "\n\n".join((f"**{literal(summary)}**", *text)),
    )


def _html_cell(cell, first):
    """A cell's tag with all that it carries; the first of a row is its heading."""
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


def _markdown_cell(cell):
    around = "**" if cell.mark else ""
    return f"{around}{literal(cell.text)}{around}" + (f" {literal(cell.note)}" if cell.note else "")


def table(caption: str, header: list, rows: list, sortable: bool = False) -> Part:
    """A table in a box of its own that scrolls; the first column names the row.

    Args:
        header: texts, or pairs (text, meaning shown on hovering). rows: lists of texts and `Cell`s. sortable: by a
        click on a heading.
    """
    heads = [head if isinstance(head, tuple) else (head, "") for head in header]
    rows = [[cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row] for row in rows]
    head = "".join(f'<th scope="col" title="{escape(meaning)}">{escape(text)}</th>' for text, meaning in heads)
    lines = ("".join(_html_cell(cell, not at) for at, cell in enumerate(row)) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    html = (
        f"<figure><figcaption>{escape(caption)}{' Click a heading to sort.' * sortable}</figcaption>"
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table{' class=sortable' * sortable}>"
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div></figure>"
    )
    lines = [
        "| " + " | ".join(literal(text) for text, _ in heads) + " |",
        "|---" * len(heads) + "|",
        *("| " + " | ".join(map(_markdown_cell, row)) + " |" for row in rows),
    ]
    return html, "\n".join((literal(caption), "", *lines))


def side_by_side(question: str, reference: str, kind: str, answers: list) -> Part:
    """A question with the true answer and every model's.

    Args:
        kind: "leak" or "kept", how told words are shown. answers: (model, verdict, whether it is the one hoped for,
        small print, [(piece of the answer, told)]).
    """
    html, lines = [], ["| model | verdict | answer |", "|---|---|---|"]
    for model, verdict, good, note, pieces in answers:
        body = "".join(f'<mark class="{kind}">{escape(text)}</mark>' if told else escape(text) for text, told in pieces)
        html.append(
            f'<div><dt>{escape(model)} <span class="{"best" if good else "worst"}">{escape(verdict)}</span></dt>'
            f"<dd>{body or '<em>(nothing)</em>'}<small>{escape(note)}</small></dd></div>"
        )
        text = "".join(f"**{literal(text)}**" if told else literal(text) for text, told in pieces)
        lines.append(f"| {literal(model)} | {literal(verdict)} | {text or '(nothing)'} |")
    heading = f"<h3>{escape(question)}</h3><p>True answer: {escape(reference)}</p>"
    return (
        f"<article>{heading}<dl>{''.join(html)}</dl></article>",
        "\n".join((f"### {literal(question)}", "", f"True answer: {literal(reference)}", "", *lines)),
    )


# ---------------------------------------------------------------- pictures


def _svg(figure, name, label):
    """A picture as SVG that stands in the page, and as a file: (text for inside HTML, text of the file).

    Nothing is filled behind it and its ink is the text colour around it; the file brings both colours itself.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.S)
    text = text.replace(INK, "currentColor")
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", text)  # so that no two pictures of a page share an id
    colours = f"<style>svg{{color:{INK}}}@media(prefers-color-scheme:dark){{svg{{color:#ececec}}}}</style>"
    start = text.index(">") + 1
    box = re.search(r'viewBox="[^"]*"', text)[0]
    inline = re.sub(r"<style.*?</style>", "", text[start:], flags=re.S).replace("xlink:href", "href")
    return f'<svg role="img" aria-label="{escape(label)}" {box}>{inline}', text[:start] + colours + text[start:]


class Picture(NamedTuple):
    """A drawn figure, the file it becomes for Markdown (.svg or .png), what it shows in few words, and its caption."""

    figure: object
    file: str
    label: str
    caption: str

    def part(self, files: dict) -> Part:
        """The picture in the page. `files` gets its file, as text (.svg) or bytes (.png); the figure is closed."""
        inline, files[self.file] = _svg(self.figure, self.file.split(".")[0], self.label)
        if self.file.endswith(".png"):
            buffer = io.BytesIO()
            self.figure.savefig(buffer, dpi=150)
            files[self.file] = buffer.getvalue()
        pyplot().close(self.figure)
        return (
            f"<figure>{inline}<figcaption>{escape(self.caption)}</figcaption></figure>",
            f"![{literal(self.label)}]({self.file})\n\n{literal(self.caption)}",
        )


# ---------------------------------------------------------------- the whole


def _html_page(title, lead, sections, footer):
    style, script = (read_text(Path(__file__).with_suffix(ending)) for ending in (".css", ".js"))
    anchors = [re.sub(r"\W+", "-", heading.lower()).strip("-") for heading, _ in sections]
    named = list(zip(anchors, sections, strict=True))
    links = "".join(f'<li><a href="#{anchor}">{escape(heading)}</a></li>' for anchor, (heading, _) in named)
    body = "\n".join(
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(heading)}</h2>\n'
        + "\n".join(part for part, _ in parts)
        + "</section>"
        for anchor, (heading, parts) in named
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>\n{style}</style></head>\n'
        f'<body><header><h1>{escape(title)}</h1>{lead[0]}<nav aria-label="Contents"><ul>{links}</ul></nav></header>\n'
        f"<main>{body}</main>\n<footer>{footer[0]}</footer>\n<script>\n{script}</script></body></html>\n"
    )


def _markdown_page(title, lead, sections, footer):
    texts = [f"# {literal(title)}", lead[1]]
    for heading, parts in sections:
        texts += [f"## {literal(heading)}", *(text for _, text in parts)]
    return "\n\n".join((*texts, footer[1])) + "\n"


def whole_page(title: str, lead: Part, sections: list[tuple[str, list[Part]]], footer: Part) -> Part:
    """The page in both forms, (HTML, Markdown).

    Args:
        sections: (heading, its parts); one without parts is left out.
    """
    sections = [(heading, parts) for heading, parts in sections if parts]
    return _html_page(title, lead, sections, footer), _markdown_page(title, lead, sections, footer)
