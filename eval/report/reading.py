"""What the report shows, read from the run's folders: rows, judged items, curves, first tokens, records."""

import math
import shlex
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lib.criteria import CRITERION, harmonic
from lib.distance import distance
from lib.files import REPOSITORY, fail, mean, outdated, read_object

from report.columns import ALL, FURTHER
from report.comparison import compare, outcomes

ITEM = ("side", "question", "reference", "answer", "reference_entities", "covered", "nli")  # of a judged item
PUBLISHED = REPOSITORY / "data/published.json"
AGREEMENT = REPOSITORY / "data/agreement.json"  # the summary of eval/14_agreement.py for the offline judge


class Reader:
    """Reads JSON objects and remembers their files' paths, in order, for the report's own record.

    left_out: files that are passed over, as if they were not there.
    """

    def __init__(self, left_out: Iterable[Path] = ()):
        self.paths, self.left_out = {}, set(left_out)

    def find(self, path, **fields) -> dict | None:
        """The object of a file, None where there is no such file; one that lacks a field ends the program.

        Args:
            fields: name of a field that must be there → its type, list or dict.
        """
        if not Path(path).exists() or path in self.left_out:
            return None
        found = read_object(path)
        for field, kind in fields.items():
            if not isinstance(found.get(field), kind):
                fail(f'{path}: field "{field}" must be {"a list" if kind is list else "an object"}')
        self.paths[path] = None
        return found


def number_of(place, found, field):
    """A field that must be a number or absent."""
    if not isinstance(found, dict):
        fail(f"{place}: expected an object, found {type(found).__name__}")
    value = found.get(field)
    if value is None or isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    fail(f'{place}: field "{field}" must be a number')


# ---------------------------------------------------------------- models


@dataclass
class Model:
    """One metrics folder. `row`: the model's name and its numbers, as table.json holds them; `items`: its judged
    answers; `passages`: what it went on with; `files`: {name without ending: object} of its metrics files.
    """

    folder: Path
    row: dict
    items: list
    passages: list
    files: dict


def read_model(folder: Path, reader: Reader) -> Model:
    """One model: kfr_krr.json, which must be there, and what else is."""
    row, items = {"model": folder.name}, []
    path = folder / "kfr_krr.json"
    found = reader.find(path, summary=dict)
    if found is None:
        fail(f"{path}: no such metrics file; run the evaluation of {folder.name} first")
    row |= found["summary"]
    items, passages = _judged_items(path, found), [item for item in found.get("items") or [] if "verbatim" in item]
    files = {"kfr_krr": found}
    for name in ("linguistic_forget", "linguistic_retain", *(name for name in FURTHER if name not in files)):
        files[name] = reader.find(folder / f"{name}.json", summary=dict) or {"summary": {}}
    for side, ending in (("forget", "_F"), ("retain", "_R")):
        row |= {key + ending: value for key, value in files[f"linguistic_{side}"]["summary"].items()}
    for name, columns in FURTHER.items():
        summary = files[name]["summary"]
        for key in [key for key in summary if key.startswith("EL_")]:  # of whatever n
            summary["EL"] = summary[key]
        row |= {key: summary[key] for key, *_ in columns if summary.get(key) is not None}
    _check_numbers(folder, row)
    both = (row.get("KFR"), row.get("KRR"))
    row["HM"] = None if None in both else harmonic(*both)
    return Model(folder, row, items, passages, files)


def _judged_items(path, found):
    """The items of kfr_krr.json that have a verdict; --entities llm may leave one open."""
    items, given = [], found.get("items") or []
    if not isinstance(given, list):
        fail(f'{path}: "items" must be a list')
    for at, item in enumerate(given, 1):
        judged = isinstance(item, dict) and ("forgotten" in item or "retained" in item)
        wanted = ITEM if judged else ITEM[:4]
        if missing := [field for field in wanted if field not in item] if isinstance(item, dict) else wanted:
            fail(f"{path}: item {at} lacks {', '.join(missing)}")
        kinds = dict.fromkeys(ITEM[:4], str) | dict.fromkeys(ITEM[4:6] if judged else (), list)
        if wrong := [field for field, kind in kinds.items() if not isinstance(item[field], kind)]:
            fail(f"{path}: item {at}: {', '.join(wrong)}: of another kind than eval/01_kfr_krr.py writes")
        items += [item] if judged else []
    return items


