"""Requests one after another (run_all.sh --requests): is the first still forgotten after the last, and what did each
cost the rest?

After every request t: KFR, KFR_strict and leak over the questions of requests 1 to t, and over request 1's; KRR over
the retain set, and over what is not yet requested, whose facts must still be told; LS of both kinds of answers; the
seconds that unlearning took, what was written for it included. Beside it the same forget set in one go, and retraining.
The setting is that of Yuan et al. 2024 (arXiv:2410.08109), continual unlearning, and of MUSE's sustainability (Shi et
al. 2024, arXiv:2407.06460). Verdicts are eval/01_kfr_krr.py's, item by item; shares are over items that have one.

requests.md holds the table, requests.png the figure, requests.json both in numbers with every request's own KFR after
every request. A certificate a method (JSON and Markdown) lists the requests in order: SHA-256 of their pairs, of the
adapter that each left and of the model that it began from, settings, numbers; it is searched for private text first.
"""

import hashlib
from argparse import Namespace
from pathlib import Path

from lib.certificate import HASH, HASH_OF_TEXTS, check_quiet, own_record, own_words, pair_hash, private_texts, told
from lib.files import fail, mean, read_object, record, sha256, write_json, write_text
from lib.flags import Parser, count
from lib.formats import read_pairs
from lib.plots import INK, pyplot, style, write_figure

COLUMNS = (  # key, heading, format
    ("KFR", "KFR so far ↑", ".2f"),
    ("leak", "leak so far ↓", ".2f"),
    ("KFR_strict", "KFR strict so far ↑", ".2f"),
    ("KFR_strict_own", "its own KFR strict ↑", ".2f"),
    ("KFR_strict_first", "the first's KFR strict ↑", ".2f"),
    ("KRR", "KRR retain ↑", ".2f"),
    ("KRR_to_come", "KRR to come ↑", ".2f"),
    ("LS_F", "LS F ↑", ".3f"),
    ("LS_R", "LS R ↑", ".3f"),
    ("seconds", "seconds", ".0f"),
)
PANELS = (  # key, title
    ("KFR_strict", "forgotten of all requests so far (KFR strict)"),
    ("KFR_strict_first", "forgotten of the first request (KFR strict)"),
    ("leak", "leak of all requests so far"),
    ("KRR", "still told of the retain set (KRR)"),
    ("KRR_to_come", "still told of what is not yet requested (KRR)"),
    ("LS_R", "linguistic score on what is to be kept (LS)"),
)


def parser() -> Parser:
    written = lambda args: [Path(args.out, f"requests.{ending}") for ending in ("json", "md", "png")]
    made = Parser(__doc__, files=written)
    made.add_argument("--run", required=True, metavar="FOLDER", help="the run's folder, work/NAME")
    made.add_argument("--methods", required=True, nargs="+", help="methods, as run_all.sh names them")
    made.add_argument("--requests", required=True, type=count, help="how many requests there are")
    made.add_argument("--out", required=True, help="folder for requests.md, requests.json and requests.png")
    return made


# ---------------------------------------------------------------- numbers


def share(items: list[dict], verdict: str, quiet: bool = False) -> float | None:
    """Share of the items with a verdict for which it holds, and which with `quiet` do not leak either; None of none."""
    judged = [item for item in items if verdict in item]
    return mean(item[verdict] and not (quiet and item["leak"]) for item in judged) if judged else None


def forgetting(items: list[dict], name: str = "") -> dict[str, float | None]:
    """KFR, leak and KFR_strict of forget items. name: ending of the keys."""
    return {
        f"KFR{name}": share(items, "forgotten"),
        f"leak{name}": share(items, "leak"),
        f"KFR_strict{name}": share(items, "forgotten", quiet=True),
    }


def after(items: list[dict], request: int) -> dict:
    """What holds after a request. items: judged answers, of which those about a request carry its number."""
    forget = [item for item in items if item["side"] == "forget"]
    retain = [item for item in items if item["side"] == "retain"]
    of = {at: [item for item in forget if item.get("request") == at] for at in range(1, request + 1)}
    return {
        **forgetting(forget),
        **forgetting(of[request], "_own"),
        **forgetting(of[1], "_first"),
        "KRR": share([item for item in retain if not item.get("request")], "retained"),
        "KRR_to_come": share([item for item in retain if item.get("request")], "retained"),
        "each": {at: forgetting(part) for at, part in of.items()},
    }


def metrics(path: Path, files: list) -> dict:
    """A metrics file, noted among `files`."""
    found = read_object(path)
    if not isinstance(found.get("items"), list) or not isinstance(found.get("summary"), dict):
        fail(f"{path}: not a metrics file (it has no summary or no items)")
    files.append(path)
    return found


def linguistic(folder: Path, files: list) -> dict[str, float | None]:
    return {
        f"LS_{side[0].upper()}": metrics(folder / f"linguistic_{side}.json", files)["summary"].get("LS")
        for side in ("forget", "retain")
    }


