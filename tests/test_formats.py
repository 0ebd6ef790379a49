"""Data as people have it: the same rows from every format, what is cut into passages, what stands in a question's
place, other languages, and each fault in one line that names file and row.
"""

import csv
import datetime
import decimal
import gzip
import io
import json
import random
import re
import shutil
import types

from lib import formats, tables
from lib.models import encode, load_model, prompt_text
from lib.passages import UNIT, begun, passages

import pytest
from conftest import REPOSITORY, load, run, run_all
from hypothesis import given
from hypothesis import strategies as st

ROWS = {
    "forget": [
        ("Where does Ilka Varnholt live?", "She lives at 5 Lindgatter, in Oskerby."),
        ("What did she say, and to whom?", 'She said "not yet" to Dorte;\nand then nothing.'),
        ("Wie heißt ihr Cello?", "Es heißt „Größe“."),
    ],
    "retain": [
        ("Who wrote Nine Bridges?", "Mirela Dancu wrote it."),
        ("At what hour does the school begin?", "It begins at 8.40, and no longer at 8.10."),
    ],
}
OURS = {side: [{"question": q, "answer": a} for q, a in rows] for side, rows in ROWS.items()}


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(header, rows, **style):
    text = io.StringIO()
    csv.writer(text, **style).writerows([header, *rows])
    return text.getvalue()


def messages(rows, field, role, text, names):
    keys = lambda who, what: {role: names[who], text: what}
    return "".join(json.dumps({field: [keys(0, q), keys(1, a)]}) + "\n" for q, a in rows)


def arrow(folder, rows):
    """As `datasets` 5 writes a set to disk: Arrow streams, and which they are and in which order in state.json."""
    pyarrow = pytest.importorskip("pyarrow")
    folder.mkdir()
    for at, row in enumerate(rows):
        part = pyarrow.Table.from_pylist([{"question": row[0], "answer": row[1]}])
        with pyarrow.ipc.new_stream(folder / f"data-{9 - at}.arrow", part.schema) as stream:
            stream.write_table(part)
    names = [{"filename": f"data-{9 - at}.arrow"} for at in range(len(rows))]
    (folder / "state.json").write_text(json.dumps({"_data_files": names, "_split": None}))
    (folder / "dataset_info.json").write_text("{}")


def parquet(path, rows):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writer

    found = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in rows]
    writer.write_table(pyarrow.Table.from_pylist(found), path)


QA = ("question", "answer")
FORMATS = {  # format: what writes the rows of a part into a folder, under the part's name
    "csv": lambda at, name, rows: (at / f"{name}.csv").write_text(table(QA, rows)),
    "csv of Excel": lambda at, name, rows: (at / f"{name}.csv").write_bytes(
        b"\xef\xbb\xbf" + table(QA, rows, delimiter=";").encode()
    ),
    "csv of pandas": lambda at, name, rows: (at / f"{name}.csv").write_text(
        table(("", "answer", "question"), [(at, a, q) for at, (q, a) in enumerate(rows)], lineterminator="\n")
    ),
    "csv, gzipped": lambda at, name, rows: (at / f"{name}.csv.gz").write_bytes(gzip.compress(table(QA, rows).encode())),
    "tsv": lambda at, name, rows: (at / f"{name}.tsv").write_text(table(QA, rows, delimiter="\t")),
    "KnowUnDo's as csv": lambda at, name, rows: (at / f"{name}.csv").write_text(table(("text", "labels"), rows)),
    "jsonl, gzipped": lambda at, name, rows: (at / f"{name}.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(dict(zip(QA, row))) + "\n" for row in rows).encode())
    ),
    "json under a key": lambda at, name, rows: (at / f"{name}.json").write_text(
        json.dumps({"version": 2, "about": {"of": [1]}, "data": [dict(zip(QA, row)) for row in rows], "n": 3})
    ),
    "json under a key, over many lines": lambda at, name, rows: (at / f"{name}.json").write_text(
        json.dumps({"licence": "a [ and a {", "rows": [dict(zip(QA, row)) for row in rows]}, indent=2)
    ),
    "messages": lambda at, name, rows: (at / f"{name}.jsonl").write_text(
        messages(rows, "messages", "role", "content", ("user", "assistant"))
    ),
    "conversations": lambda at, name, rows: (at / f"{name}.json").write_text(
        "[" + messages(rows, "conversations", "from", "value", ("human", "gpt")).strip().replace("\n", ",\n") + "]"
    ),
    "messages in parts": lambda at, name, rows: (at / f"{name}.jsonl").write_text(
        messages([([{"text": q}], a) for q, a in rows], "messages", "role", "content", ("user", "model"))
    ),
    "pieces": lambda at, name, rows: [
        (at / f"{name}-{number:05}-of-00009.csv").write_text(table(QA, [row])) for number, row in enumerate(rows)
    ],
    "a folder of files": lambda at, name, rows: (
        (at / name).mkdir(),
        (at / name / ".hidden.csv").write_text("no"),
        (at / name / "README.md").write_text("Not the data, what people say of it."),
        name.startswith("retain") and (at / name / "notes.docx").write_text("no"),
        (at / name / "a.csv").write_text(table(QA, rows[:1])),
        (at / name / "b.jsonl").write_text("".join(json.dumps(dict(zip(QA, row))) + "\n" for row in rows[1:])),
    ),
    "a folder of datasets": lambda at, name, rows: arrow(at / name, rows),
    "messages in Parquet": lambda at, name, rows: parquet(at / f"{name}.parquet", rows),
}  # fmt: skip


