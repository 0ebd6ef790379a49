"""Rows of files that are no JSON: CSV, TSV, Parquet, Arrow (what `datasets` saves to disk), plain text; gzipped too.

Parquet and Arrow need pyarrow, which is loaded, and so needed, only for such a file. `rows` reads any file, JSON too.
"""

import csv
import io
import re
import sys
from pathlib import Path

from lib.files import fail, read_object, read_rows, read_text

TABLES = {".csv": ",;", ".tsv": "\t"}  # delimiters: of several the one that the header holds most often
TEXTS = (".txt", ".md")
ARROW = (".parquet", ".arrow")
SUFFIXES = (".jsonl", ".json", *TABLES, *ARROW, *TEXTS)


def kind(path):
    """A file's format by its name, as one of SUFFIXES, .gz left aside; None for any other."""
    name = str(path).lower().removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def stem(path):
    """A file's name without its format: "forget_train.csv.gz" is forget_train."""
    name = Path(path).name
    name = name[: -len(".gz")] if name.lower().endswith(".gz") else name
    return name[: -len(kind(name) or "")] if kind(name) else name


def files_in(folder):
    """The files of a folder, in order: those that `datasets` names in its own, or all whose format is known; of a
    README nothing is learnt."""
    state = folder / "state.json"
    if (splits := folder / "dataset_dict.json").is_file():
        named = [path.name for path in sorted(folder.iterdir()) if (path / "state.json").is_file()]
        named = ", ".join(named) or "see " + splits.name
        fail(f"{folder}: holds several splits, as `datasets` saves a DatasetDict ({named}): give one of them, its "
             f"folder alone, as {folder.name}")  # fmt: skip
    if state.is_file():
        listed = read_object(state).get("_data_files")
        if not isinstance(listed, list) or not all(
            isinstance(one, dict) and isinstance(one.get("filename"), str) for one in listed
        ):
            fail(f'{state}: expected "_data_files", a list of file names: no folder that `datasets` saved')
        return [folder / one["filename"] for one in listed]
    found = sorted(path for path in folder.iterdir() if path.is_file() and kind(path) and not _no_data(path))
    return found or fail(f"{folder}: holds no {', '.join(SUFFIXES)}, with or without .gz")


def _no_data(path):
    """Hidden, or a README, which tells people of a set."""
    return path.name[0] == "." or path.name.lower().startswith("readme")


def left_out(folder):
    """The files of a folder that `files_in` does not give: in another format, or in a folder of their own."""
    if (folder / "state.json").is_file():
        return []
    read = set(files_in(folder))
    inner = lambda path: [Path(part) for part in path.relative_to(folder).parts]
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in read and not any(map(_no_data, inner(path)))
    ]


def rows(path, names=()):
    """Yields (line, or number of the row where there are no lines; object or other value) of a file. names: other
    fields by which an object of JSON is known for a row (files.read_rows)."""
    of = kind(path)
    if of in TABLES:
        yield from _table(path, TABLES[of])
    elif of in ARROW:
        yield from enumerate(_arrow(path, of), 1)
    elif of in TEXTS:
        text = read_text(path)
        if not text.strip():
            fail(f"{path}: holds no text")
        yield 1, {"text": text}
    else:
        yield from read_rows(path, names)


def _table(path, delimiters):
    """Rows of a table with a header, each on the line on which it begins; blank lines are passed over."""
    text = read_text(path)
    head = text.lstrip().split("\n", 1)[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(delimiters, key=head.count), strict=True)
    header, line, limit = None, 1, csv.field_size_limit(2**31 - 1)
    try:
        for cells in lines:
            at, line = line, lines.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [name.strip() for name in cells]
                twice = next((name for name in header if name and header.count(name) > 1), None)
                if twice:
                    fail(f"{path}:{at}: two columns are called {twice!r}")
                continue
            if len(cells) != len(header):
                fail(f"{path}:{at}: {len(cells)} fields, and the header has {len(header)} (quote a field that holds a "
                     f"{'tab' if lines.dialect.delimiter == chr(9) else lines.dialect.delimiter})")  # fmt: skip
            yield at, {name: cell for name, cell in zip(header, cells) if name}  # pandas' index has no name
    except csv.Error as error:
        fail(f"{path}:{line}: not a table as CSV is ({error}; the row begins here)")
    finally:
        csv.field_size_limit(limit)


def _arrow(path, of):
    """Rows of a Parquet file or of an Arrow file or stream."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        fail(f"{path}: reading it needs the package pyarrow: pip install pyarrow; or give a copy of it in JSON Lines")
    if not Path(path).is_file():
        fail(f"{path}: no such file")
    try:
        if of == ".parquet":
            return _written(path, pyarrow.parquet.read_table(path).to_pylist())
        with pyarrow.memory_map(str(path)) as source:
            try:
                return _written(path, pyarrow.ipc.open_stream(source).read_all().to_pylist())
            except pyarrow.ArrowInvalid:
                source.seek(0)
                return _written(path, pyarrow.ipc.open_file(source).read_all().to_pylist())
    except (ValueError, OSError, pyarrow.ArrowException) as error:  # what pyarrow raises for a file that is none of its
        reason = str(error).splitlines()[0]
        fail(
            f"{path}: not {'a Parquet' if of == '.parquet' else 'an Arrow'} file, or a damaged one ({reason}): get or "
            "write it again, or give a copy in JSON Lines"
        )


def _written(path, rows):
    """Rows as JSON can hold them: dates and decimal numbers as text; columns of bytes, pictures say, are left out."""

    def written(value):
        if isinstance(value, dict):
            return {str(name): written(part) for name, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [written(part) for part in value]
        return value if value is None or isinstance(value, (str, int, float)) else str(value)

    holds = lambda value: (
        any(map(holds, value.values() if isinstance(value, dict) else value))
        if isinstance(value, (dict, list, tuple))
        else isinstance(value, bytes)
    )
    left = sorted({name for row in rows for name, value in row.items() if holds(value)})
    if left:
        print(f"{path}: columns of bytes are left out: {', '.join(left)}", file=sys.stderr)
    return [{name: written(value) for name, value in row.items() if name not in left} for row in rows]


def places(paths, names=()):
    """Yields ("file:line", value) of files, and of the files in folders, one after another. names: as of `rows`."""
    for path in paths if isinstance(paths, list) else [paths]:
        for file in files_in(Path(path)) if Path(path).is_dir() else [path]:
            for line, row in rows(file, names):
                yield f"{file}:{line}", row


def files_of(paths):
    """The files that `places` reads, for a record."""
    paths = paths if isinstance(paths, list) else [paths]
    return [file for path in paths for file in (files_in(Path(path)) if Path(path).is_dir() else [path])]


def part_of(folder, name):
    """What holds a part of a data set in a folder: NAME.FORMAT, NAME/ or pieces as NAME-1.FORMAT and
    NAME-00000-of-00002.FORMAT: a path, a list of pieces, or None. More than one of these would be a guess."""
    found = sorted(path for path in folder.iterdir() if path.is_file() and kind(path))
    pieces = re.compile(rf"{re.escape(name)}[-_.]\d+(-of-\d+)?")
    pieces = [path for path in found if pieces.fullmatch(stem(path))]
    there = [path for path in found if stem(path) == name] + [folder / name] * (folder / name).is_dir() + pieces[:1]
    if len(there) > 1:
        fail(f"{there[0]} and {there[1].name}: remove one of them; which one counts would be a guess")
    if there and pieces:
        return pieces
    return there[0] if there else None