def seconds(run: Path, folder: Path) -> float:
    """Of unlearning one request, or all in one go: the training, and writing or training what it read beside the data
    that every method reads.
    """
    own = own_record(folder) or fail(f"{folder}: no record of its training")
    records = [own]
    if (chosen := folder / "select.json").is_file():  # the whole training and the choice, not the way to the best point
        records = [read_object(Path(own["settings"]["out"]) / "training.json"), read_object(chosen)]
    for path in map(Path, own.get("data") or {}):
        parts = path.relative_to(run).parts if path.is_relative_to(run) else ()
        if parts[parts[:1] == ("requests",) :][:1] in (("augmented",), ("models",)):
            made = [path.with_suffix(".json"), path.parent / "training.json"]
            records += [read_object(path) for path in made if path.is_file()][:1]
    return sum(found.get("seconds") or 0 for found in records)


def measured(run: Path, method: str, requests: int, files: list) -> list[dict]:
    """The numbers after each request of a method."""
    rows = []
    for at in range(1, requests + 1):
        folder = run / f"requests/metrics/{method}/{at}"
        items = metrics(folder / "kfr_krr.json", files)["items"]
        numbers = (
            after(items, at)
            | linguistic(folder, files)
            | {"seconds": seconds(run, run / f"requests/methods/{method}/{at}")}
        )
        rows.append({"model": method, "request": at, **numbers})
    return rows


def in_one_go(run: Path, name: str, numbers: dict, requests: int, files: list) -> dict:
    """The same numbers of a model of the run's table, which was asked the same questions.

    Args:
        numbers: {(question, answer): request}.
    """
    items = metrics(run / f"metrics/{name}/kfr_krr.json", files)["items"]
    request = lambda item: numbers.get((item["question"], item["reference"])) if item["side"] == "forget" else None
    items = [{**item, "request": request(item)} for item in items]
    numbers = {key: None if key.endswith("_own") else value for key, value in after(items, requests).items()}
    row = {"model": name, "request": None, **numbers, **linguistic(run / f"metrics/{name}", files)}
    made = next((folder for folder in (run / f"methods/{name}", run / f"models/{name}") if folder.is_dir()), None)
    return row | {"seconds": seconds(run, made) if made and own_record(made) else None}


# ---------------------------------------------------------------- table and figure