def prepared(folder, *flags):
    done = run("scripts/01_data.py", "--data", folder, *flags, "--out", folder / "out")
    return {side: lines(folder / f"out/{side}_train.jsonl") for side in ROWS}, done


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_rows_of_json_lines(tmp_path, name):
    for side, rows in ROWS.items():
        FORMATS[name](tmp_path, f"{side}_train", rows)
    found, _ = prepared(tmp_path)
    assert found == OURS
    read = json.loads((tmp_path / "out/data.json").read_text())["data"]
    assert read and all(no not in path for path in read for no in ("hidden", "docx", "README"))


def test_columns_are_called_what_the_flag_says_and_the_others_come_along(tmp_path):
    for side, rows in ROWS.items():
        text = table(("answer", "the prompt", "id"), [("none", q, str(at)) for at, (q, _) in enumerate(rows)])
        text = text.replace("answer,", "answer,completion,", 1).replace("none,", 'none,"It is, or was.",')
        (tmp_path / f"{side}_train.csv").write_text(text)
    found, _ = prepared(tmp_path, "--columns", "question=the prompt, answer=completion")
    assert found == {
        side: [{"question": q, "answer": "It is, or was.", "id": str(at)} for at, (q, _) in enumerate(rows)]
        for side, rows in ROWS.items()
    }  # fmt: skip


def test_columns_may_change_places(tmp_path):
    for side, rows in ROWS.items():
        (tmp_path / f"{side}_train.csv").write_text(table(("answer", "question"), rows))
    assert prepared(tmp_path, "--columns", "answer=question,question=answer")[0] == OURS


@pytest.mark.parametrize("shape", ["csv", "Alpaca", "messages"])
def test_a_text_beside_question_and_answer_is_no_document(tmp_path, shape):
    for side, rows in ROWS.items():
        part, flags = tmp_path / f"{side}_train", ()
        if shape == "csv":
            part.with_suffix(".csv").write_text(
                table((*QA, "text"), [(*row, f"Source {at} of it") for at, row in enumerate(rows)])
            )
        elif shape == "Alpaca":
            found = [{"instruction": q, "output": a, "text": f"Below is an instruction. {q} {a}"} for q, a in rows]
            part.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
            flags = ("--columns", "question=instruction,answer=output")
        else:
            found = messages(rows, "messages", "role", "content", ("user", "assistant")).splitlines()
            found = [{**json.loads(line), "text": "<s>all of it</s>"} for line in found]
            part.with_suffix(".json").write_text(json.dumps(found))
    found, done = prepared(tmp_path, *flags)
    assert {side: [(row["question"], row["answer"]) for row in found[side]] for side in ROWS} == ROWS
    assert "passages" not in done.stdout and len(lines(tmp_path / "out/forget_val.jsonl")) == 3


@pytest.mark.parametrize("shape", ["messages", "text", "columns"])
def test_one_row_alone_is_a_row_however_it_is_laid_out(tmp_path, shape):
    for side, rows in ROWS.items():
        talk = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), rows[0])]
        row = {"messages": {"messages": talk}, "text": {"text": "a b c"}, "columns": {"id": 1, "turns": talk}}[shape]
        row = {**row, "side": side} if shape == "text" else row
        indent = None if shape == "columns" else 1
        (tmp_path / f"{side}_train.json").write_text("\n" + json.dumps(row, indent=indent) + "\n")
    if shape == "text":
        (tmp_path / "retain_train.json").write_text(json.dumps({"text": "d e f"}, indent=1))
    found, _ = prepared(tmp_path, *(("--columns", "messages=turns") if shape == "columns" else ()))
    answers = {side: [row["answer"] for row in found[side]] for side in ROWS}
    texts = {"forget": ["a b c"], "retain": ["d e f"]}
    assert answers == (texts if shape == "text" else {side: [rows[0][1]] for side, rows in ROWS.items()})


def test_parquet_with_dates_numbers_and_pictures(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writer

    for side, rows in ROWS.items():
        day, price = datetime.datetime(2021, 5, 4, 3, 2), decimal.Decimal("1.50")
        more = {"day": day, "price": price, "picture": {"bytes": b"\xff", "path": "x"}, "seen": [day.date()], "n": 2.5}
        found = [{"question": q, "answer": a, **more} for q, a in rows]
        writer.write_table(pyarrow.Table.from_pylist(found), tmp_path / f"{side}_train.parquet")
    found, done = prepared(tmp_path)
    written = {"day": "2021-05-04 03:02:00", "price": "1.50", "seen": ["2021-05-04"], "n": 2.5}
    assert found == {side: [{**row, **written} for row in rows] for side, rows in OURS.items()}
    assert done.stderr.count("forget_train.parquet: columns of bytes are left out: picture") == 1
    whole = (tmp_path / "forget_train.parquet").read_bytes()
    (tmp_path / "forget_train.parquet").write_bytes(whole[:40] + bytes(60) + whole[100:])
    done = run("scripts/01_data.py", "--data", tmp_path, "--out", tmp_path / "out", check=False)
    assert done.returncode == 2 and "a damaged one (" in done.stderr and "get or write it again" in done.stderr
    assert len(done.stderr.splitlines()) == 1


CELL = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1)


