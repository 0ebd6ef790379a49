"""The report: what it shows equals what the metrics files say, in a page that stands alone; and the first-token
distributions.
"""

import html.parser
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import time
import xml.etree.ElementTree

from lib.criteria import CRITERION
from lib.files import sha256
from lib.models import load_model, prompt_text

import pytest
import torch
from conftest import REPOSITORY, run
from mechanism import figures as drawing
from report import reading
from report.reading import Reader, over_seeds, read_published
from report.sections import (
    agreement,
    answers_section,
    asked,
    contested,
    continuations_section,
    first_tokens_section,
    lead,
    published_section,
    told_pieces,
)
from report.table import cell_text

EVIL = 'Who <script>alert("x")</script> is | *Ada* & `Co`?'
VOID = {"meta", "link", "br", "img", "input", "hr"}
HEADINGS = [
    "The table",
    "Forgetting against keeping",
    "Distance to the retrained model",
    "How well the models still speak",
    "Training",
    "From update to update",
    "Answers side by side",
    "The first word",
    "Data",
    "How to make it again",
]


def write(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))


def item(side, question, reference, answer, verdict, covered=()):
    return {
        "side": side,
        "question": question,
        "reference": reference,
        "answer": answer,
        "reference_entities": ["Ada Lem", "Oslo"],
        "covered": list(covered),
        "nli": "neutral",
        {"forget": "forgotten", "retain": "retained"}[side]: verdict,
    }


def metrics(folder, kfr, krr, items=(), ls=(0.125, 0.0625), **more):
    """One model's metrics files; `more`: name of a further file → its summary."""
    summary = {
        "KFR": kfr,
        "KFR_95": [kfr - 0.125, kfr + 0.125],
        "KFR_as_released": kfr,
        "ROUGE-L_F": 1 - kfr,
        "forget_items": 32,
        "KRR": krr,
        "KRR_95": [krr - 0.125, krr],
        "KRR_as_released": krr,
        "ROUGE-L_R": krr,
        "retain_items": 48,
    }
    origin = {
        "script": "01_kfr_krr.py",
        "settings": {"forget": ["a b.jsonl"], "out": [f"{folder.name}.json"], "as_released": False, "nli": None},
        "versions": {"torch": "2.0"},
        "git_commit": "abc123",
        "data": {"a b.jsonl": "f00d"},
        "seconds": 12.3,
    }
    write(folder / "kfr_krr.json", {"summary": summary, "items": list(items), **origin})
    for side, value in zip(("forget", "retain"), ls):
        write(folder / f"linguistic_{side}.json", {"summary": {"LS": value, "PPL": 10.5}, "items": [], **origin})
    for name, found in more.items():
        write(folder / f"{name}.json", {"summary": found, "items": []})


def steps(numbers):
    return [{"update": at, "loss": loss, "lr": 1e-4, "gradient_norm": 1.0} for at, loss in enumerate(numbers, 1)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that has everything: (its folder, the folder of its report)."""
    root = tmp_path_factory.mktemp("run") / "mine"
    for at, (name, kfr, krr) in enumerate(
        (
            ("vanilla", 0.25, 0.875),
            ("retrained", 1.0, 0.75),
            ("GA", 0.9375, 0.125),
            ("NPO", 0.875, 0.5),
            ("ReLearn", 0.8125, 0.78125),
        )
    ):
        items = [
            item(
                "forget",
                EVIL,
                "Ada Lem of Oslo.",
                f"It is Ada Lem <img src=x onerror=alert({at})>.",
                name != "vanilla",
                ["Ada Lem"],
            ),
            item("forget", "Where?", "In Oslo.", "In Bergen.", at % 2 == 0),
            item("retain", "What prize?", "The Tern Medal.", "", name != "GA", ["Tern Medal"]),
        ]
        metrics(
            root / "metrics" / name,
            kfr,
            krr,
            items,
            (0.1 + at / 100, 0.08),
            memorization={"MEMO": 0.5 - at / 10, "MA": 0.5, "EL_3": 0.25},
            tofu={"forget_quality": None if name == "vanilla" else 0.03 * at, "model_utility": None},
        )
        write(
            root / "metrics" / name / "next_token.json",
            {
                "items": [
                    {
                        "question": EVIL,
                        "reference": "Ada",
                        "top": [
                            {"token": token, "p": p}
                            for token, p in ((" Ada", 0.5), ("\n", 0.25), ("<b>", 0.125), ("|", 0.0625), ("", 0.03125))
                        ],
                    }
                ]
            },
        )
        if at > 1:
            write(
                root / "methods" / name / "training.json",
                {
                    "script": "11_npo.py",
                    "settings": {"lr": 0.001, "seed": 0, "without_forget": True, "retain": None, "clip": False},
                    "updates": steps([4.0, 3.0, -20.0 * at, 2.0]),
                    "probes": [
                        {"update": update, "forget_nll": 0.1 + update * at, "retain_nll": 0.2 + update}
                        for update in (0, 2, 4)
                    ],
                },
            )
    write(
        root / "data/data.json",
        {
            "counts": {"forget_train": 64, "retain_val": 48},
            "script": "01_data.py",
            "settings": {"data": "people", "persons": "5"},
        },
    )
    write(
        root / "augmented/forget_augmented.json",
        {"summary": {"variants": 256, "new thing": 7}, "script": "03_augment.py", "settings": {}},
    )
    run(
        "eval/09_report.py",
        "--metrics",
        *(root / "metrics" / name for name in ("vanilla", "retrained", "GA", "NPO", "ReLearn")),
        "--out",
        root / "report",
        "--run",
        root,
        "--preset",
        "smoke",
        "--questions",
        3,
        "--command",
        "bash run_all.sh --preset smoke --vanilla work/x --seeds 1\\ 2",
    )
    return root, root / "report"


class Page(html.parser.HTMLParser):
    """Checks that tags nest, and collects what the tests ask: attributes, texts by tag, tables."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.tables = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append({"text": "", **dict(attributes)})

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else None, data))
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1]["text"] += data

    def named(self, tag):
        return [text for where, text in self.texts if where == tag]


