"""The report: a row a model in Markdown and JSON, and one picture, KFR against KRR."""
import argparse
import json
from pathlib import Path

from measure import fail, origin, write_text

COLUMNS = (  # key, heading, format, meaning
    ("KFR", "KFR ↑", ".2f", "share of the forget facts no longer told"),
    ("KRR", "KRR ↑", ".2f", "share of the retain facts still told"),
    ("HM", "HM ↑", ".2f", "harmonic mean of KFR and KRR"),
    ("ROUGE-L_F", "ROUGE-L F ↓", ".2f", "recall of the true answers, forget set"),
    ("ROUGE-L_R", "ROUGE-L R ↑", ".2f", "the same, retain set"),
    ("PPL_F", "PPL F", ".4g", "perplexity of the answers under the base model, forget set"),
    ("LS_F", "LS F ↑", ".3f", "linguistic score of the answers, forget set"),
    ("PPL_R", "PPL R", ".4g", "the same, retain set"),
    ("LS_R", "LS R ↑", ".3f", "the same, retain set"),
    ("KFR_as_released", "KFR rel.", ".2f", "KFR as ReLearn's released code counts it"),
    ("KRR_as_released", "KRR rel.", ".2f", "KRR likewise"),
)
REFERENCE = ("vanilla", "retrained")  # not unlearned: the start, and exact unlearning's result


def read(folder):
    """One model's row from its three metrics files."""
    row = {"model": folder.name}
    for name, keep in (("kfr_krr", ""), ("linguistic_forget", "_F"), ("linguistic_retain", "_R")):
        path = folder / f"{name}.json"
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))["summary"]
        except FileNotFoundError:
            fail(f"{path}: no such metrics file; run the evaluation of {folder.name} first")
        except (json.JSONDecodeError, KeyError):
            fail(f"{path}: not a metrics file")
        row |= {key + keep: value for key, value in summary.items()}
    row["HM"] = 2 * row["KFR"] * row["KRR"] / (row["KFR"] + row["KRR"]) if row["KFR"] + row["KRR"] else 0.0
    return row


def table(rows):
    """Markdown; the best of the unlearned models in bold where better has a direction."""
    lines = ["| model | " + " | ".join(heading for _, heading, *_ in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    trained = [row for row in rows if row["model"] not in REFERENCE]
    for row in rows:
        cells = [row["model"]]
        for key, heading, form, _ in COLUMNS:
            text = format(row[key], form)
            if "↑" in heading or "↓" in heading:
                best = (max if "↑" in heading else min)((other[key] for other in trained), default=None)
                if row in trained and best is not None and text == format(best, form):
                    text = f"**{text}**"
            cells.append(text)
        lines.append("| " + " | ".join(cells) + " |")
    notes = "; ".join(f"{heading.rstrip(' ↑↓')}: {meaning}" for _, heading, _, meaning in COLUMNS)
    return "\n".join(lines) + f"\n\n{notes}. Bold: best of the unlearned models. F: forget set, R: retain set.\n"


def picture(rows, path):
    """KFR against KRR with 95 % intervals; the upper right corner is where an unlearned model should be."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    colours = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#882255", "#000000")  # Okabe and Ito's, without yellow
    figure, axes = plt.subplots(figsize=(7.5, 5.6), layout="constrained")
    for level in (0.5, 0.7, 0.8, 0.9):  # lines of equal harmonic mean
        krr = [level / 2 + (1 - level / 2) * at / 200 for at in range(1, 201)]
        line = [(x, level * x / (2 * x - level)) for x in krr if 2 * x > level and level * x / (2 * x - level) <= 1.06]
        axes.plot(*zip(*line), color="#bbbbbb", linewidth=0.8, zorder=0)
        axes.annotate(f"HM {level}", line[-1], color="#888888", fontsize=8, xytext=(4, -3), textcoords="offset points")
    for number, row in enumerate(rows):
        reference = row["model"] in REFERENCE
        colour = "#555555" if reference else colours[number % len(colours)]
        error = [[[max(0, row[name] - row[f"{name}_95"][0])], [max(0, row[f"{name}_95"][1] - row[name])]] for name in ("KRR", "KFR")]
        axes.errorbar(row["KRR"], row["KFR"], xerr=error[0], yerr=error[1], color=colour, alpha=0.35, linewidth=1)
        axes.plot(row["KRR"], row["KFR"], "os^Dv<>P*X"[number % 10], color=colour, markersize=10, markeredgecolor="white",
                  label=row["model"] + (" (gold standard)" if row["model"] == "retrained" else ""))
    axes.set(xlim=(-0.03, 1.06), ylim=(-0.03, 1.06), xlabel="KRR: retain facts still told →", ylabel="KFR: forget facts no longer told →",
             title="Forgetting against retention, 95 % intervals")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.06, 0.5), frameon=False)
    partial = path.with_name("." + path.name)
    figure.savefig(partial, dpi=150)
    partial.replace(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", required=True, nargs="+", metavar="FOLDER",
                        help="a folder a model with kfr_krr.json, linguistic_forget.json and linguistic_retain.json")
    parser.add_argument("--out", required=True, help="folder for table.md, table.json and kfr_krr.png")
    args = parser.parse_args()
    folders = [Path(folder) for folder in args.metrics]
    rows, out = [read(folder) for folder in folders], Path(args.out)
    text = table(rows)
    write_text(out / "table.json", json.dumps({"rows": rows, **origin(args, [folder / "kfr_krr.json" for folder in folders])},
                                              ensure_ascii=False, indent=1) + "\n")
    picture(rows, out / "kfr_krr.png")
    write_text(out / "table.md", text)