def _check_numbers(folder, row):
    for key, *_ in ALL:
        number_of(f"{folder}: its metrics", row, key)
    for key in ("KFR_95", "KRR_95"):
        bounds = row.get(key, [0, 0])
        if not (isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(b, (int, float)) for b in bounds)):
            fail(f'{folder}: its metrics: field "{key}" must be two numbers')


def over_seeds(rows: Iterable[dict]) -> list[dict]:
    """Rows to show: NAME and its NAME@SEED become one of means, with the standard deviation in KEY_sd.

    "folder" is the name of the first seed's folder, whose answers are shown.
    """
    groups, shown = {}, []
    for row in rows:
        groups.setdefault(row["model"].split("@")[0], []).append(row)
    for name, seeds in groups.items():
        row = {**seeds[0], "folder": seeds[0]["model"]}
        if len(seeds) > 1:
            row |= {"model": name, "seeds": len(seeds)}
            for key, *_ in ALL:
                values = [other[key] for other in seeds if other.get(key) is not None]
                if values:
                    row[key] = mean(values)
                if len(values) > 1:
                    row[f"{key}_sd"] = statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
                    row.pop(f"{key}_95", None)  # one seed's interval says nothing of the mean
        shown.append(row)
    return shown


def first_of(rows: Iterable[dict], items: dict[str, list] | None = None) -> str:
    """What a caption says where of several seeds or samples the first is shown; nothing where there is one of each.

    Args:
        rows: as of over_seeds. items: by model its judged answers, if these are shown.
    """
    sampled = any("sample" in item for part in (items or {}).values() for item in part)
    several = ["seeds"] * any("seeds" in row for row in rows) + ["samples"] * sampled
    return f" Of several {' and '.join(several)} the first is shown." if several else ""


def read_distances(models: list[Model]) -> dict[str, dict]:
    """{model's name: what `distance` gives}; nothing without a retrained model. Rows get it as "distance"."""
    retrained = next((model for model in models if model.row["model"].split("@")[0] == "retrained"), None)
    found = {model.row["model"]: distance(model.files, retrained.files) for model in models} if retrained else {}
    for model in models:
        model.row["distance"] = found.get(model.row["model"], {}).get("distance")
    return found


def read_leak_curves(folders: dict[str, Path], reader: Reader) -> dict[str, list]:
    """What 15_sampling.py found for every model: {model: [(k, leak@k, low, high)]}."""
    curves = {}
    for model, folder in folders.items():
        path = folder / "sampling.json"
        summary = (reader.find(path, summary=dict) or {"summary": {}})["summary"]
        bounds = summary.get("curve_95", {})
        if bounds:
            try:
                curves[model] = [(int(k), float(summary[f"leak@{k}"]), *map(float, bounds[k])) for k in bounds]
            except (KeyError, TypeError, ValueError):
                fail(f"{path}: its summary must hold leak@k and two bounds for every k of curve_95")
    return curves


# ---------------------------------------------------------------- curves


def _series(path, found, field, *names):
    """A list of objects in a file as tuples of the numbers named; empty where the file lacks it."""
    rows = [
        tuple(number_of(f"{path}: {field} {at}", row, name) for name in names)
        for at, row in enumerate(found.get(field) or [], 1)
    ]
    if any(None in row for row in rows):
        fail(f"{path}: every entry of {field} must hold {', '.join(names)}")
    return rows


def read_training(run: Path | None, folders: dict[str, Path], reader: Reader) -> tuple[dict, dict]:
    """Losses {model: [(update, loss)]} and probes {model: [(update, forget NLL, retain NLL)]} of the models that have
    them.
    """
    losses, probes = {}, {}
    for name, folder in folders.items() if run else ():
        path = run / "methods" / folder.name / "training.json"
        if found := reader.find(path):
            losses[name] = _series(path, found, "updates", "update", "loss")
            probes[name] = _series(path, found, "probes", "update", "forget_nll", "retain_nll")
    losses, probes = ({name: series for name, series in part.items() if series} for part in (losses, probes))
    return losses, probes