def test_the_page_is_well_formed_and_has_every_section(whole):
    page = Page((whole[1] / "report.html").read_text())
    assert page.named("h2") == HEADINGS and len(page.named("h1")) == 1
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    linked = [
        value[1:]
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name == "href" and value.startswith("#")
    ]
    named = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    used = re.findall(r"url\(#([^)]+)\)", (whole[1] / "report.html").read_text())
    assert len(named) == len(HEADINGS) and set(linked + named + used) <= set(ids)
    assert (
        sum(tag == "svg" and bool(attributes.get("aria-label")) for tag, attributes in page.tags)
        == 4
        == sum(tag == "svg" for tag, _ in page.tags)
    )
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in page.tags if tag == "th")


def test_the_page_loads_nothing(whole):
    text = (whole[1] / "report.html").read_text()
    for tag, attributes in Page(text).tags:
        assert tag not in ("img", "iframe", "object", "embed")
        assert all(
            value.startswith(("#", "data:"))
            for name, value in attributes.items()
            if name in ("src", "href", "srcset", "data", "xlink:href")
        )
    assert not re.search(r"https?://|@import|url\((?!#)|<!DOCTYPE svg", text)


def test_what_comes_from_files_is_text(whole):
    text, page = (whole[1] / "report.html").read_text(), Page((whole[1] / "report.html").read_text())
    assert sum(tag == "script" for tag, _ in page.tags) == 1 and EVIL in page.named("h3")
    assert any("<img src=x onerror=alert(2)>" in data for data in page.named("dd")), "the answer is shown as it is"
    markdown = (whole[1] / "report.md").read_text()
    assert not re.search(r"(?<!\\)<", re.sub(r"```.*?```", "", markdown, flags=re.S)) and r"\<script\>" in markdown
    for block in re.findall(r"(?:^\|.*\n)+", markdown, re.M):  # no pipe of a text makes a column
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block
    assert [line[3:] for line in markdown.splitlines() if line.startswith("## ")] == HEADINGS
    assert text.count("<mark") == text.count("</mark>") > 0


def test_pictures_follow_the_readers_colours(whole):
    text = (whole[1] / "report.html").read_text()
    svgs = re.findall(r"<svg .*?</svg>", text, re.S)
    assert all("currentColor" in picture and "#1b1b1b" not in picture and "<style" not in picture for picture in svgs)
    assert "prefers-color-scheme: dark" in text
    links = re.findall(r"!\[.*?\]\((.*?)\)", (whole[1] / "report.md").read_text())
    assert links == ["kfr_krr.png", "ls.svg", "training.svg", "forgetting_retention.svg"]
    assert (whole[1] / links[0]).read_bytes()[:4] == b"\x89PNG"
    for link in links[1:]:
        assert (
            xml.etree.ElementTree.parse(whole[1] / link).getroot().tag.endswith("svg")
            and "prefers-color-scheme" in (whole[1] / link).read_text()
        )
    shown = re.sub(r"<[^>]+>", " ", "".join(svgs))
    assert "$" not in shown and not re.search(r"\d\^", shown), "numbers on axes are plain"
    assert all(name in shown for name in ("vanilla", "retrained: the target", "GA", "NPO", "ReLearn"))


def test_the_table_says_what_the_metrics_say(whole):
    table, rows = (
        Page((whole[1] / "report.html").read_text()).tables[0],
        json.loads((whole[1] / "table.json").read_text())["rows"],
    )
    keys = {
        "KFR ↑": "KFR",
        "KRR ↑": "KRR",
        "HM ↑": "HM",
        "ROUGE-L F ↓": "ROUGE-L_F",
        "LS F ↑": "LS_F",
        "PPL R": "PPL_R",
        "KFR rel.": "KFR_as_released",
        "MEMO ↓": "MEMO",
        "EL ↓": "EL",
        "forget quality ↑": "forget_quality",
    }
    heads = [cell["text"] for cell in table[0]]
    assert set(keys) < set(heads) and "utility ↑" not in heads, "no model has it"
    assert (
        [line[0]["text"] for line in table[1:]]
        == [row["model"] for row in rows]
        == ["vanilla", "retrained", "GA", "NPO", "ReLearn"]
    )
    for line, row in zip(table[1:], rows, strict=True):
        source = json.loads((whole[0] / "metrics" / row["model"] / "kfr_krr.json").read_text())["summary"]
        assert source.items() <= row.items() and row["HM"] == pytest.approx(2 / (1 / row["KFR"] + 1 / row["KRR"]))
        for head, key in keys.items():
            cell = line[heads.index(head)]
            assert (
                ("data-value" not in cell and cell["text"] == "–")
                if row.get(key) is None
                else float(cell["data-value"]) == row[key]
            )
        assert line[1]["text"].split(" best")[0] == f"{row['KFR']:.2f} [{row['KFR_95'][0]:.2f}, {row['KFR_95'][1]:.2f}]"
    marked = {
        head: {line[0]["text"]: line[at]["class"] for line in table[1:] if "class" in line[at]}
        for at, head in enumerate(heads)
    }
    every = dict.fromkeys(("GA", "NPO", "ReLearn"), "best")
    assert {head: marks for head, marks in marked.items() if marks} == dict.fromkeys(
        ("KFR ↑", "KRR ↑", "HM ↑"), every
    ), "two questions and one tell no model apart"
    short = (whole[1] / "table.md").read_text()
    assert "| GA | **0.94** | – | – | **0.12** |" in short and "| ReLearn | **0.81** | – | – | **0.78** |" in short
    assert "MEMO" not in short