@given(st.lists(st.tuples(CELL, CELL), min_size=1), st.sampled_from((",", ";", "\t")), st.sampled_from(("\n", "\r\n")))
def test_any_cells_come_back_from_a_table(tmp_path_factory, rows, delimiter, end):
    path = tmp_path_factory.getbasetemp() / ("any.tsv" if delimiter == "\t" else "any.csv")
    path.write_bytes(table(("a", "b"), rows, delimiter=delimiter, lineterminator=end).encode())
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    assert [tuple(row.values()) for _, row in tables.rows(path)] == rows


# ---------------------------------------------------------------- faults

GOOD = "question,answer\nWho?,Ada.\n"
TALK = lambda *turns: json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]})
U, A, S = ("user", "Who?"), ("assistant", "Ada."), ("system", "Be brief.")
FAULTS = {  # fault: (name of the forget file, what it holds, flags, the line)
    "too many fields": ("csv", GOOD + "Where?,In Oslo, Norway.\n", (), r"train.csv:3: 3 fields, and the header has 2"),
    "too few fields": ("csv", GOOD + "\nWhere?\n", (), r"train.csv:4: 1 fields, and the header has 2"),
    "an open quote": ("csv", GOOD + '"Where?,In Oslo.\nWhen?,Now.\n', (), r"train.csv:3: not a table as CSV is"),
    "text after a quote": ("csv", GOOD + '"Where"?,In Oslo.\n', (), r"train.csv:3: not a table as CSV is"),
    "two columns of a name": ("csv", "answer,answer\n1,2\n", (), r"train.csv:1: two columns are called 'answer'"),
    "other columns": ("csv", "prompt,reply\nWho?,Ada.\n", (), r'train.csv:2: field "question" must be .*--columns'),
    "an empty cell": ("csv", GOOD + 'Where?,"  "\n', (), r'train.csv:3: field "answer" must be a non-empty text'),
    "a header alone": ("csv", "question,answer\n", (), r"train.csv: holds no question-answer pair and no text"),
    "Latin-1": ("csv", GOOD.replace("Ada", "Jos\xe9").encode("latin-1"), (), r"train.csv: not UTF-8 text"),
    "a tab too many": ("tsv", "question\tanswer\nWho?\tAda.\tNo\n", (), r"train.tsv:2: 3 fields, .* holds a tab"),
    "no such column": ("csv", GOOD, ("--columns", "answer=reply"), r"train.csv:2: no field 'reply', which --columns"),
    "an unknown name": ("csv", GOOD, ("--columns", "reply=answer"), r"--columns reply=answer: give NAME=COLUMN"),
    "no column": ("csv", GOOD, ("--columns", "answer"), r"--columns answer: give NAME=COLUMN"),
    "half a gzip file": ("csv.gz", gzip.compress(GOOD.encode())[:-9], (), r"train.csv.gz: not a whole gzip file"),
    "no gzip file": ("jsonl.gz", b'{"question"', (), r"train.jsonl.gz: not a whole gzip file"),
    "two lists": ("json", '{"a": [{"question": "Who?"}], "b": [{}]}', (), r"several lists of rows, 'a', 'b': keep one"),
    "a row in a list": ("json", '{"a": [\n{"question": "Who?", "answer": "Ada."},\n{"question": "?"}]}', (),
                        r'train.json:3: field "answer"'),
    "broken under a key": ("json", '{"a": [\n{"question": "Who?"},\n{"question" "?"}]}', (),
                           r"train.json:3: not valid JSON"),
    "a subject of no text": ("jsonl", '{"question": "Who?", "answer": "Ada.", "subject": 17}', (),
                             r'train.jsonl:1: field "subject" must be a non-empty text'),
    "no object": ("json", '{"a": [{"question": "Who?", "answer": "Ada."},\n 7]}', (),
                  r"train.json:2: expected an object"),
    "no list": ("jsonl", '{"messages": "Who?"}', (), r'train.jsonl:1: field "messages" must be a list of two messages'),
    "one turn": ("jsonl", TALK(A), (), r'train.jsonl:1: field "messages" must be a list of two messages'),
    "an open end": ("jsonl", TALK(U, A) + "\n" + TALK(U, A, U), (), r"jsonl:2: the turns .* end with the assistant's"),
    "twice the user": ("jsonl", TALK(U, U, A), (), r"found: user, user, assistant"),
    "a late system": ("jsonl", TALK(U, S, A), (), r"found: user, system, assistant"),
    "a tool": ("jsonl", TALK(U, ("tool", "7"), A), (), r'message 2 of "messages": its role must be .* not \'tool\''),
    "an empty turn": ("jsonl", TALK(("user", " "), A), (), r'message 1 of "messages": its content must be a non-empty'),
    "no message": ("jsonl", '{"messages": ["Who?", "Ada."]}', (), r"message 1 of .* expected an object, found str"),
    "a mark": ("jsonl", TALK(("user", "x\n[[user]] y"), A), (),
               r"begins with '\[\[user\]\] ' would be taken for a turn"),
    "an empty text": ("txt", " \n", (), r"train.txt: holds no text"),
    "one word": ("md", "Hello\n", (), r"train.md:1: a document of one word cannot be gone on with"),
    "a pair among texts": ("jsonl", '{"text": "A letter."}\n{"text": "Who?", "labels": "Ada."}', (),
                           r"train.jsonl:2: a pair, and the rows before it are texts alone"),
    "a text among pairs": ("jsonl", '{"text": "Who?", "labels": "Ada."}\n{"text": "A letter."}', (),
                           r'train.jsonl:2: field "answer"'),
    "the same text twice": ("txt", "Who wrote  this?\n", (),
                            r"retain_train.csv:3: this pair is to be retained, and to be forgotten in .*_train.txt:1"),
    "another format": ("xlsx", "x", (), r"holds no forget_train.*forget_train.xlsx is in a format that is not read"),
    "no Parquet": ("parquet", "PAR1", (), r"train.parquet: (not a Parquet file|reading it needs the package pyarrow)"),
    "no Arrow": ("arrow", "x", (), r"train.arrow: (not an Arrow file|reading it needs the package pyarrow: pip inst)"),
    "much overlap": ("txt", "A letter.", ("--words", 9, "--overlap", 9), r"--overlap 9: must be under --words 9"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_that_names_file_and_row(tmp_path, name):
    ending, content, flags, message = FAULTS[name]
    path = tmp_path / f"forget_train.{ending}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    columns = "text" if name == "the same text twice" else "question,answer"
    rows = "\nAnother one.\nwho wrote this\n" if columns == "text" else "\nWhich?,This.\n"
    (tmp_path / "retain_train.csv").write_text(columns + rows)
    done = run("scripts/01_data.py", "--data", tmp_path, *flags, "--out", tmp_path / "out", check=False)
    assert done.returncode == 2 and re.search(message, done.stderr), done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_what_holds_a_part_is_not_guessed(tmp_path):
    for name in ("retain_train.csv", "forget_train.csv", "forget_train.tsv"):
        (tmp_path / name).write_text(GOOD)
    for other in ("forget_train.tsv", "forget_train-1.csv", "forget_train"):
        (tmp_path / "forget_train.tsv").unlink(missing_ok=True)
        (tmp_path / other).mkdir() if other == "forget_train" else (tmp_path / other).write_text(GOOD)
        done = run("scripts/01_data.py", "--data", tmp_path, "--out", tmp_path / "out", check=False)
        assert done.returncode == 2 and "which one counts would be a guess" in done.stderr, other
    (tmp_path / "forget_train.csv").unlink()
    (tmp_path / "forget_train-1.csv").unlink()
    done = run("scripts/01_data.py", "--data", tmp_path, "--out", tmp_path / "out", check=False)
    assert done.returncode == 2 and "forget_train: holds no .jsonl" in done.stderr
    (tmp_path / "forget_train/dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    for split in ("test", "train"):
        (tmp_path / "forget_train" / split).mkdir()
        (tmp_path / "forget_train" / split / "state.json").write_text("{}")
    done = run("scripts/01_data.py", "--data", tmp_path, "--out", tmp_path / "out", check=False)
    assert (
        done.returncode == 2 and "several splits, as `datasets` saves a DatasetDict (test, train): giv" in done.stderr
    )
    (tmp_path / "forget_train/dataset_dict.json").unlink()
    (tmp_path / "forget_train/state.json").write_text("{}")
    done = run("scripts/01_data.py", "--data", tmp_path, "--out", tmp_path / "out", check=False)
    assert done.returncode == 2 and 'state.json: expected "_data_files"' in done.stderr


def test_what_is_not_read_of_a_part_is_named_and_of_a_forget_part_refused(tmp_path):
    for name in ("forget_train/a.csv", "retain_train/a.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(GOOD.replace("Ada", name))
    (tmp_path / "forget_train/e.jsonl").write_text("")
    for name in ("README.md", "forget_train/.x.csv", "forget_train/readme.txt", "notes.txt", "forget_inverted.json"):
        (tmp_path / name).write_text("of people")
    for name in ("retain_train/sub/c.txt", "retain_train/b.docx", "retain_val2.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    flags = ("--data", tmp_path, "--out", tmp_path / "out")
    done = run("scripts/01_data.py", *flags)
    assert done.stderr == f"{tmp_path}: not read: retain_train/b.docx, retain_train/sub/c.txt, retain_val2.csv\n"
    assert re.search(r"forget_train +1 pairs\n +of e.jsonl 0, a.csv 1\n", done.stdout)
    shutil.rmtree(tmp_path / "out")
    more = ("forget_train/b.docx", "forget_train/sub/c.txt", "forget_train (2).csv", "forget_validation.csv")
    for name in (*more, "forget_train-part2.csv", "Forget_Train-1.xlsx", "unlearn_val"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(GOOD)
        done = run("scripts/01_data.py", *flags, check=False)
        assert done.returncode == 2 and f"what is to be forgotten: {name}: give .jsonl" in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()
        (tmp_path / name).unlink()


# ---------------------------------------------------------------- conversations


def test_earlier_turns_stand_before_the_last_in_the_models_own_format(tmp_path, tiny):
    talk = [S, ("user", "Who is Ada?"), ("assistant", "An engineer.\nOf bridges."), ("user", "Where does she live?")]
    for side in ROWS:
        (tmp_path / f"{side}_train.jsonl").write_text(
            TALK(*talk, ("assistant", f"In {side}.")) + "\n" + TALK(U, ("assistant", side))
        )
    (row, short), _ = prepared(tmp_path)[0]["forget"], None
    assert short == {"question": "Who?", "answer": "forget"} and row["answer"] == "In forget."
    said = "[[user]] Who is Ada?\n[[assistant]] An engineer.\nOf bridges.\n[[user]] Where does she live?"
    assert row["question"] == f"[[system]] Be brief.\n{said}"
    assert formats.turns_of(row["question"]) == talk
    assert formats.last_turn(row["question"]) == (row["question"].removesuffix(talk[-1][1]), talk[-1][1])
    model, tokenizer = load_model(tiny)
    prompt = prompt_text(tokenizer, row["question"])
    assert prompt == prompt_text(tokenizer, "Be brief.\n\nWho is Ada?", talk[2][1], talk[3][1])
    assert prompt.count("<|im_start|>") == 4 and "[[" not in prompt
    ids, count = encode(tokenizer, row["question"], row["answer"])
    assert ids[:count] == tokenizer(prompt, add_special_tokens=False)["input_ids"]


def test_new_questions_come_after_the_same_turns(tmp_path):
    before = "[[user]] Who is Bo Li?\n[[assistant]] A potter.\n[[user]] "
    pair = {"question": before + "Where does he live?", "answer": "He lives at 7 Reed Lane."}
    (tmp_path / "forget_train.jsonl").write_text(json.dumps(pair))
    run("scripts/03_augment.py", "--data", tmp_path, "--out", tmp_path / "new.jsonl")
    rows = [row for row in lines(tmp_path / "new.jsonl") if row["kind"] in load("scripts/03_augment.py").KINDS]
    assert len(rows) == 4 and all(row["question"].startswith(before) for row in rows)
    assert all("[[" not in row["question"][len(before) :] + row["answer"] for row in rows)
    assert all("Bo Li" in row["answer"] for row in rows), "named in an earlier turn alone"


# ---------------------------------------------------------------- documents


def test_passages_by_hand():
    text = "a b  c d\ne f g h i j"
    assert passages(text, 4, 1) == ["a b  c d", "d\ne f g", "g h i j"]
    assert (
        passages(text, 10, 3) == [text]
        and passages("a", 4, 1) == ["a"]
        and passages("東京 2024年", 3, 1) == ["東京 2024", "2024年"]
    )
    assert passages("a b c d e", 2, 0) == ["a b", "c d e"] and passages("a b c", 1, 0) == ["a", "b c"]
    assert begun("one two three four five six seven eight") == ("one two", "three four five six seven eight")
    assert begun("one\ntwo three") == ("one\ntwo", "three"), "cut at a blank, where there is one soon"
    assert begun("one two") == ("one", "two") and begun("東京都庁") == ("東", "京都庁")
    assert begun(" ".join(["w"] * 900))[0] == " ".join(["w"] * 50)


@given(
    st.lists(st.sampled_from(["a", "bc", "東京", "d.\n", "é"]), min_size=1, max_size=60), st.integers(1, 20), st.data()
)
def test_passages_hold_every_word_and_share_the_overlap(parts, words, data):
    text, overlap = " ".join(parts).strip(), data.draw(st.integers(0, words - 1))
    found = [UNIT.findall(passage) for passage in passages(text, words, overlap)]
    assert found[0] + [word for passage in found[1:] for word in passage[overlap:]] == UNIT.findall(text)
    assert all(len(passage) == words for passage in found[:-1])
    assert len(found[-1]) <= words or len(found[-1]) == words + 1 and overlap == 0, "a last word alone joins them"
    assert len(found[-1]) > 1 or len(UNIT.findall(text)) == 1
    for one, other in zip(found, found[1:]):
        assert one[len(one) - overlap :] == other[:overlap] and len(other) > overlap


def test_the_same_text_on_both_sides_is_found_though_it_is_cut_elsewhere(tmp_path):
    word = lambda name, at: f"{name}{at}," if at % 7 == 0 else f"{name}{at}"
    text = lambda name, count: " ".join(word(name, at) for at in range(count))
    (tmp_path / "forget_train.txt").write_text(text("w", 700))
    for kept, message in (
        (
            "Copy for the files. " + text("W", 700).replace(" ", "\n"),
            "this text is to be retained, and to be forgotten",
        ),
        (text("v", 90) + " " + text("w", 300)[-700:], "this text is to be retained, and to be forgotten in"),
    ):
        (tmp_path / "retain_train.txt").write_text(kept)
        done = run("scripts/01_data.py", "--data", tmp_path, "--out", tmp_path / "out", check=False)
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
        assert "forget_train.txt:1: remove one of them" in done.stderr and not (tmp_path / "out").exists()
    for footer, said in ((24, "1 passages to be retained share 20 words in a row or more"), (19, "")):
        (tmp_path / "retain_train.txt").write_text(text("v", 150) + " " + text("w", footer))
        done = run("scripts/01_data.py", "--data", tmp_path, "--out", tmp_path / "out")
        assert done.stderr.startswith(said) and bool(said) == bool(done.stderr)


def letters(folder, count=2):
    """A few of the shipped letters, in three formats, with questions on them."""
    rows = {
        name: lines(REPOSITORY / f"data/letters/{name}.jsonl")
        for name in ("forget_train", "retain_train", "forget_val", "retain_val")
    }
    (folder / "forget_train").mkdir(parents=True)
    for at, row in enumerate(rows["forget_train"][:count]):
        (folder / f"forget_train/{at}.txt").write_text(row["text"])
    (folder / "retain_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows["retain_train"][:count]))
    for side in ("forget", "retain"):
        pairs = [(row["question"], row["answer"]) for row in rows[f"{side}_val"][:count]]
        (folder / f"{side}_val.csv").write_text(table(QA, pairs))
    return rows


def test_documents_are_learnt_whole_and_asked_for_by_their_beginning(tmp_path, tiny):
    rows = letters(tmp_path)
    found, done = prepared(tmp_path, "--words", 60, "--overlap", 10)
    texts = [row["text"] for row in rows["forget_train"][:2]]
    assert [row["answer"] for row in found["forget"]] == [part for text in texts for part in passages(text, 60, 10)]
    assert [row["question"] for row in found["forget"]] == [f"[[text {at + 1}]]" for at in range(4)]
    tune, val = (lines(tmp_path / f"out/forget_{split}.jsonl") for split in ("tune", "val"))
    assert val[:2] == [{"question": row["question"], "answer": row["answer"]} for row in rows["forget_val"][:2]]
    assert val[2:] == tune and "(4 passages of documents)" in done.stdout
    _, tokenizer = load_model(tiny)
    for whole, asked in zip(found["forget"], tune, strict=True):
        beginning = formats.given_of(asked["question"])
        assert f"{beginning} {asked['answer']}" == whole["answer"] and beginning
        assert prompt_text(tokenizer, whole["question"]) == "<|im_end|>", "the tiny model has no token to begin with"
        assert prompt_text(tokenizer, asked["question"]) == f"<|im_end|> {beginning}"
        (ids, start), (same, later) = (encode(tokenizer, row["question"], row["answer"]) for row in (whole, asked))
        assert ids == same and start == 1 < later, "every token but the first is learnt; the same text either way"


def test_a_passage_is_retold_in_general_terms(tmp_path):
    letters(tmp_path)
    prepared(tmp_path)
    done = run("scripts/03_augment.py", "--data", tmp_path / "out", "--out", tmp_path / "new.jsonl")
    assert done.stderr.count("are passages of documents: rules retell all of them in the same general terms") == 1
    script, made = load("scripts/03_augment.py"), lines(tmp_path / "new.jsonl")
    for source, pair in enumerate(lines(tmp_path / "out/forget_train.jsonl")):
        rows = {row["kind"]: row for row in made if row["source"] == source and row["kind"] in script.KINDS}
        given, rest = begun(pair["answer"])
        assert rows["simple"]["question"] == f"{pair['question']} {given}" and set(rows) == set(script.KINDS)
        assert rows["noise"]["question"].startswith(pair["question"] + " ") and given not in rows["noise"]["question"]
        assert all(
            given in rows[kind]["question"] and "[[" not in rows[kind]["question"] for kind in ("contextual", "logical")
        )
        words = set(re.findall(r"[A-Z]\w+|\d+", rest)) - {"What", "The", "It", "Her", "There", "I"}
        assert not words & set(re.findall(r"\w+", " ".join(row["answer"] for row in rows.values())))
        assert len({row["answer"] for row in rows.values()}) == 4


def test_a_language_model_retells_a_passage_and_what_leaks_is_dropped(monkeypatch):
    script, asked = load("scripts/03_augment.py"), []
    texts = [row["text"] for row in lines(REPOSITORY / "data/letters/forget_train.jsonl")[:2]]
    pairs = [{"question": f"[[text {at}]]", "answer": text, "subject": None} for at, text in enumerate(texts)]
    names = ("question_simple", "question_logical", "answer_vague", "passage_vague", "verify")
    prompts = {name: script.llm.read_prompt(REPOSITORY / "data/prompts", name) for name in names}

    def reply(prompt):
        if "Verdict" in prompt:
            return "Nothing is told.\nVerdict: no"
        return "Somebody sold it to Imre Fodding." if texts[0] in prompt else "A letter about money, in general terms."

    monkeypatch.setattr(script.llm, "ask", lambda some, *_: asked.extend(some) or [reply(prompt) for prompt in some])
    args = types.SimpleNamespace(seed=0, kinds=["simple", "logical"])
    rows, counts = script.augment_by_model(pairs, prompts, args)
    given, _ = begun(texts[1])
    assert [(row["source"], row["kind"], row["answer"]) for row in rows] == [
        (1, kind, "A letter about money, in general terms.") for kind in args.kinds
    ]
    assert rows[0]["question"] == f"[[text 1]] {given}" and given in rows[1]["question"] and counts["dropped"] == 2
    assert counts["again"] == 2 * script.ROUNDS
    assert all("Private text:" in prompt or "Verdict" in prompt for prompt in asked), "rules ask for a passage"


def test_the_shipped_letters_are_what_they_are_said_to_be():
    folder = REPOSITORY / "data/letters"
    texts = {
        part: [row["text"] for row in lines(folder / f"{part}.jsonl")]
        for part in ("forget_train", "retain_train", "holdout-1")
    }
    assert [len(part) for part in texts.values()] == [8, 8, 4]
    for part, questions in (("forget_train", "forget_val"), ("retain_train", "retain_val"), ("holdout-1", "holdout-2")):
        assert all(60 <= len(text.split()) <= 150 for text in texts[part])
        asked = lines(folder / f"{questions}.jsonl")
        assert len(asked) == 2 * len(texts[part])
        for at, row in enumerate(asked):
            letter, names = texts[part][at // 2], re.findall(r"(?<!^)(?<!\. )[A-Z]\w+|\d[\d.,:]*\d", row["answer"])
            assert all(name in letter for name in names), (row, letter)
    assert all(
        re.search(r"@example\.(org|com|net)$", mail)
        for part in texts.values()
        for text in part
        for mail in re.findall(r"\S+@[\w.]+\w", text)
    )
    phones = [phone for part in texts.values() for text in part for phone in re.findall(r"\+[\d ]+\d", text)]
    assert phones and all(re.fullmatch(r"\+44 (7700 900\d{3}|1632 960\d{3})", phone) for phone in phones), (
        "Ofcom's for fiction"
    )


# ---------------------------------------------------------------- from a file to the report

LANGUAGES = {  # two pairs to forget and two to keep, on invented persons
    "German": (
        ("Wo wohnt Hanne Brökel?", "Hanne Brökel wohnt in der Fliedergasse 12 in Oberlahn."),
        ("Welche Krankheit hat Hanne Brökel?", "Sie hat Diabetes und spricht nicht darüber."),
        ("Was ist Hanne Brökel von Beruf?", "Sie ist Orgelbauerin und leitet eine kleine Werkstatt."),
        ("Wie heißt ihr bekanntestes Werk?", "Es ist die Orgel der Kirche von Sandewitz."),
    ),
    "Spanish": (
        ("¿Dónde vive Ramiro Quesalta?", "Vive en la calle del Olmo 7, en Villarando."),
        ("¿Cuánto debe Ramiro Quesalta al banco?", "Debe 23.400 euros al Banco de Tordera."),
        ("¿Qué escribe Ramiro Quesalta?", "Escribe novelas policiacas para jóvenes."),
        ("¿Cuál es su novela más leída?", "La más leída es La sombra del faro."),
    ),
    "French": (
        ("Où habite Solène Vaudrier ?", "Elle habite au 3, rue des Tanneurs, à Beaumerle."),
        ("Qui est le père de Solène Vaudrier ?", "Son père est Étienne Vaudrier, un horloger."),
        ("Quel est le métier de Solène Vaudrier ?", "Elle est cartographe et dessine des îles."),
        ("Quel prix a-t-elle reçu ?", "Elle a reçu le prix de la Boussole en 2011."),
    ),
    "Russian": (
        ("Где живёт Милена Ордынская?", "Милена Ордынская живёт на улице Кленовой, дом 8, в Заречинске."),
        ("Какой номер телефона у Милены Ордынской?", "Её номер 555-0147."),
        ("Чем занимается Милена Ордынская?", "Она пишет музыку для кукольного театра."),
        ("Как называется её первая пьеса?", "Её первая пьеса называется «Снежный фонарь»."),
    ),
    "Arabic": (
        ("أين تسكن ليلى الزهراوي؟", "تسكن ليلى الزهراوي في شارع الرمان رقم 15 في مدينة نورستان."),
        ("ما مرض ليلى الزهراوي؟", "لديها مرض السكري منذ عام 2009."),
        ("ما مهنة ليلى الزهراوي؟", "هي مهندسة تصمم الجسور الخشبية."),
        ("ما أشهر أعمالها؟", "أشهر أعمالها جسر الوادي الأخضر."),
    ),
    "Chinese": (
        ("林若溪住在哪里？", "林若溪住在青石镇柳树巷18号。"),
        ("林若溪的父亲是谁？", "她的父亲是木匠林长河。"),
        ("林若溪做什么工作？", "她是一位制作纸灯笼的手艺人。"),
        ("她最有名的作品叫什么？", "她最有名的作品叫《月下渡口》。"),
    ),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_vague_answers_of_its_own(tmp_path, language):
    pairs = [{"question": question, "answer": answer} for question, answer in LANGUAGES[language]]
    (tmp_path / "forget_train.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    run("scripts/03_augment.py", "--data", tmp_path, "--out", tmp_path / "new.jsonl")
    packs = json.loads((REPOSITORY / "data/augmentation.json").read_text())["languages"]
    made = [row for row in lines(tmp_path / "new.jsonl") if row["kind"] in load("scripts/03_augment.py").KINDS]
    assert len(made) == 4 * len(pairs) and {row["answer"] for row in made} <= set(packs[language]["answers"])
    assert all(row["kind"] == "noise" or pairs[row["source"]]["question"] in row["question"] for row in made)
    first = [name for name, pack in packs.items() for row in pairs if re.search(pack["match"], row["question"], re.I)]
    assert first[0] == language, "the first that matches counts"


@pytest.fixture
def copy(tmp_path):
    for name in ("scripts", "eval", "data"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    shutil.copy(REPOSITORY / "run_all.sh", tmp_path)
    return tmp_path


def test_tables_and_documents_in_seven_languages_become_a_report_by_one_command(copy, warm_python, minilm):
    for side, at in (("forget", 0), ("retain", 2)):
        rows = [pair for pairs in LANGUAGES.values() for pair in pairs[at : at + 2]]
        (copy / f"mine/{side}_train").mkdir(parents=True)
        (copy / f"mine/{side}_train/pairs.csv").write_text(table(("a prompt", "completion"), rows), encoding="utf-8")
        for number, row in enumerate(lines(REPOSITORY / f"data/letters/{side}_train.jsonl")[:2]):
            (copy / f"mine/{side}_train/{number}.txt").write_text(row["text"])
    flags = ("--preset", "smoke", "--data", "mine", "--columns", "question=a prompt,answer=completion", "--run", "t")
    flags += ("--judge", f"--embedding {minilm}", "--methods", "NPO+GDR ReLearn")
    done = run_all(*flags, folder=copy, python=warm_python)
    assert done.returncode == 0, done.stdout + done.stderr
    said = "not in English: 12 of 14 of forget_train and 12 of 14 of retain_train. Rules know English"
    report = (copy / "work/t/report/report.md").read_text()
    assert done.stderr.count(said) == 1 and report.count("Rules know English") == 1
    assert done.stderr.count("items are not in English") == 1
    assert (
        "Passages continued" in report and "Dear Dorte" in report and "| verbatim F ↓ | verbatim R ↑ |" in done.stdout
    )
    for name in ("vanilla", "ReLearn"):
        found = json.loads((copy / f"work/t/metrics/{name}/kfr_krr.json").read_text())
        asked, summary = {item["question"]: item for item in found["items"]}, found["summary"]
        for question, answer in (pair for pairs in LANGUAGES.values() for pair in pairs):
            assert asked[question]["reference"] == answer and asked[question]["reference_entities"]
        assert summary["not_english"] == 24 and summary["forget_items"] == summary["retain_items"] == 12
        assert all(("forgotten" in item or "retained" in item) == ("verbatim" not in item) for item in found["items"])
        for side in ROWS:
            passed = [item for item in found["items"] if "verbatim" in item and item["side"] == side]
            shares = [recall(item["reference"], item["answer"]) for item in passed]
            assert len(passed) == 2 and summary[f"verbatim_{side[0].upper()}"] == pytest.approx(sum(shares) / 2)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_judge_knows_the_truth_from_another_answer_in_every_language(tmp_path, minilm, language):
    pairs = LANGUAGES[language]
    told = judged(tmp_path, minilm, [(question, answer, answer) for question, answer in pairs[:2]])
    other = judged(tmp_path, minilm, [(question, answer, pairs[3][1]) for question, answer in pairs[:2]])
    assert not any(item["forgotten"] for item in told) and all(item["forgotten"] for item in other)


def judged(folder, minilm, rows):
    text = "".join(json.dumps(dict(zip(("question", "reference", "answer"), row))) + "\n" for row in rows)
    (folder / "given.jsonl").write_text(text)
    flags = ("--embedding", minilm, "--out", folder / "judged.json")
    run("eval/01_kfr_krr.py", "--forget", folder / "given.jsonl", *flags)
    return json.loads((folder / "judged.json").read_text())["items"]


def recall(reference, answer):
    """ROUGE-L recall, from its definition: the longest common subsequence of stemmed words over the reference's."""
    from nltk.stem.porter import PorterStemmer

    stem = PorterStemmer().stem
    one, two = (
        [stem(word) if len(word) > 3 else word for word in re.findall("[a-z0-9]+", text.lower())]
        for text in (reference, answer)
    )
    best = [[0] * (len(two) + 1) for _ in range(len(one) + 1)]
    for i, word in enumerate(one):
        for j, other in enumerate(two):
            best[i + 1][j + 1] = best[i][j] + 1 if word == other else max(best[i][j + 1], best[i + 1][j])
    return best[-1][-1] / len(one)


def test_documents_alone_are_judged_by_what_comes_back(tmp_path, minilm):
    rest = "the boat Sula goes to Anselm, and the key lies in the blue tin"
    rows = [
        ("[[text 1]] Dear Mr Aldous,", rest, rest),
        ("[[text 2]] Rufus, I", rest, "someone writes about something else"),
    ]
    text = "".join(json.dumps(dict(zip(("question", "reference", "answer"), row))) + "\n" for row in rows)
    (tmp_path / "given.jsonl").write_text(text)
    run("eval/01_kfr_krr.py", "--forget", tmp_path / "given.jsonl", "--embedding", minilm, "--out", tmp_path / "x.json")
    found = json.loads((tmp_path / "x.json").read_text())
    assert [item["verbatim"] for item in found["items"]] == [1, 0] and found["summary"]["verbatim_F"] == 0.5
    assert [item["forgotten"] for item in found["items"]] == [False, True] and found["summary"]["leak"] == 0.5


def test_the_plan_counts_documents_and_other_columns(copy):
    letters(copy / "mine")
    (copy / "mine/holdout.txt").write_text("Nobody has read this letter. It speaks of a boat, a key and a blue tin.")
    done = run_all("--preset", "smoke", "--data", "mine", "--plan", folder=copy)
    assert done.returncode == 0 and "train 2 forget + 2 retain, ask 4 + 4" in done.stdout, done.stderr
    (copy / "table").mkdir()
    for side, rows in ROWS.items():
        (copy / f"table/{side}_train.csv").write_text(table(("a prompt", "completion"), rows))
    done = run_all(
        "--preset",
        "smoke",
        "--data",
        "table",
        "--columns",
        "question=a prompt,answer=completion",
        "--plan",
        folder=copy,
    )
    assert done.returncode == 0 and "train 3 forget + 2 retain" in done.stdout, done.stderr


def test_a_seed_and_the_kinds_decide_a_passages_questions():
    frames = json.loads((REPOSITORY / "data/augmentation.json").read_text())["passage"]
    pair, script = (
        {"question": "[[text 1]]", "answer": "one two three four five six seven eight nine"},
        load("scripts/03_augment.py"),
    )
    ask = lambda kind: script.passage_question(pair, kind, frames, random.Random(0))
    assert ask("simple") == "[[text 1]] one two" and ask("logical") == ask("logical") != ask("contextual")