def read_paths(run: Path | None, names: Iterable[str], reader: Reader) -> dict[str, dict]:
    """{folder's name: {"chosen": update, "budget": {"rates", "points", "points_a_rate"}, "points": [{"update", "KFR",
    "KFR_strict", "KRR", CRITERION}]}} of the methods whose best point was chosen (run_all.sh --select).
    """
    paths = {}
    for name in names if run else ():
        file = run / "methods" / name / "select.json"
        if not (found := reader.find(file, points=list, budget=dict)):
            continue
        for at, point in enumerate(found["points"], 1):
            for key in ("update", "KFR", "KFR_strict", "KRR", CRITERION):
                if number_of(f"{file}: point {at}", point, key) is None:
                    fail(f"{file}: point {at} lacks {key}")
        for key in ("rates", "points"):
            if number_of(f"{file}: budget", found["budget"], key) is None:
                fail(f"{file}: budget lacks {key}")
        if found.get("chosen") not in [point["update"] for point in found["points"]]:
            fail(f"{file}: chosen must be the update of a point")
        paths[name] = found
    return paths


# ---------------------------------------------------------------- first tokens


def read_first_tokens(folders: dict[str, Path], reader: Reader) -> dict:
    """What 08_next_token.py wrote for every model: {(question, reference): {model: [(token, probability)]}}."""
    questions = {}
    for model, folder in folders.items():
        path = folder / "next_token.json"
        for at, item in enumerate((reader.find(path, items=list) or {"items": []})["items"], 1):
            place = f"{path}: item {at}"
            fields = (("question", str), ("reference", str), ("top", list))
            if not isinstance(item, dict) or not all(isinstance(item.get(field), kind) for field, kind in fields):
                fail(f"{place}: expected question, reference and top")
            tokens = [(_token(place, entry), entry["p"]) for entry in item["top"]]
            questions.setdefault((item["question"], item["reference"]), {})[model] = tokens
    return questions


def _token(place, entry):
    if number_of(place, entry, "p") is None or not isinstance(entry.get("token"), str):
        fail(f"{place}: every entry of top must hold token and p")
    return entry["token"]


# ---------------------------------------------------------------- published numbers, records


def read_published(name: str, reader: Reader, path: Path = PUBLISHED) -> dict | None:
    """A published table: {"source", "model", "data", "rows": {model: {column: number or text}}}; None where there is
    none.
    """
    known = reader.find(path)
    if known is None:
        fail(f"{path}: no such file")
    if name not in known:  # most presets have none
        return None
    if not isinstance(known[name], dict) or not isinstance(known[name].get("rows"), dict):
        fail(f"{path}: {name} is no table")
    return known[name]