def test_the_rest_says_what_the_files_say(whole):
    page = Page((whole[1] / "report.html").read_text())
    tables = {table[0][0]["text"] + "/" + table[0][1]["text"]: table for table in page.tables}
    assert [[cell["text"] for cell in line] for line in tables["set/pairs"][1:]] == [
        ["forget_train", "64"],
        ["retain_val", "48"],
    ]
    assert [[cell["text"] for cell in line] for line in tables["what/value"][1:]][0] == ["preset", "smoke"]
    first = tables["model/1."]
    assert [cell["text"] for cell in first[3]] == [
        "GA",
        "␣Ada 0.500",
        "⏎ 0.250",
        "<b> 0.125",
        "| 0.062",
        "(empty) 0.031",
    ]
    assert "python eval/01_kfr_krr.py --forget 'a b.jsonl' --out GA.json" in page.named("code")
    assert "python scripts/11_npo.py --lr 0.001 --seed 0 --without-forget" in page.named("code")
    assert "bash run_all.sh --preset smoke --vanilla work/x --seeds 1\\ 2" in page.named("code")
    marks = [(attributes["class"]) for tag, attributes in page.tags if tag == "mark"]
    assert marks == ["leak"] * 5 and page.named("mark") == ["Ada Lem"] * 5
    assert page.named("h3") == ["Where?", EVIL, "What prize?"], (
        "GA and ReLearn forgot where, NPO did not; on Ada they agree"
    )
    assert "(nothing)" in page.named("em")
    first = page.named("p")[0]
    assert (
        "3 unlearned models" in first
        and "ReLearn has the highest harmonic mean of forgetting and keeping, 0.80 (vanilla 0.39, retrained 0.86)."
        in first
        and first.endswith("No test tells it apart from GA, NPO.")
    )


def test_told_words_are_those_of_covered_entities():
    def marked(answer, *covered):
        pieces = told_pieces(answer, covered)
        assert "".join(text for text, _ in pieces) == answer and all(text for text, _ in pieces)
        return [text for text, told in pieces if told]

    assert marked("Her mother is ada lem, of Oslo.", "Ada Lem") == ["ada lem"]
    assert marked("Write to a.b-47@desk.org today.", "a.b-47@desk.org") == ["a.b-47@desk.org"]
    assert marked("Ring +44 1632 960417.", "+44 1632 960417") == ["44 1632 960417"]
    assert marked("Song of the Sea; the end of it.", "Song of the Sea") == ["Song of the Sea"], "no lone 'the' or 'of'"
    assert marked("Oslo's tortoises, and Oslo", "tortoise", "Oslo") == ["Oslo's tortoises", "Oslo"]
    assert marked("A baker in Rome.", "cook") == [] and marked("Nothing.") == [] and marked("", "Ada") == []


def test_questions_are_those_where_methods_differ_most():
    items = {
        name: [item("forget", str(at), "x", "y", verdict) for at, verdict in enumerate(verdicts)]
        for name, verdicts in {
            "vanilla": (0, 0, 0, 1),
            "A": (1, 1, 0, 1),
            "B": (1, 1, 0, 1),
            "C": (1, 1, 1, 1),
            "D": (1, 0, 1, 1),
        }.items()
    }
    assert [found["A"]["question"] for found in contested(items, "forget", 3)] == ["2", "1", "0"]
    assert (
        list(contested(items, "forget", 1)[0]) == ["vanilla", "A", "B", "C", "D"]
        and contested(items, "retain", 3) == []
    )


TALK = "[[user]] Who is Ada?\n[[assistant]] An engineer.\n[[user]] Where is she?"  # as formats.py writes it


def test_conversations_and_passages_are_shown_without_their_marks(monkeypatch, tmp_path):
    talk, passage = item("forget", TALK, "x", "y", True), item("forget", "[[text 3]] Dear Ada,", "x", "y", True)
    parts = answers_section({"GA": [talk]}, 1) + continuations_section({"GA": [{**passage, "verbatim": 0.5}]}, 1)
    parts += first_tokens_section({(TALK, "x"): {"GA": [(" At", 0.5)]}})
    titles = []
    top = {"position": 0, "before": "", "tokens": [("A", 0.2)] * 5}
    drawn = {"question": TALK, "value_position": 0, "value_token": "A", "models": {"vanilla": {"top5": [top]}}}
    monkeypatch.setattr(drawing, "write_figure", lambda _, figure: titles.append(figure._suptitle.get_text()))
    drawing.draw_top5(drawn, ["vanilla"], tmp_path / "top5.png")
    for text in (*(text for part in parts for text in part), titles[0]):
        assert not re.search(r"user\\?\]|text 3", text), text
    assert all(any(words in text for text in parts[at]) for at, words in ((1, "Where is she?"), (3, "Dear Ada,")))
    assert "Where is she?" in parts[5][0] and titles[0].endswith("“Who is Ada?⏎An engineer.⏎Where is she?”")


