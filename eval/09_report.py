"""The report: a row a model, pictures, answers side by side, and how to make it all again, as one HTML page and as
Markdown.

report.html needs no network and nothing beside it; report.md is the same, with its pictures as files; table.json holds
every row, table.md the table alone, kfr_krr.png KFR against KRR. A section is there when what it shows is there.
Folders NAME and NAME@SEED are seeds of one model: tables and pictures show NAME once, mean ± sample standard deviation.
"""

import sys
from pathlib import Path

from lib.files import fail, left_out, record, write_bytes, write_json, write_text
from lib.flags import Parser, count_or_none

from report import figures, sections
from report.page import paragraph, whole_page
from report.reading import Findings, read_all
from report.table import points_section, short_table, table_section


def parser() -> Parser:
    made = Parser(
        __doc__,
        files=lambda args: [Path(args.out, name) for name in ("table.json", "table.md", "report.md", "report.html")],
    )
    made.add_argument(
        "--metrics",
        required=True,
        nargs="+",
        metavar="FOLDER",
        help="a folder a model with kfr_krr.json; linguistic_forget.json, linguistic_retain.json, tofu.json, "
        "sampling.json, membership.json, depth.json, exposure.json, memorization.json, robustness.json, judge.json and "
        "next_token.json are taken where they are",
    )
    made.add_argument(
        "--out",
        required=True,
        help="folder for report.html, report.md with its pictures, table.md, table.json and kfr_krr.png",
    )
    made.add_argument(
        "--run",
        metavar="FOLDER",
        help="the run's folder, work/NAME: adds what methods/, answers/, data/ and augmented/ hold",
    )
    made.add_argument("--preset", metavar="NAME", help="the preset that made the run")
    made.add_argument(
        "--command", metavar="TEXT", help="the command line that made the run, for the reader who wants to repeat it"
    )
    made.add_argument(
        "--published",
        metavar="NAME",
        help="a table of data/published.json, if it is there, to set beside the measured one",
    )
    made.add_argument(
        "--questions",
        type=count_or_none,
        default=6,
        metavar="N",
        help="questions of the forget set shown with all answers, and two thirds as many of the retain set "
        "(default: 6)",
    )
    return made


def contents(found: Findings, args, files: dict) -> list:
    """The sections, (heading, parts); `files` gets the pictures' files."""
    rows = found.shown
    older = [paragraph(left_out(found.left_out))] if found.left_out else []
    drawn = lambda pictures: [picture.part(files) for picture in pictures]
    return [
        ("The table", [*table_section(rows, found.tests, found.paths), *sections.gaps(found.measured), *older]),
        ("Forgetting against keeping", drawn(figures.kfr_against_krr(rows))),
        ("Asked many times", drawn(figures.leak_curves(found.leak_curves, rows))),
        ("Distance to the retrained model", sections.distance_section(found.distances)),
        ("How well the models still speak", drawn(figures.linguistic_bars(rows))),
        ("Training", drawn(figures.loss_curves(found.losses, rows))),
        ("From update to update", drawn(figures.forgetting_paths(found.probes, rows))),
        (
            "Each method at its best point",
            [*drawn(figures.point_paths(found.paths, rows)), *points_section(found.paths)],
        ),
        ("Answers side by side", sections.answers_section(found.items, args.questions, rows)),
        ("Passages continued", sections.continuations_section(found.passages, args.questions, rows)),
        ("The first word", sections.first_tokens_section(found.first_tokens, rows)),
        ("Data", sections.data_section(found.counts, found.augmented, found.foreign)),
        ("Published and measured", sections.published_section(rows, args.published, found.published)),
        ("How to make it again", sections.repetition_section(found.records, args.preset, args.command)),
    ]


def main(args):
    if args.run and not Path(args.run).is_dir():
        fail(f"--run {args.run}: no such folder")
    run, out, files = args.run and Path(args.run), Path(args.out), {}
    found = read_all(args.metrics, run, args.published)
    if found.left_out:
        print(left_out(found.left_out), file=sys.stderr)
    parts = contents(found, args, files)
    origin = record(args, found.files)
    footer = f"Made by eval/{origin['script']} at commit {origin['git_commit']} from {len(origin['data'])} files."
    footer += sections.agreement(found.agreement)
    title = f"Unlearning report: {run.name}" if run else "Unlearning report"
    html, markdown = whole_page(title, sections.lead(found.shown, found.items, found.tests), parts, paragraph(footer))

    tests = {key: {" | ".join(pair): p for pair, p in part.items()} for key, part in found.tests.items()}
    write_json(out / "table.json", {"rows": found.rows, "p_values": tests, "distances": found.distances, **origin})
    for name, content in files.items():
        (write_bytes if isinstance(content, bytes) else write_text)(out / name, content)
    for name, text in (
        ("report.html", html),
        ("report.md", markdown),
        ("table.md", short_table(found.shown, found.tests, found.paths)),
    ):
        write_text(out / name, text)


if __name__ == "__main__":
    main(parser().parse_args())