def table(sequences: dict[str, list[dict]], whole: list[dict], requests: int) -> str:
    """Markdown: a line for each request of each method, and one for each model made in one go."""
    text = lambda row, key, form: "–" if row.get(key) is None else format(row[key], form)
    lines = [
        f"# {requests} requests one after another",
        "",
        "| model | after request | " + " | ".join(heading for _, heading, _ in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for row in [*(row for rows in sequences.values() for row in rows), *whole]:
        cells = [row["model"], str(row["request"] or ("none" if row["model"] == "vanilla" else "all in one go"))]
        lines.append("| " + " | ".join([*cells, *(text(row, key, form) for key, _, form in COLUMNS)]) + " |")
    return "\n".join(lines) + (
        "\n\nKFR: share of the facts of the requests so far that are no longer told; leak: share of the answers about "
        "them that state a private value whole; KFR strict: neither told nor leaked; KRR: share of the facts still "
        "told, of the retain set and of the requests still to come; LS: linguistic score of the answers about what was "
        "requested (F) and what is to be kept (R); seconds: of this request's unlearning, with what was written or "
        "trained for it alone.\n\n![](requests.png)\n"
    )


def figure(sequences: dict[str, list[dict]], whole: list[dict], requests: int):
    """A panel a number, a curve a method over the number of requests; hollow: the method in one go; dotted: retrained
    and vanilla.
    """
    made, panels = pyplot().subplots(2, 3, figsize=(10.5, 5.8), sharex=True)
    by_name = {row["model"]: row for row in whole}
    for panel, (key, title) in zip(panels.flat, PANELS, strict=True):
        for at, (name, rows) in enumerate(sequences.items()):
            colour, marker, dashes = style(at)
            known = [(row["request"], row[key]) for row in rows if row[key] is not None]
            panel.plot(
                [at for at, _ in known], [value for _, value in known], dashes, marker=marker, color=colour, label=name
            )
            if (one := by_name.get(name, {}).get(key)) is not None:
                panel.plot(requests + 0.5, one, marker, color=colour, markerfacecolor="none", clip_on=False)
        for name, dashes in (("retrained", "--"), ("vanilla", ":")):
            if (level := by_name.get(name, {}).get(key)) is not None:
                panel.axhline(level, color=INK, linestyle=dashes, linewidth=0.9, alpha=0.6, label=name)
        panel.set_title(title, fontsize=8.5)
        panel.set(xlim=(0.7, requests + 0.7), xticks=range(1, requests + 1))
        if not key.startswith("LS"):
            panel.set(ylim=(-0.04, 1.04))
        panel.grid(alpha=0.2)
    for panel in panels[1]:
        panel.set_xlabel("number of requests (hollow: all in one go)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)))
    return made


# ---------------------------------------------------------------- certificates


def weights_of(folder: Path) -> str:
    """The vanilla model by the SHA-256 of its weights; of several files, that of theirs in order."""
    digests = [sha256(path) for path in sorted(folder.glob("*.safetensors"))]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return f"the vanilla model, weights {digest}" if digests else "the vanilla model"


def certificate(run: Path, method: str, rows: list[dict], requests: list[list[dict]], here: dict) -> dict:
    """What was done and measured, request by request; hashes in place of texts."""
    listed, before = [], weights_of(run / "models/vanilla")
    for row, pairs in zip(rows, requests, strict=True):
        at = row["request"]
        folder = run / f"requests/methods/{method}/{at}"
        adapter = folder / "adapter_model.safetensors"
        digest = sha256(adapter) if adapter.is_file() else fail(f"{folder}: no finished adapter")
        numbers = {key: value for key, value in row.items() if isinstance(value, (int, float)) and key != "request"}
        listed.append(
            {
                "request": at,
                "pairs": sorted(map(pair_hash, pairs)),
                "file": sha256(run / f"requests/data/{at}/forget_train.jsonl"),
                "began_from": before,
                "adapter": digest,
                "made_by": told(own_record(folder) or fail(f"{folder}: no record of its training")),
                "measured_after": numbers,
            }
        )
        before = digest
    return {
        "method": method,
        "hash": HASH,
        "requests": listed,
        "certified_by": {"versions": here["versions"], "git_commit": here["git_commit"]},
    }


def certificate_text(found: dict) -> str:
    """The certificate to read, from its JSON alone."""
    lines = [
        f"# Certificate: {len(found['requests'])} requests unlearned one after another",
        "",
        f"Method: {found['method']}. Each request was unlearned from the model that the one before left: one adapter, "
        "trained further. Pairs are told by their SHA-256 (question, line feed, answer; UTF-8): whoever holds a pair "
        f"can find it here. {HASH_OF_TEXTS} A hash does not hide a text that can be guessed. Forgetting is measured, "
        "not proven.",
    ]
    for one in found["requests"]:
        step = one["made_by"]
        lines += [
            "",
            f"## Request {one['request']}: {len(one['pairs'])} pairs",
            "",
            f"Began from {one['began_from']}. Adapter after it: {one['adapter']}. File of the pairs: {one['file']}.",
            f"`{step['script']}`, {step['updates']} updates: "
            + ", ".join(f"{name} {value}" for name, value in step["settings"].items())
            + f"; commit {step['git_commit']}.",
            "",
            "Measured after it: "
            + ", ".join(f"{key} {value:.4g}" for key, value in one["measured_after"].items())
            + ".",
            "",
            *(f"* {digest}" for digest in one["pairs"]),
        ]
    return "\n".join(lines) + "\n"


BARE = {  # a request of which nothing is told
    "request": "",
    "pairs": [],
    "began_from": "the vanilla model",
    "adapter": "",
    "file": "",
    "measured_after": {},
    "made_by": {"script": "", "updates": "", "settings": {}, "git_commit": ""},
}
TEMPLATE = certificate_text({"method": "", "requests": [BARE]})  # the fixed words of a certificate


def main(args: Namespace):
    run, out, files = Path(args.run), Path(args.out), []
    data = [run / f"requests/data/{at}" for at in range(1, args.requests + 1)]
    requests = [read_pairs(folder / "forget_train.jsonl") for folder in data]
    asked = read_pairs(data[-1] / "requested_val.jsonl")
    numbers = {(pair["question"], pair["answer"]): pair["request"] for pair in asked}
    sequences = {name: measured(run, name, args.requests, files) for name in args.methods}
    beside = [
        name for name in (*args.methods, "retrained", "vanilla") if (run / f"metrics/{name}/kfr_krr.json").is_file()
    ]
    whole = [in_one_go(run, name, numbers, args.requests, files) for name in beside]
    here = record(args, files)
    texts = private_texts([pair for pairs in (*requests, asked) for pair in pairs])
    write_figure(out / "requests.png", figure(sequences, whole, args.requests))
    write_text(out / "requests.md", table(sequences, whole, args.requests))
    write_json(out / "requests.json", {"sequences": sequences, "in_one_go": whole, **here})
    written, folder = {}, run / "requests/certificates"
    for path in [*folder.glob("*.json"), *folder.glob("*.md")]:
        path.unlink()  # of an earlier run, of other methods maybe
    for name, rows in sequences.items():
        found = certificate(run, name, rows, requests, here)
        text, own = certificate_text(found), own_words(found, TEMPLATE)
        for content in (text, str(found)):
            then = f"no certificate was written, but {out}/requests.md, .json and .png were"
            check_quiet(f"the certificate of {name}", content, texts, own, then)
        written[name] = found, text
    for name, (found, text) in written.items():
        write_json(folder / f"{name}.json", found)
        write_text(folder / f"{name}.md", text)


if __name__ == "__main__":
    main(parser().parse_args())