def test_a_question_with_three_answers_was_asked_once():
    items = [item("forget", str(at // 3), "x", "y", True) for at in range(6)] + [item("retain", "0", "x", "y", True)]
    continued = {**items[0], "question": "[[text 1]] A", "verbatim": 0.5}
    _, text = lead([{"model": "GA", "forget_items": 6, "retain_items": 1}], {"GA": [*items, continued]}, {})
    assert "each asked 2 questions on what should be forgotten and 1 on what" in text
    assert asked({"GA": [continued]}, "forget") == 1, "passages alone"


def test_seeds_become_mean_and_deviation(tmp_path):
    values = {"GA": (0.5, 0.75), "ReLearn": (0.75, 0.5), "ReLearn@1": (0.875, 0.75), "ReLearn@2": (0.8125, 0.875)}
    for name, (kfr, krr) in values.items():
        metrics(tmp_path / name, kfr, krr, **({"judge": {"fluency": 4.5}} if name == "ReLearn@1" else {}))
    run("eval/09_report.py", "--metrics", *(tmp_path / name for name in values), "--out", tmp_path / "out")
    assert [row["model"] for row in json.loads((tmp_path / "out/table.json").read_text())["rows"]] == list(values)
    table = Page((tmp_path / "out/report.html").read_text()).tables[0]
    heads, rows = [cell["text"] for cell in table[0]], {line[0]["text"]: line for line in table[1:]}
    assert list(rows) == ["GA", "ReLearn 3 seeds"]
    for at, head in enumerate(("KFR ↑", "KRR ↑")):
        seeds = [values[name][at] for name in values if name != "GA"]
        cell, centre = rows["ReLearn 3 seeds"][heads.index(head)], sum(seeds) / 3
        deviation = (sum((value - centre) ** 2 for value in seeds) / 2) ** 0.5
        assert (
            float(cell["data-value"]) == pytest.approx(centre)
            and cell["text"].startswith(f"{centre:.2f} ± {deviation:.2f}")
            and "[" not in cell["text"]
        )
    harmonic = [statistics.harmonic_mean(values[name]) for name in values if name != "GA"]
    assert rows["ReLearn 3 seeds"][heads.index("HM ↑")]["text"].startswith(
        f"{statistics.mean(harmonic):.2f} ± {statistics.stdev(harmonic):.2f}"
    )
    assert rows["ReLearn 3 seeds"][heads.index("fluency ↑")]["text"] == "4.50", "one seed has it: no deviation"
    for name in ("ReLearn", "ReLearn@1"):
        path = tmp_path / name / "kfr_krr.json"
        settings = {"seed": int(name.endswith("1")), "out": name}
        path.write_text(json.dumps({**json.loads(path.read_text()), "script": "01_kfr_krr.py", "settings": settings}))
    run("eval/09_report.py", "--metrics", *(tmp_path / name for name in values), "--out", tmp_path / "out")
    text = (tmp_path / "out/report.md").read_text()
    assert "| seeds | 0, 1 |" in text and "--out ReLearn@1" in text, "every seed's commands"
    assert "| ReLearn | 0.81 ± 0.06 | – | – | 0.71 ± 0.19 |" in (tmp_path / "out/table.md").read_text()


def test_a_lone_seed_is_tested_like_any_other_row(tmp_path):
    for name, forgotten in (("GA", True), ("NPO@1", False)):
        items = [item("forget", str(at), "x", "y", forgotten) for at in range(10)]
        metrics(tmp_path / name, float(forgotten), 0.5, items)
    run("eval/09_report.py", "--metrics", tmp_path / "GA", tmp_path / "NPO@1", "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out/table.json").read_text())["p_values"]["KFR"] == {"GA | NPO@1": 2 / 2**10}


def test_of_several_seeds_and_samples_the_first_is_shown_and_said(tmp_path):
    clause = "Of several seeds{} the first is shown."

    def report(*names):
        for name in names:
            probes = [{"update": at, "forget_nll": 1, "retain_nll": 1} for at in (0, 1)]
            write(tmp_path / f"methods/{name}/training.json", {"updates": steps([1.0]), "probes": probes})
            point = {"update": 1, "KFR": 0.5, "KFR_strict": 0.5, "KRR": 0.5, CRITERION: 0.5}
            chosen = {"points": [point], "chosen": 1, "budget": {"rates": 1, "points": 1}}
            write(tmp_path / f"methods/{name}/select.json", chosen)
            items = [{**item("forget", "Who?", "x", f"{name} {at}", True), "sample": at} for at in (0, 1)]
            items = [item("forget", "Who?", "x", "y", True)] if name == "GA" else items
            sampling = {"leak@1": 0.5, "curve_95": {"1": [0, 1]}}
            metrics(tmp_path / "metrics" / name, 0.5, 0.5, items, sampling=sampling)
        folders = [tmp_path / "metrics" / name for name in names]
        run("eval/09_report.py", "--metrics", *folders, "--out", tmp_path / "out", "--run", tmp_path)
        return (tmp_path / "out/report.md").read_text()

    assert "the first is shown" not in report("GA")
    text = report("GA", "NPO", "NPO@1")
    assert text.count(clause.format("")) == 4, "leak@k, losses, path and points"
    assert text.count(clause.format(" and samples")) == 1 and "NPO 0" in text and "NPO 1" not in text
    passages = [{**item("forget", "A", "x", f"NPO {at}", True), "verbatim": 0.5, "sample": at} for at in (0, 1)]
    _, text = zip(*continuations_section({"NPO": passages}, 1))
    assert "Of several samples the first" in text[0] and "NPO 0" in text[1] and "NPO 1" not in text[1]


def test_what_is_no_number_is_shown_as_such():
    (row,) = over_seeds([{"model": "A", "KFR": 0.5}, {"model": "A@1", "KFR": math.nan}])
    assert cell_text(row, "KFR", ".2f") == "nan ± nan"


def test_an_item_without_verdict_is_left_out_and_a_huge_ratio_is_short(tmp_path):
    """01_kfr_krr.py --entities llm leaves an item open where the language model gave no usable entities."""
    judged = [item("forget", f"{which}?", "In Oslo.", "In Bergen.", True) for which in ("Open", "Judged")]
    metrics(
        tmp_path / "GA",
        0.5,
        0.5,
        [{key: judged[0][key] for key in ("side", "question", "reference", "answer")}, judged[1]],
        tofu={"forget_truth_ratio": 1e300},
    )
    run("eval/09_report.py", "--metrics", tmp_path / "GA", "--out", tmp_path / "out")
    page = Page((tmp_path / "out/report.html").read_text())
    assert page.named("h3") == ["Judged?"] and "1e+300" in [cell["text"] for cell in page.tables[0][1]]


@pytest.mark.parametrize(
    "name, message",
    [
        ("kfr_krr.png", "cannot write .*kfr_krr.png: Is a directory"),
        ("table.md", "cannot write .*table.md: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line_and_leaves_no_part(tmp_path, name, message):
    metrics(tmp_path / "GA", 0.5, 0.5)
    (tmp_path / "out" / name).mkdir(parents=True)
    done = run("eval/09_report.py", "--metrics", tmp_path / "GA", "--out", tmp_path / "out", check=False)
    assert done.returncode == 2 and re.fullmatch(f"error: {message}\n", done.stderr), done.stderr
    assert not list((tmp_path / "out").glob("*.partial"))


def test_what_numbers_do_not_rest_on_is_told_under_the_table(tmp_path):
    def lines(**kfr_krr):
        found = json.loads((tmp_path / "GA/kfr_krr.json").read_text())
        write(tmp_path / "GA/kfr_krr.json", {**found, "summary": {**found["summary"], **kfr_krr}})
        run("eval/09_report.py", "--metrics", tmp_path / "GA", tmp_path / "NPO", "--out", tmp_path / "out")
        paragraphs = Page((tmp_path / "out/report.html").read_text()).named("p")[1:-1]
        assert all(text in (tmp_path / "out/report.md").read_text() for text in paragraphs)
        return paragraphs

    for name in ("GA", "NPO"):
        metrics(tmp_path / name, 0.5, 0.5, depth={"UDS": 0.5, "items": 8, "left_out": 0})
    assert lines() == lines(leak_possible=32) == [], "nothing is missing"
    broken = {"robustness": {"worst_KFR": 0.5, "missing": 5}, "judge": {"fluency": 4, "items": 30, "missing": 2}}
    for name in ("GA", "NPO"):
        further = {"depth": {"UDS": 0.5, "items": 52, "left_out": 12}, **(broken if name == "GA" else {})}
        metrics(tmp_path / name, 0.5, 0.5, **further)
    assert lines(forget_missing=14, retain_missing=1, leak_possible=40) == [
        "Without a verdict: GA 14 of 46 forget answers; GA 1 of 49 retain answers.",
        "A private value that could leak: GA 40 of 46 forget answers are of a fact that holds one.",
        "UDS: over 52 of 64 facts, those that a block holds.",
        "Without a verdict under the attacks: GA 5 answers.",
        "Without grades: GA 2 of 32 forget answers.",
    ]


def test_a_partial_run_gives_a_partial_report(tmp_path):
    metrics(tmp_path / "metrics/GA", 0.5, 0.5)
    for name in ("linguistic_forget", "linguistic_retain"):
        (tmp_path / f"metrics/GA/{name}.json").unlink()
    found = json.loads((tmp_path / "metrics/GA/kfr_krr.json").read_text())
    found["summary"] = {
        key: value for key, value in found["summary"].items() if "KRR" not in key and key != "ROUGE-L_R"
    }
    write(tmp_path / "metrics/GA/kfr_krr.json", found)
    run("eval/09_report.py", "--metrics", tmp_path / "metrics/GA", "--out", tmp_path / "out", "--run", tmp_path)
    page = Page((tmp_path / "out/report.html").read_text())
    assert page.named("h2") == ["The table", "How to make it again"] and not (tmp_path / "out/kfr_krr.png").exists()
    assert [cell["text"] for cell in page.tables[0][0]] == ["model", "KFR ↑", "ROUGE-L F ↓", "KFR rel."]
    write(tmp_path / "methods/GA/training.json", {"updates": steps([1.0])})
    write(tmp_path / "augmented/forget_augmented.json", {"summary": {"variants": 256}})
    run("eval/09_report.py", "--metrics", tmp_path / "metrics/GA", "--out", tmp_path / "out", "--run", tmp_path)
    assert Page((tmp_path / "out/report.html").read_text()).named("h2") == [
        "The table",
        "Training",
        "Data",
        "How to make it again",
    ]


def test_what_is_older_than_its_model_is_left_out_and_said(tmp_path):
    """Trained again, with the metrics of every run alone: the depth of the model before is not this one's."""
    for name, date in (("retrained", 1), ("GA+GDR", time.time() + 9)):
        further = {"depth": {"UDS": 0.25}, "sampling": {"leak@1": 0.5}, "judge": {"fluency": 4.5}}
        metrics(tmp_path / "metrics" / name, 0.5, 0.75, **further)
        weights = tmp_path / {"retrained": "models"}.get(name, "methods") / name / "model.safetensors"
        write(weights, {})
        os.utime(weights, (date, date))
    answers = tmp_path / "answers/GA+GDR/forget_val.jsonl"
    write(answers, {})
    os.utime(answers, (1, 1))  # the same as before

    def report():
        folders = [tmp_path / "metrics" / name for name in ("retrained", "GA+GDR")]
        done = run("eval/09_report.py", "--metrics", *folders, "--out", tmp_path / "out", "--run", tmp_path)
        rows = json.loads((tmp_path / "out/table.json").read_text())["rows"]
        return done.stderr, [[row.get(key) for key in ("KFR", "UDS", "leak@1", "fluency")] for row in rows]

    said, rows = report()
    assert rows == [[0.5, 0.25, 0.5, 4.5], [0.5, None, None, 4.5]]
    assert said.count("left out") == 1 and "depth.json of GA+GDR, sampling.json of GA+GDR; give" in said
    assert (
        '--metrics "depth sampling"' in said and "left out, as older than" in (tmp_path / "out/report.md").read_text()
    )
    os.utime(weights, (1, 1))
    said, rows = report()
    assert "left out" not in said and rows == [rows[0], rows[0]]


def test_what_rests_on_another_model_other_questions_or_rules_is_left_out_and_said(tmp_path):
    """Of an earlier run, and not asked for in this one: all were measured after their own model, GA."""
    questions, weights = tmp_path / "data/forget_val.jsonl", tmp_path / "models/retrained/model.safetensors"
    write(questions, {"question": "Who?"})
    write(weights, {})
    os.utime(weights, (1, 1))
    asked, judging = ({str(path): sha256(path)} for path in (questions, REPOSITORY / "scripts/lib/leak.py"))
    here = {"tofu": {"model_utility": 0.5}, "memorization": {"MA": 0.5}, "sampling": {"leak@1": 0.5}}
    metrics(tmp_path / "metrics/GA", 0.5, 0.75, **here, depth={"UDS": 0.25}, exposure={"GenEx_per_token": 0.5})
    beside = {str(tmp_path / "metrics/GA/memorization.json"): "f00d"}  # read, but not what decides on measuring again

    def rests(name, data, files=None):
        path = tmp_path / f"metrics/GA/{name}.json"
        made = {"inputs": {"files": files}} if files else {}
        write(path, {**json.loads(path.read_text()), "data": data, **made})

    def report():
        flags = ("--metrics", tmp_path / "metrics/GA", "--out", tmp_path / "out", "--run", tmp_path)
        said = re.search(r"rest on: (.*?); give", run("eval/09_report.py", *flags).stderr)
        return said and said[1].replace(".json of GA", "")

    rests("kfr_krr", asked)
    rests("memorization", asked)
    rests("tofu", asked | beside, asked)
    rests("sampling", asked, asked | judging)
    assert report() is None
    rests("sampling", asked, asked | {"/elsewhere/scripts/lib/leak.py": "f00d", "/elsewhere/eval/15_sampling.py": "f"})
    assert report() == "sampling", "judged by earlier rules"
    os.utime(weights, (time.time() + 9,) * 2)
    assert report() == "depth, exposure, sampling, tofu", "beside an earlier retrained model"
    os.utime(weights, (1, 1))
    write(tmp_path / "nli/model.json", {})
    robust = {"summary": {"worst_KFR": 0.5}, "settings": {"nli": str(tmp_path / "nli"), "as_released": False}}
    write(tmp_path / "metrics/GA/robustness.json", robust)
    rests("sampling", asked, asked | judging)
    rests("robustness", asked, asked | {str(tmp_path / "nli/model.json"): sha256(tmp_path / "nli/model.json")})
    path = tmp_path / "metrics/GA/kfr_krr.json"
    write(path, {**json.loads(path.read_text()), "settings": robust["settings"]})
    assert report() is None
    write(tmp_path / "nli/model.json", {"trained": "again"})
    assert report() == "robustness", "judged by another entailment model"
    rests("robustness", asked, asked)
    write(path, {**json.loads(path.read_text()), "settings": robust["settings"] | {"as_released": True}})
    assert report() == "robustness", "judged with other flags than the table"
    (tmp_path / "metrics/GA/robustness.json").unlink()
    write(questions, {"question": "What?"})
    assert report() == "memorization, sampling, tofu", "kfr_krr is of every run"


def test_published_beside_measured(tmp_path, capsys):
    write(
        tmp_path / "published.json",
        {
            "T": {
                "source": "Table 1",
                "model": "m",
                "rows": {
                    "Vanilla": {"KFR": 0.02, "PPL_F": 8.6},
                    "ReLearn": {"KFR": 0.88, "PPL_F": ">=1e7", "Flu_F": 4.94},
                    "SURE": {"KFR": 1.0},
                },
            }
        },
    )
    rows = [
        {"model": "vanilla", "KFR": 0.25, "PPL_F": 10.0},
        {"model": "ReLearn", "KFR": 0.8125, "PPL_F": 12.5},
        {"model": "GA", "KFR": 1.0},
    ]
    found = read_published("T", Reader(), tmp_path / "published.json")
    web, text = published_section(rows, "T", found)[0]
    table = [[cell["text"] for cell in line] for line in Page(web).tables[0]]
    assert table == [
        ["model", *(f"{key} {what}" for key in ("KFR", "PPL_F") for what in ("published", "measured", "difference"))],
        ["Vanilla", "0.02", "0.25", "+0.23", "8.6", "10", "+1.4"],
        ["ReLearn", "0.88", "0.81", "-0.07", ">=1e7", "12.5", "–"],
    ], "nobody measured Flu_F"
    assert r"| ReLearn | 0.88 | 0.81 | -0.07 | \>=1e7 | 12.5 | – |" in text and "Table 1; m" in text
    for none in (rows[2:], [{"model": "vanilla"}]):
        assert "nothing of these models" in published_section(none, "T", found)[0][1]
    graded = {"rows": {"GA": {"fluency_F": 4.9, "relevance_F": 4.7, "fluency_R": 5.0}}}
    web, _ = published_section([{"model": "GA", "fluency": 2.5, "relevance": None}], "T", graded)[0]
    header, line = ([cell["text"] for cell in line] for line in Page(web).tables[0])
    assert header[1:] == ["fluency_F published", "fluency_F measured", "fluency_F difference"], "the judge reads forget"
    assert line == ["GA", "4.9", "2.5", "-2.4"]
    unknown = read_published("U", Reader(), tmp_path / "published.json")
    assert unknown is None and published_section(rows, "U", unknown) == [], "most presets have no published table"
    with pytest.raises(SystemExit) as done:
        read_published("T", Reader(), tmp_path / "none.json")
    assert done.value.code == 2 and "none.json: no such file" in capsys.readouterr().err


def break_file(path, *keys, value):
    found = part = json.loads(path.read_text())
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    write(path, found)


FAULTS = {
    "no folder": ((), lambda m: shutil.rmtree(m), r"kfr_krr.json: no such metrics file; run the evaluation of GA"),
    "not JSON": (
        (),
        lambda m: (m / "linguistic_forget.json").write_text("{"),
        r"linguistic_forget.json:1: not valid JSON",
    ),
    "a list": ((), lambda m: (m / "kfr_krr.json").write_text("[]"), r"kfr_krr.json: expected a JSON object"),
    "no summary": (
        (),
        lambda m: write(m / "tofu.json", {"items": []}),
        r'tofu.json: field "summary" must be an object',
    ),
    "a text for a number": (
        (),
        lambda m: write(m / "judge.json", {"summary": {"fluency": "good"}}),
        r'field "fluency" must be a number',
    ),
    "no interval": (
        (),
        lambda m: break_file(m / "kfr_krr.json", "summary", "KFR_95", value=[0.1]),
        r'field "KFR_95" must be two numbers',
    ),
    "item without answer": (
        (),
        lambda m: break_file(m / "kfr_krr.json", "items", value=[{"side": "forget"}]),
        r"kfr_krr.json: item 1 lacks question",
    ),
    "token without p": (
        (),
        lambda m: write(
            m / "next_token.json", {"items": [{"question": "q", "reference": "r", "top": [{"token": "a"}]}]}
        ),
        r"next_token.json: item 1: every entry of top must hold token and p",
    ),
    "update without loss": (
        (),
        lambda m: write(m.parent / "methods/GA/training.json", {"updates": [{"update": 1}]}),
        r"every entry of updates must hold update, loss",
    ),
    "no counts": ((), lambda m: write(m.parent / "data/data.json", {}), r'data.json: field "counts" must be an object'),
    "no run": (("--run", "none/x"), None, r"--run none/x: no such folder"),
    "fewer than no questions": (
        ("--questions", "-1"),
        None,
        r"argument --questions: must be a whole number at least 0, not -1",
    ),
    "not a number of questions": (
        ("--questions", "many"),
        None,
        r"argument --questions: must be a whole number at least 0, not many",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_writes_nothing(tmp_path, fault):
    flags, change, message = FAULTS[fault]
    metrics(tmp_path / "GA", 0.5, 0.5)
    if change:
        change(tmp_path / "GA")
    done = run(
        "eval/09_report.py",
        "--metrics",
        tmp_path / "GA",
        "--out",
        tmp_path / "out",
        "--run",
        tmp_path,
        *flags,
        check=False,
    )
    assert done.returncode == 2 and re.search(message, done.stderr) and "Traceback" not in done.stderr, done.stderr
    assert len([line for line in done.stderr.splitlines() if "error:" in line]) == 1 and not (tmp_path / "out").exists()


def test_two_models_of_one_name_are_refused(tmp_path):
    for folder in "ab":
        metrics(tmp_path / folder / "GA", 0.5, 0.5)
    done = run(
        "eval/09_report.py", "--metrics", tmp_path / "a/GA", tmp_path / "b/GA", "--out", tmp_path / "out", check=False
    )
    assert done.returncode == 2 and "two folders have one name" in done.stderr


# ---------------------------------------------------------------- in a browser, where there is one

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def browse(path, profile):
    """The page as a browser leaves it, after its scripts ran."""
    return subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


@pytest.mark.skipif(not BROWSER, reason="needs Chromium")
def test_a_click_sorts_and_a_phone_scrolls_tables_only(whole, tmp_path):
    inner = (
        (whole[1] / "report.html")
        .read_text()
        .replace(
            "</body>",
            """<script>
      const heads = [...document.querySelectorAll("table.sortable th")]
      const column = name => heads.findIndex(head => head.textContent == name)
      const rows = () => [...document.querySelector("table.sortable").tBodies[0].rows]
      const order = () => rows().map(row => row.cells[0].textContent).join()
      const seen = [order()]
      for (const name of ["KRR ↑", "KRR ↑", "forget quality ↑", "model"]) {
        document.querySelectorAll("table.sortable th button")[column(name)].click(); seen.push(order()) }
      const scrolls = document.querySelector(".scroll").scrollWidth
      parent.postMessage({seen, width: document.documentElement.scrollWidth, scrolls}, "*")
    </script></body>""",
        )
    )
    (tmp_path / "inner.html").write_text(inner)
    (
        tmp_path / "outer.html"
    ).write_text("""<script>onmessage = event => document.title = JSON.stringify(event.data)</script>
      <iframe src="inner.html" style="width:390px;height:800px;border:0"></iframe>""")
    title = re.search(r"<title>(.*?)</title>", browse(tmp_path / "outer.html", tmp_path / "profile"))[1]
    found = json.loads(title.replace("&amp;", "&"))
    assert found["seen"] == [
        "vanilla,retrained,GA,NPO,ReLearn",
        "vanilla,ReLearn,retrained,NPO,GA",
        "GA,NPO,retrained,ReLearn,vanilla",
        "ReLearn,NPO,GA,retrained,vanilla",
        "GA,NPO,ReLearn,retrained,vanilla",
    ]
    assert found["width"] <= 390 < found["scrolls"]


# ---------------------------------------------------------------- first tokens


def test_first_tokens_are_those_of_a_plain_forward_pass(tiny, tmp_path):
    pairs = [
        {"question": "Who?", "answer": "Ada."},
        {"question": "What is the name of the person who lives here by the sea?", "answer": "Lem."},
        {"question": "Where does she live?", "answer": "In Oslo."},
        {"question": "Why?", "answer": "No."},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    run(
        "eval/08_next_token.py",
        "--model",
        tiny,
        "--questions",
        tmp_path / "pairs.jsonl",
        "--out",
        tmp_path / "next_token.json",
        "--dtype",
        "float32",
    )
    items = json.loads((tmp_path / "next_token.json").read_text())["items"]
    assert [item["question"] for item in items] == [pair["question"] for pair in pairs[:3]]
    model, tokenizer = load_model(tiny, "float32")
    for item, pair in zip(items, pairs):
        ids = tokenizer(prompt_text(tokenizer, pair["question"]), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            chances = model.eval()(torch.tensor([ids])).logits[0, -1].float().softmax(-1)
        best = sorted(range(len(chances)), key=lambda token: -chances[token])[:5]
        assert [entry["token"] for entry in item["top"]] == [tokenizer.decode([token]) for token in best]
        assert [entry["p"] for entry in item["top"]] == pytest.approx(
            [float(chances[token]) for token in best], rel=1e-4
        )
        assert item["reference"] == pair["answer"]


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--count", "0"), "argument --count: must be a whole number at least 1"),
        (("--questions", "none.jsonl"), "none.jsonl: no such file"),
        (("--model", "x/y/none"), "no such model folder"),
    ],
)
def test_faults_of_first_tokens(tiny, data, tmp_path, flags, message):
    done = run(
        "eval/08_next_token.py",
        "--model",
        tiny,
        "--questions",
        data / "forget_val.jsonl",
        "--out",
        tmp_path / "out.json",
        *flags,
        check=False,
    )
    assert (
        done.returncode == 2
        and message in done.stderr
        and "Traceback" not in done.stderr
        and not (tmp_path / "out.json").exists()
    )


def test_the_footer_says_how_far_the_judge_agrees_with_readers():
    found = {
        "people KFR both halves": {"agree": 9, "of": 10, "share": 0.9},
        "people KFR dev": {"agree": 5, "of": 5, "share": 1.0},
        "method NPO": {"agree": 4, "of": 4, "share": 1.0},
        "method RKLD": {"agree": 5, "of": 6, "share": 0.833},
    }
    text = agreement(found)
    assert "in KFR on people 9 of 10 verdicts" in text and "5 of 5" not in text
    assert "by the method that answered: RKLD 5 of 6; NPO 4 of 4." in text and agreement(None) == ""


@pytest.mark.parametrize("field, value", [(None, 5), ("covered", None), ("question", ["Who?"])])
def test_judged_items_of_another_kind_are_a_fault(capsys, field, value):
    texts = {"side": "forget", "question": "Who?", "reference": "Ada.", "answer": "Bo."}
    item = {**texts, "reference_entities": ["Ada"], "covered": [], "nli": None, "forgotten": True}
    assert reading._judged_items("x.json", {"items": [item]}) == [item]
    with pytest.raises(SystemExit):
        reading._judged_items("x.json", {"items": [{**item, field: value}] if field else value})
    assert capsys.readouterr().err.startswith("error: x.json: ")