def command_line(record: dict) -> str:
    """The command that a record's script and settings stand for."""
    script = record["script"]
    known = [
        f"{folder}/{script}"
        for folder in ("scripts", "scripts/tools", "eval")
        if (REPOSITORY / folder / script).is_file()
    ]
    words = ["python", *(known or [script])[:1]]
    for flag, value in record["settings"].items():
        if value is not None and value is not False and value != []:
            values = [] if value is True else value if isinstance(value, list) else [value]
            words += [f"--{flag.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


def _record_files(run, folders):
    """Where the steps of a run leave their records, in the order of the run."""
    paths = []
    if run:
        for pattern in ("models/*/origin.json", "data/data.json", "models/*/training.json", "augmented/*.json"):
            paths += sorted(run.glob(pattern))
        for name in folders:
            methods = [run / "methods" / name / file for file in ("training.json", "uipe.json", "select.json")]
            paths += [*methods, run / "answers" / name / "generation.json"]
    return [*paths, *(path for folder in folders.values() for path in sorted(folder.glob("*.json")))]


def read_records(run: Path | None, folders: dict[str, Path], reader: Reader) -> dict[str, dict]:
    """{command line: the record that its results carry}; of the files of one command, the one written when it ended."""
    records = {}
    for path in _record_files(run, folders):
        found = reader.find(path) or {}
        if isinstance(found.get("script"), str) and isinstance(found.get("settings"), dict):
            line = command_line(found)
            if line not in records or (found.get("seconds") or 0) > (records[line].get("seconds") or 0):
                records[line] = found
    return records


# ---------------------------------------------------------------- the whole


@dataclass
class Findings:
    """All that the report shows. Keys of dicts are the names of the rows shown.

    rows: a dict a metrics folder; measured: by folder's name its metrics files, as of Model; tests: see
    comparison.compare; shown: a dict a line of the table; items: judged answers; passages: those that were gone on
    with; losses, probes, paths, first_tokens: see their readers; counts: pairs of each data file; foreign: how many of
    them are not in English; augmented: what the augmented forget set consists of; published: a table of
    data/published.json; agreement: of the judge with readers; records: by command; files: paths of all that was read;
    left_out: of metrics files that are older than what they rest on.
    """

    rows: list[dict]
    measured: dict[str, dict]
    tests: dict[str, dict]
    shown: list[dict]
    items: dict[str, list]
    passages: dict[str, list]
    distances: dict[str, dict]
    leak_curves: dict[str, list]
    losses: dict[str, list]
    probes: dict[str, list]
    paths: dict[str, dict]
    first_tokens: dict
    counts: dict | None
    foreign: dict | None
    augmented: dict | None
    published: dict | None
    agreement: dict | None
    records: dict[str, dict]
    files: list
    left_out: list[Path]


def read_all(metrics: Iterable[str], run: Path | None, published: str | None) -> Findings:
    """Reads a run.

    Args:
        metrics: folders of metrics, one a model. run: the run's folder. published: name of a published table.
    """
    left_out = [
        path
        for folder in (map(Path, metrics) if run else ())
        for kind in ["models" if (run / "models" / folder.name).is_dir() else "methods"]
        for path in outdated(folder, run / kind / folder.name)
    ]
    reader = Reader(left_out)
    models = [read_model(Path(folder), reader) for folder in metrics]
    rows, distances = [model.row for model in models], read_distances(models)
    if len({row["model"] for row in rows}) < len(rows):
        fail("--metrics: two folders have one name; a model's name is its folder's")
    shown, by_folder = over_seeds(rows), {model.folder.name: model for model in models}
    folders = {row["model"]: by_folder[row["folder"]].folder for row in shown}
    losses, probes = read_training(run, folders, reader)
    paths = read_paths(run, [row["model"] for row in rows], reader)
    first_tokens = read_first_tokens(folders, reader)
    counts = augmented = foreign = None
    if run and (found := reader.find(run / "data/data.json", counts=dict)):
        counts, foreign = found["counts"], found.get("not_english")
    if run and (found := reader.find(run / "augmented/forget_augmented.json", summary=dict)):
        augmented = found["summary"]
    table = read_published(published, reader) if published else None
    records = read_records(run, {model.folder.name: model.folder for model in models}, reader)  # of every seed
    agreement = reader.find(AGREEMENT)
    items = {row["model"]: by_folder[row["folder"]].items for row in shown}
    seeds = {}  # by name, as in over_seeds
    for model in models:
        seeds.setdefault(model.folder.name.split("@")[0], []).append(model.items)
    tests = compare({row["model"]: outcomes(seeds[row["model"].split("@")[0]]) for row in shown})
    return Findings(
        rows=rows,
        measured={model.folder.name: model.files for model in models},
        tests=tests,
        shown=shown,
        items=items,
        passages={row["model"]: by_folder[row["folder"]].passages for row in shown},
        distances={row["model"]: distances[row["folder"]] for row in shown if row["folder"] in distances},
        leak_curves=read_leak_curves(folders, reader),
        losses=losses,
        probes=probes,
        paths=paths,
        first_tokens=first_tokens,
        counts=counts,
        foreign=foreign,
        augmented=augmented,
        published=table,
        agreement=agreement,
        records=records,
        files=list(reader.paths),
        left_out=left_out,
    )
