"""Requests one after another: how the forget set is split, what an adapter that is trained further comes to and is
compared with, a killed sequence, and what its certificate tells. And --check: what it finds in planted data.
"""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import types
from pathlib import Path

from lib import certificate
from lib.files import sha256
from lib.likelihood import answer_logits
from lib.models import encode, load_model
from lib.reference import reference

import pytest
import torch
import torch.nn.functional as F
from conftest import REPOSITORY, load, run, run_all
from peft import PeftModel
from safetensors.torch import load_file, save_file

report, check = load("eval/19_requests.py"), load("scripts/tools/check.py")
SPLITS = ("train", "tune", "val")


def rows(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def split(data, out, requests, count, check=True):
    folders = [out / str(number) for number in range(1, count + 1)]
    done = run("scripts/07_requests.py", "--data", data, "--requests", requests, "--out", *folders, check=check)
    return folders, done


# ---------------------------------------------------------------- the split


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Four persons, three of them forgotten: eight facts each."""
    folder = tmp_path_factory.mktemp("people") / "data"
    run("scripts/01_data.py", "--persons", 4, "--forget-persons", 3, "--out", folder)
    return folder


def test_a_person_each_and_what_is_still_to_come_is_kept(people, tmp_path):
    folders, _ = split(people, tmp_path, 3, 3)
    persons = list(dict.fromkeys(pair["person"] for pair in rows(people / "forget_train.jsonl")))
    for at, folder in enumerate(folders):
        for name in SPLITS:
            own, kept = rows(folder / f"forget_{name}.jsonl"), rows(folder / f"retain_{name}.jsonl")
            assert {pair["person"] for pair in own} == {persons[at]} and {pair["request"] for pair in own} == {at + 1}
            later = [pair for pair in rows(people / f"forget_{name}.jsonl") if pair["person"] in persons[at + 1 :]]
            plain = [{key: value for key, value in pair.items() if key != "request"} for pair in kept]
            assert plain == rows(people / f"retain_{name}.jsonl") + later
        asked = rows(folder / "requested_val.jsonl")
        assert [pair["person"] for pair in asked] == [person for person in persons[: at + 1] for _ in range(8)]


def test_more_requests_than_persons_take_facts_whole(people, tmp_path):
    folders, _ = split(people, tmp_path, 6, 6)
    facts = [{(p["person"], p["fact"]) for n in SPLITS for p in rows(f / f"forget_{n}.jsonl")} for f in folders]
    assert [len(part) for part in facts] == [4] * 6 and len(set().union(*facts)) == 24


def write_rows(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in found))


def test_own_data_by_a_field_by_files_and_by_rows(tmp_path):
    pairs = [{"question": f"What is number {at}?", "answer": f"It is {at} times seven."} for at in range(5)]
    kept = [{"question": "Who rules?", "answer": "Nobody does."}]
    for name, forget in (
        ("field", [{**pair, "request": "b" if at % 2 else "a"} for at, pair in enumerate(pairs)]),
        ("rows", pairs),
    ):
        write_rows(tmp_path / name / "forget_train.jsonl", forget)
        write_rows(tmp_path / name / "retain_train.jsonl", kept)
        run("scripts/01_data.py", "--data", tmp_path / name, "--out", tmp_path / f"{name}-data")
    numbers = lambda folders: [[row["question"][-2] for row in rows(f / "forget_train.jsonl")] for f in folders]
    assert numbers(split(tmp_path / "field-data", tmp_path / "1", 2, 2)[0]) == [["0", "2", "4"], ["1", "3"]]
    assert numbers(split(tmp_path / "rows-data", tmp_path / "2", 2, 2)[0]) == [["0", "1", "2"], ["3", "4"]]
    write_rows(tmp_path / "late.jsonl", pairs[:1])
    write_rows(tmp_path / "early.jsonl", pairs[1:])
    (tmp_path / "list").write_text("early.jsonl\n\nlate.jsonl\n")
    assert numbers(split(tmp_path / "rows-data", tmp_path / "3", tmp_path / "list", 2)[0]) == [list("1234"), ["0"]]
    read = json.loads((tmp_path / "3/1/requests.json").read_text())["data"]
    assert {str(tmp_path / name) for name in ("list", "early.jsonl", "late.jsonl")} <= set(read), "their hashes"
    (tmp_path / "names").write_text("b\na\n")
    assert numbers(split(tmp_path / "field-data", tmp_path / "4", tmp_path / "names", 2)[0]) == [
        list("13"),
        list("024"),
    ]


def given(folder, rows, *flags):
    """A prepared data folder of these forget rows."""
    write_rows(folder / "own/forget_train.jsonl", rows)
    write_rows(folder / "own/retain_train.jsonl", [{"question": "Who rules?", "answer": "Nobody does."}])
    run("scripts/01_data.py", "--data", folder / "own", "--out", folder / "data", *flags)
    return folder / "data"


def test_a_person_is_not_torn_apart_in_silence(tmp_path):
    ask = lambda who, *questions: [{"question": q.format(who), "answer": f"Das ist {q[:3]} {who}."} for q in questions]
    german, english = ("Wo wohnt {}?", "Welche Nummer hat {}?"), ("Where does {} live?", "Which number has {}?")
    rows_de = [row for q in german for who in ("Anna Weiß", "Bert Groß", "Cora Maaß") for row in ask(who, q)]
    data = given(tmp_path / "de", rows_de)
    _, done = split(data, tmp_path / "out", 3, 3, check=False)
    assert done.returncode == 2 and "forget_train.jsonl:1: whom a pair is about is found in English" in done.stderr
    assert 'give every row a field "request" or "person"' in done.stderr and len(done.stderr.splitlines()) == 1
    data = given(tmp_path / "with", [{**row, "person": row["answer"].split()[-2]} for row in rows_de])
    folders, done = split(data, tmp_path / "1", 3, 3)
    assert [len({row["person"] for row in rows(f / "forget_train.jsonl")}) for f in folders] == [1, 1, 1]
    rows_en = [{**row, "answer": "She is."} for q in english for who in ("Ann Li", "Bo Ek") for row in ask(who, q)]
    _, done = split(given(tmp_path / "en", rows_en), tmp_path / "2", 2, 2)
    assert [line.partition("; ")[2] for line in done.stdout.splitlines()] == ["about Ann Li", "about Bo Ek"]


@pytest.mark.parametrize(
    "of, message",
    [
        (["a", "b", None], r'forget_train.jsonl:3: has no field "request", and other rows have one'),
        (["a", ["b"], "c"], r"forget_train.jsonl:2: field \"request\" must be a text or a number, not \['b'\]"),
    ],
)
def test_a_request_that_a_row_does_not_tell_is_one_line(tmp_path, of, message):
    found = [
        {"question": f"Where is item {at}?", "answer": f"Place {at}.", "request": one} for at, one in enumerate(of)
    ]
    data = given(tmp_path, [{name: value for name, value in row.items() if value} for row in found])
    _, done = split(data, tmp_path / "out", 2, 2, check=False)
    assert done.returncode == 2 and re.search(message, done.stderr) and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_document_is_a_unit_with_its_questions(tmp_path):
    run("scripts/01_data.py", "--data", "data/letters", "--words", 60, "--out", tmp_path / "data")
    folders, done = split(tmp_path / "data", tmp_path / "out", 4, 4)
    for at, folder in enumerate(folders):
        for name in SPLITS:
            own = {row["document"] for row in rows(folder / f"forget_{name}.jsonl")}
            assert own == {f"letter {2 * at + 1}", f"letter {2 * at + 2}"}
    assert "about letter 7; letter 8" in done.stdout
    texts = [json.loads(line)["text"] for line in (REPOSITORY / "data/letters/forget_train.jsonl").open()]
    (tmp_path / "my/forget_train").mkdir(parents=True)
    for at in range(3):
        (tmp_path / f"my/forget_train/{at}.txt").write_text(texts[at])
    questions = [{"question": f"Who wrote letter {at}?", "answer": "X.", "document": f"{at}.txt"} for at in range(3)]
    write_rows(tmp_path / "my/forget_val.jsonl", questions)
    write_rows(tmp_path / "my/retain_train.jsonl", [{"question": "Who rules?", "answer": "Nobody does."}])
    run("scripts/01_data.py", "--data", tmp_path / "my", "--words", 60, "--out", tmp_path / "mine")
    for listed, wanted in (
        ("1.txt\n0.txt; 2.txt\n", [{"1.txt"}, {"0.txt", "2.txt"}]),
        ("forget_train/2.txt\nforget_train/0.txt\nforget_train/1.txt\n", [{"2.txt"}, {"0.txt"}, {"1.txt"}]),
    ):
        (tmp_path / "my/list").write_text(listed)
        folders, _ = split(tmp_path / "mine", tmp_path / str(len(wanted)), tmp_path / "my/list", len(wanted))
        got = [{row["document"] for name in SPLITS for row in rows(f / f"forget_{name}.jsonl")} for f in folders]
        assert got == wanted
    (tmp_path / "my/forget_train/2.txt").write_text(texts[3])  # another than the data's
    _, done = split(tmp_path / "mine", tmp_path / "x", tmp_path / "my/list", 3, check=False)
    assert done.returncode == 2 and "list:1: no training pair of the forget set is in this request" in done.stderr


def test_no_folder_that_is_read_or_not_ours_is_written_into(tmp_path):
    pairs = [{"question": f"What is number {at}?", "answer": f"It is {at} times seven."} for at in range(2)]
    for name in ("forget_train", "retain_train"):
        write_rows(tmp_path / f"own/{name}.jsonl", pairs if name[0] == "f" else [{"question": "Who?", "answer": "I."}])
    run("scripts/01_data.py", "--data", tmp_path / "own", "--out", tmp_path / "data")
    for at in (0, 1):
        write_rows(tmp_path / f"{at}/pairs/forget_train.jsonl", pairs[at : at + 1])
    (tmp_path / "list").write_text("0/pairs/forget_train.jsonl\n1/pairs/forget_train.jsonl\n")
    shutil.copytree(tmp_path / "data", tmp_path / "other")
    (tmp_path / "of-ours").write_text("0/pairs/forget_train.jsonl\nother/forget_train.jsonl\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for requests, out, message in (
        ("2", "data", "is what is read"),
        ("2", "own", "is no data folder that a script here made"),
        (tmp_path / "list", "1", "is no data folder that a script here made"),
        (tmp_path / "list", "1/pairs", "is no data folder that a script here made"),
        (tmp_path / "of-ours", "other", "holds what is read"),
        ("2", "new", "--out: one folder is named twice"),
    ):
        flags = ("--data", tmp_path / "data", "--requests", requests, "--out", tmp_path / "new", tmp_path / out)
        done = run("scripts/07_requests.py", *flags, check=False)
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "requests, message",
    [
        ("1", r"--requests 1: give at least 2"),
        ("25", r"--requests 25: the forget set has only 24 pairs, persons or requests that can be told apart"),
        ("sunniva-hartvelt", r"sunniva-hartvelt: no such file"),
        ("{list}:Sunniva Hartvelt", r"list: names 1 requests, a line each; give at least 2"),
        (
            "{list}:Sunniva Hartvelt\nNobody",
            r"list:2: no training pair of the forget set is in this request \(Nobody\)",
        ),
        ("{list}:Sunniva Hartvelt\nsunniva-hartvelt", r"list:2: a pair of this request is in that of .*list:1 too"),
        ("{list}:Sunniva Hartvelt\nfarirai-chimukoro", r"forget_train.jsonl:33: this pair .* is in no request"),
        ("{list}:Sunniva Hartvelt\nnone.jsonl", r"none.jsonl: no such file"),
        (
            "{list}:Sunniva Hartvelt\n" + "; ".join(["Nobody Anywhere"] * 30),
            r"list:2: no training pair .*Nobody Anywhere",
        ),
    ],
)
def test_bad_requests_are_one_line(people, tmp_path, requests, message):
    if requests.startswith("{list}:"):
        (tmp_path / "list").write_text(requests.partition(":")[2])
        requests = tmp_path / "list"
    _, done = split(people, tmp_path / "out", requests, 2, check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and re.search(message, done.stderr), done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--requests", "1"), "--requests 1: give 2 to 99 requests"),
        (("--requests", "100"), "--requests 100: give 2 to 99 requests"),
        (("--requests", "two"), "--requests two: not a number, and no such file"),
        (("--requests", "2", "--tune", "1e-4"), "--requests and --tune: give one of them"),
        (("--requests", "2", "--rehearse"), "--requests and --rehearse: give one of them"),
        (("--requests", "2", "--methods", "GA TA"), "--requests: TA is arithmetic with one adapter"),
        (("--requests", "2", "--methods", "GA GA+UIPE"), "--requests: GA+UIPE is arithmetic with one adapter"),
        (("--requests", "2", "--methods", "GA", "--set", "GA --full"), "--requests: GA trains all weights (--full)"),
        (("--requests", "2", "--set", "all --full --lr 1e-5"), " trains all weights (--full), which leaves no adapter"),
        (("--check", "--plan"), "--plan, --check, --rehearse and --tune: give one of them"),
    ],
)
def test_run_all_refuses_in_one_line(flags, message):
    done = run_all(*flags, "--run", "never-made")
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_changed_file_of_a_request_makes_the_split_again(tmp_path):
    """The files that --requests FILE names are read by the step, a name with blanks and signs among them."""
    (tmp_path / "a [b] $HOME").mkdir()
    for name in ("first.jsonl", "second.jsonl"):
        (tmp_path / "a [b] $HOME" / name).write_text("{}")
    (tmp_path / "a [b] $HOME/list").write_text(f"first.jsonl \r\n\n{tmp_path}/a [b] $HOME/second.jsonl\nAda Lem")
    declared = "step() { printf '%s\\n' \"$@\"; }; again() { :; }; continues() { :; }; sequences=(); R=work/t"
    command = f"set -euf; . scripts/requests.sh; eval \"$(grep -A 2 '^split()' scripts/pipeline.sh)\"; {declared}; "
    command += "requests=$1; sequence GA"
    done = subprocess.run(
        ["bash", "-c", command, "x", tmp_path / "a [b] $HOME/list"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    files = [f"{tmp_path}/a [b] $HOME/{name}.jsonl" for name in ("first", "second")]
    assert words[:2] == ["requests", "reads"] and words[words.index("runs") - 2 : words.index("runs")] == files


# ---------------------------------------------------------------- an adapter that is trained further

PAIRS = [
    {"question": "Where does she live?", "answer": "She lives at 9 Saltcellar Steps."},
    {"question": "And he?", "answer": "Nobody knows it."},
]
FLAGS = ("--batch", 2, "--lora-dropout", 0, "--dtype", "float32", "--lr", 1e-2, "--probes", 0, "--lora-r", 4)


@pytest.fixture(scope="module")
def first(tmp_path_factory, tiny):
    """(data folder of two pairs, the adapter after a first request)."""
    folder = tmp_path_factory.mktemp("first")
    write_rows(folder / "data/forget_train.jsonl", PAIRS)
    write_rows(folder / "data/retain_train.jsonl", PAIRS[::-1])
    npo(tiny, folder / "data", folder / "1", "--epochs", 3)
    return folder / "data", folder / "1"


def npo(model, data, out, *flags):
    run("scripts/11_npo.py", "--model", model, "--data", data, "--out", out, "--retain", "none", *FLAGS, *flags)
    return json.loads((out / "training.json").read_text())


def slow_npo(model, frozen, encoded, beta=0.1):
    """-(2/β) mean log σ(-β [log π(y|x) - log π_frozen(y|x)]), a row at a time."""
    total = 0.0
    for ids, prompt in encoded:
        logp = lambda one, ids=ids, prompt=prompt: sum(
            one(torch.tensor([ids])).logits[0, at - 1].log_softmax(-1)[ids[at]] for at in range(prompt, len(ids))
        )
        with torch.no_grad():
            then = logp(frozen)
        total = total - 2 / beta * F.logsigmoid(-beta * (logp(model) - then))
    return total / len(encoded)


def test_the_second_request_continues_the_adapter_as_by_hand(tmp_path, tiny, first):
    """Two updates of NPO whose reference is the model that the first request left: plain Adam on peft's own model."""
    data, adapter = first
    base, tokenizer = load_model(tiny, "float32")
    encoded = [encode(tokenizer, pair["question"], pair["answer"]) for pair in PAIRS]
    frozen = PeftModel.from_pretrained(load_model(tiny, "float32")[0], adapter).merge_and_unload().eval()
    model = PeftModel.from_pretrained(base, adapter, is_trainable=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    losses = []
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    for rate in (1e-2, 5e-3):  # a warm-up of one update, then down to nothing
        optimizer.param_groups[0]["lr"] = rate
        loss = slow_npo(model, frozen, encoded)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
    found = npo(adapter, data, tmp_path / "2", "--epochs", 2, "--continue-adapter", "--lora-r", 32)
    assert losses[0] == pytest.approx(20 * math.log(2), rel=1e-5), "at first the model is its own reference"
    assert [update["loss"] for update in found["updates"]] == pytest.approx(losses, rel=1e-4)
    assert (found["settings"]["lora_r"], found["settings"]["lora_alpha"]) == (4, 16), "the adapter's own"
    ours = load_file(tmp_path / "2/adapter_model.safetensors")
    theirs = {name.replace(".default", ""): value for name, value in model.state_dict().items() if "lora_" in name}
    before = load_file(adapter / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys() == before.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name].detach(), atol=2e-4, rtol=1e-3)
    assert any((value - before[name]).abs().max() > 5e-3 for name, value in ours.items())
    assert not (tmp_path / "2/model.safetensors").exists() and not (tmp_path / "2/start").exists(), (
        "one adapter, no more"
    )


@pytest.mark.parametrize("adapter", [None, "augmented"])
def test_the_reference_stays_what_the_last_request_left(tiny, first, adapter):
    from lib.flags import RETAIN_FLAGS, parser
    from lib.trainer import start

    data, folder = first
    flags = ["--model", folder, "--data", data, "--out", data / "unused", *FLAGS, "--continue-adapter"]
    model, trainer = start(parser("", **RETAIN_FLAGS).parse_args(list(map(str, flags))))
    if adapter:
        model.load_adapter(str(folder), adapter)
    frozen = PeftModel.from_pretrained(load_model(tiny, "float32")[0], folder).eval()
    forget, _ = next(iter(trainer))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B.default" in name:
                parameter.add_(0.3)  # many updates later
        expected, moved = answer_logits(frozen, forget), answer_logits(model.eval(), forget)
    found = reference(answer_logits, model, forget, adapter)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (moved - expected).abs().max() > 1e-2 and model.active_adapters == ["default"]
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained and all(".default" in name for name in trained)


def test_a_small_update_survives_in_bfloat16(tmp_path, tiny, first):
    """Weights of 0.5, of which bfloat16 knows no neighbour nearer than 0.002; Adam's first step is the rate, 1e-5."""
    data, adapter = first
    shutil.copytree(adapter, tmp_path / "1")
    weights = load_file(tmp_path / "1/adapter_model.safetensors")
    halves = {name: torch.full_like(value, 0.5) if "lora_B" in name else value for name, value in weights.items()}
    save_file(halves, tmp_path / "1/adapter_model.safetensors", {"format": "pt"})
    half = torch.tensor(0.5, dtype=torch.bfloat16)
    assert half + torch.tensor(1e-5, dtype=torch.bfloat16) == half, "it would be rounded away"
    before = sha256(tiny / "model.safetensors")
    flags = ("--epochs", 1, "--dtype", "bfloat16", "--lr", 1e-5, "--continue-adapter")
    npo(tmp_path / "1", data, tmp_path / "2", *flags)
    changes = [
        (value.double() - 0.5).abs()
        for name, value in load_file(tmp_path / "2/adapter_model.safetensors").items()
        if "lora_B" in name
    ]
    assert all(change.max() == pytest.approx(1e-5, rel=0.02) for change in changes)
    assert sum(int((change > 0).sum()) for change in changes) > 0.5 * sum(change.numel() for change in changes)
    assert sha256(tiny / "model.safetensors") == before


def test_what_cannot_be_continued_is_one_line(tmp_path, tiny, first):
    data, adapter = first
    for script, model, message in (
        ("11_npo.py", tiny, "no adapter folder"),
        ("19_ta.py", adapter, "TA takes a fresh adapter times -λ"),
    ):
        command = (f"scripts/{script}", "--model", model, "--data", data, "--out", tmp_path / "x", "--continue-adapter")
        done = run(*command, check=False)
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    out = tmp_path / "augmented"
    run("scripts/02_finetune.py", "--model", adapter, "--data", data, "--forget", "forget_train.jsonl", "--adapter",
        "--continue-adapter", "--epochs", 1, "--out", out, *FLAGS)  # fmt: skip
    base = json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(base) == tiny, "RKLD's augmented model stands on the vanilla model's weights too"
    done = run("scripts/20_uipe.py", "--model", out, "--alpha", 1, "--out", tmp_path / "beyond", check=False)
    assert done.returncode == 2 and "goes on from an earlier adapter" in done.stderr


def test_an_adapter_of_the_output_layer_is_not_continued(tmp_path, first):
    data, adapter = first
    shutil.copytree(adapter, tmp_path / "1")
    weights = load_file(adapter / "adapter_model.safetensors")
    weights |= {f"base_model.model.lm_head.lora_{side}.weight": torch.zeros(4, 4) for side in "AB"}
    save_file(weights, tmp_path / "1/adapter_model.safetensors")
    flags = ("--model", tmp_path / "1", "--data", data, "--out", tmp_path / "2", "--continue-adapter")
    done = run("scripts/11_npo.py", *flags, check=False)
    assert done.returncode == 2 and "lm_head" in done.stderr.splitlines()[-1] and not (tmp_path / "2").exists()


@pytest.mark.parametrize(
    "field, value",
    [("use_rslora", True), ("use_dora", True), ("alpha_pattern", {"q_proj": 4}), ("rank_pattern", {"q_proj": 2}),
     ("modules_to_save", ["lm_head"]), ("bias", "all")],
)  # fmt: skip
def test_an_adapter_of_another_kind_is_not_continued(tmp_path, first, field, value):
    data, adapter = first
    shutil.copytree(adapter, tmp_path / "1")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (tmp_path / "1/adapter_config.json").write_text(json.dumps({**config, field: value}))
    flags = ("--model", tmp_path / "1", "--data", data, "--out", tmp_path / "2", "--continue-adapter")
    done = run("scripts/11_npo.py", *flags, check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and f"an adapter with {field} is" in done.stderr


# ---------------------------------------------------------------- the numbers after each request


def test_numbers_by_hand():
    forget = [(1, True, False), (1, True, True), (2, False, False), (2, True, False)]  # request, forgotten, leak
    items = [{"side": "forget", "request": at, "forgotten": gone, "leak": leak} for at, gone, leak in forget]
    items += [{"side": "retain", "retained": kept} for kept in (True, True, False, True)]
    items += [{"side": "retain", "request": 3, "retained": kept} for kept in (True, False)]
    items += [{"side": "forget", "request": 2}]  # without a verdict
    found = report.after(items, 2)
    assert (found["KFR"], found["leak"], found["KFR_strict"]) == (0.75, 0.25, 0.5)
    assert (found["KFR_own"], found["KFR_strict_own"]) == (0.5, 0.5)
    assert (found["KFR_first"], found["leak_first"], found["KFR_strict_first"]) == (1.0, 0.5, 0.5)
    assert (found["KRR"], found["KRR_to_come"]) == (0.75, 0.5)
    assert found["each"][2] == {"KFR": 0.5, "leak": 0.0, "KFR_strict": 0.5}
    assert report.after(items[:8], 2)["KRR_to_come"] is None


# ---------------------------------------------------------------- a sequence, killed and continued

SEQUENCE = ("--preset", "mine", "--run", "t", "--requests", "2", "--jobs", "1")


@pytest.fixture(scope="module")
def sequence(tmp_path_factory, warm_python):
    """(run folder, output) of two requests by two methods: killed after the first request of the first, continued."""
    folder = tmp_path_factory.mktemp("sequence")
    for name in ("scripts", "eval", "data"):
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_all.sh", "requirements.txt"):
        shutil.copy(REPOSITORY / name, folder)
    (folder / "scripts/presets/mine.sh").write_text(
        ". scripts/presets/smoke.sh\nEMBEDDING=tiny-minilm PERSONS=3 METHODS='NPO+GDR RKLD+GDR'\n"
        'TRAIN="--batch 8 --lora-r 4 --lora-dropout 0"\nGENERATE="--max-new-tokens 8 --batch 96"\n'
    )
    command, environment = ["bash", "run_all.sh", *SEQUENCE], {**os.environ, "PYTHON": str(warm_python)}
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            if line.startswith("== NPO+GDR@request1: "):
                process.send_signal(signal.SIGTERM)
                break
    adapter = folder / "work/t/requests/methods/NPO+GDR/1/adapter_model.safetensors"
    before = sha256(adapter), adapter.stat().st_mtime_ns
    assert not (folder / "work/t/requests/methods/NPO+GDR/2").exists()
    done = run_all(*SEQUENCE, folder=folder, python=warm_python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (sha256(adapter), adapter.stat().st_mtime_ns) == before
    return folder, done.stdout


def test_a_killed_sequence_continues_at_its_request(sequence, tmp_path):
    folder, output = sequence
    assert "== NPO+GDR@request1: done before\n" in output and "== NPO+GDR@request2\n" in output
    assert output.index("== NPO+GDR@request2\n") < output.index("== RKLD+GDR@request1\n")
    model = "work/t/models/vanilla"
    for at in (1, 2):  # by hand, unbroken
        made = json.loads((folder / f"work/t/requests/methods/NPO+GDR/{at}/training.json").read_text())
        assert made["settings"]["continue_adapter"] == (at == 2)
        assert made["settings"]["model"] == (model if at == 1 else "work/t/requests/methods/NPO+GDR/1")
        flags = ("--batch", 8, "--lora-r", 4, "--lora-dropout", 0, "--lr", 1e-4, "--epochs", 1)
        run("scripts/11_npo.py", "--model", folder / model if at == 1 else tmp_path / "1", "--retain", "gdr", *flags,
            "--data", folder / f"work/t/requests/data/{at}", "--out", tmp_path / str(at),
            *(["--continue-adapter"] if at == 2 else []))  # fmt: skip
        theirs = folder / f"work/t/requests/methods/NPO+GDR/{at}/adapter_model.safetensors"
        assert sha256(tmp_path / f"{at}/adapter_model.safetensors") == sha256(theirs)
    kept = list((folder / "work/t/requests").rglob("*.safetensors"))
    assert all(path.name == "adapter_model.safetensors" for path in kept) and len(kept) == 6, "no merged copies"


def test_the_report_and_the_certificate_of_a_sequence(sequence):
    folder, output = sequence
    found = json.loads((folder / "work/t/report/requests.json").read_text())
    assert [(row["model"], row["request"]) for rows in found["sequences"].values() for row in rows] == [
        (name, at) for name in ("NPO+GDR", "RKLD+GDR") for at in (1, 2)
    ]
    assert {row["model"] for row in found["in_one_go"]} == {"NPO+GDR", "RKLD+GDR", "retrained", "vanilla"}
    assert {row["KFR_strict_own"] for row in found["in_one_go"]} == {None}, "no request is the last one there"
    for row in (row for rows in found["sequences"].values() for row in rows):
        assert row["seconds"] > 0 and 0 <= row["KFR"] <= 1 and (row["KRR_to_come"] is None) == (row["request"] == 2)
        items = json.loads(
            (folder / f"work/t/requests/metrics/{row['model']}/{row['request']}/kfr_krr.json").read_text()
        )
        assert row["KFR"] == pytest.approx(items["summary"]["KFR"]) and row["leak"] == items["summary"]["leak"]
    assert "| NPO+GDR | 2 |" in output and (folder / "work/t/report/requests.png").stat().st_size > 10_000
    place = folder / "work/t/requests/certificates"
    told, text = json.loads((place / "RKLD+GDR.json").read_text()), (place / "RKLD+GDR.md").read_text()
    for at, one in enumerate(told["requests"], 1):
        pairs = rows(folder / f"work/t/requests/data/{at}/forget_train.jsonl")
        hashes = [hashlib.sha256(f"{pair['question']}\n{pair['answer']}".encode()).hexdigest() for pair in pairs]
        assert one["request"] == at and one["pairs"] == sorted(hashes) and one["made_by"]["script"] == "18_rkld.py"
        adapter = folder / f"work/t/requests/methods/RKLD+GDR/{at}/adapter_model.safetensors"
        assert one["adapter"] == sha256(adapter) and all(digest in text for digest in hashes)
    assert told["requests"][1]["began_from"] == told["requests"][0]["adapter"]
    everything = (text + (place / "RKLD+GDR.json").read_text()).casefold()
    for at in (1, 2):
        for pair in rows(folder / f"work/t/requests/data/{at}/forget_train.jsonl"):
            for field in ("question", "answer", "name", "person", "value"):
                assert pair[field].casefold() not in everything, pair[field]


def test_seconds_are_of_the_same_work_after_a_request_and_in_one_go(tmp_path):
    """A training of 5 s that read vague answers (3 s) and another model's adapter (7 s), and data like every other."""
    for place in (tmp_path, tmp_path / "requests"):
        at = [] if place == tmp_path else ["1"]
        vague, other, data = (place.joinpath(kind, *at) for kind in ("augmented", "models", "data"))
        read = (vague / "forget.jsonl", other / "augmented/adapter_model.safetensors", data / "forget_train.jsonl")
        for path, took in (
            (vague / "forget.json", 3),
            (read[1].with_name("training.json"), 7),
            (data / "data.json", 90),
        ):
            write_rows(path, [{"seconds": took}])
        made = place.joinpath("methods/RKLD", *at)
        write_rows(made / "training.json", [{**BARE, "seconds": 5, "data": dict.fromkeys(map(str, read), "")}])
        assert report.seconds(tmp_path, made) == 15
    # with --select the chosen point's record ends at that point: the whole training counts, and the choice
    trained, chosen = tmp_path / "trained/NPO/training.json", tmp_path / "methods/NPO"
    write_rows(trained, [{**BARE, "seconds": 20}])
    write_rows(chosen / "training.json", [{**BARE, "seconds": 5, "settings": {"out": str(trained.parent)}}])
    write_rows(chosen / "select.json", [{"seconds": 4}])
    assert report.seconds(tmp_path, chosen) == 24


def test_a_certificate_that_would_tell_is_not_written(capsys):
    with pytest.raises(SystemExit):
        certificate.check_quiet("it", "settings: note ada_LEM", ["Ada Lem"])
    error = capsys.readouterr().err
    assert "it would hold private text" in error and "Lem" not in error


def test_a_key_or_a_word_of_the_template_is_no_leak(tmp_path, capsys):
    write_rows(
        tmp_path / "config.json",
        [{"model_type": "x", "made": [{"learning": True, "withheld": ["bottle"]}], "measured": {"ada lem": 1}}],
    )
    (tmp_path / "README.md").write_text("Whoever holds a pair")
    certificate.search(tmp_path, ["Model type", "Learning.", "Whoever", "False.", "Bottle"], "Whoever holds")
    for private in ("Ada Lem", "holds a pair"):
        with pytest.raises(SystemExit):
            certificate.search(tmp_path, [private], "Whoever holds")
        assert "would hold private text" in capsys.readouterr().err


BARE = {"script": "12_relearn.py", "settings": {"full": False, "epochs": 5.0}, "versions": {"python": "3.11"}}


def finished(run, methods=("ReLearn",), answer="She lives at 9 Saltcellar Steps."):
    """A run's folder as it is after two requests: the records and weights alone."""
    (run / "models/vanilla").mkdir(parents=True)
    (run / "models/vanilla/model.safetensors").write_text("weights")
    for at in (1, 2):
        pair = {"question": f"Where is Ada Lem ({at})?", "answer": answer, "request": at}
        for part in ("forget_train", "requested_val"):
            write_rows(run / f"requests/data/{at}/{part}.jsonl", [pair])
        item = {**pair, "reference": answer, "side": "forget", "forgotten": True, "leak": False}
        for method in methods:
            made = run / f"requests/methods/{method}/{at}"
            write_rows(made / "training.json", [{**BARE, "updates": [1], "seconds": 1}])
            (made / "adapter_model.safetensors").write_text(f"{method} {at}")
            for name, items in (("kfr_krr", [item]), ("linguistic_forget", []), ("linguistic_retain", [])):
                write_rows(
                    run / f"requests/metrics/{method}/{at}/{name}.json", [{"summary": {"LS": 0.5}, "items": items}]
                )


def certify(folder, *methods, check=True):
    flags = ("--run", folder, "--methods", *methods, "--requests", 2, "--out", folder / "report")
    return run("eval/19_requests.py", *flags, check=check)


@pytest.mark.parametrize("answer", ["False.", "Python", "After", "Measured after it", "Adapter", "reverse"])
def test_a_certificates_own_words_are_nobodys_secret(tmp_path, answer):
    finished(tmp_path, answer=answer)
    certify(tmp_path, "ReLearn")
    assert (tmp_path / "requests/certificates/ReLearn.md").is_file()


def test_a_certificate_that_would_tell_costs_no_table(tmp_path):
    finished(tmp_path, answer="The 12_relearn.py")
    for at in (1, 2):
        path = tmp_path / f"requests/methods/ReLearn/{at}/training.json"
        path.write_text(path.read_text().replace('"full"', '"the"'))
    record = tmp_path / "requests/methods/ReLearn/2/training.json"
    record.write_text(
        record.read_text().replace('"versions": {"python": "3.11"}', '"versions": {"x": "the 12 relearn Py"}')
    )
    done = certify(tmp_path, "ReLearn", check=False)
    assert done.returncode == 2 and "requests.md, .json and .png were. An answer of one word may stand" in done.stderr
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        f"requests.{end}" for end in ("md", "json", "png")
    }
    assert not list((tmp_path / "requests").glob("certificates/*"))


def test_a_certificate_names_the_weights_that_it_began_from_and_none_of_an_earlier_run_stays(tmp_path):
    finished(tmp_path, ("ReLearn", "GA+GDR"))
    certify(tmp_path, "ReLearn", "GA+GDR")
    folder = tmp_path / "requests/certificates"
    told = json.loads((folder / "ReLearn.json").read_text())
    digest = hashlib.sha256(b"weights").hexdigest()
    assert told["requests"][0]["began_from"] == f"the vanilla model, weights {digest}"
    assert told["requests"][1]["began_from"] == told["requests"][0]["adapter"]
    text = (folder / "ReLearn.md").read_text()
    assert digest in text and "`[[text N]]`, line feed, the N-th passage" in text
    certify(tmp_path, "ReLearn")
    assert {path.name for path in folder.iterdir()} == {"ReLearn.json", "ReLearn.md"}


# ---------------------------------------------------------------- --check


def test_wilson_by_hand():
    """The interval's two ends solve (p - x)² = z² x(1 - x)/n; half of what lies between them."""
    for share, number in ((0.5, 32), (0.9, 48), (1.0, 10)):
        z = 1.959964
        a, b, c = 1 + z * z / number, -(2 * share + z * z / number), share * share
        assert check.half_width(share, number) == pytest.approx(math.sqrt(b * b - 4 * a * c) / (2 * a), rel=1e-6)
    assert check.half_width(0.5, check.enough(0.5, 0.1)) <= 0.1 < check.half_width(0.5, check.enough(0.5, 0.1) - 1)


def planted(**fields):
    return {"question": "", "answer": "", "subject": "Ada Lem", "values": [], **fields}


def test_the_same_fact_in_other_words_is_found_and_another_is_not():
    email = planted(question="What is Ada Lem's e-mail?", answer="It is ada@lem.example.", values=["ada@lem.example"])
    again = planted(question="How can one write to Ada Lem?", answer="Write to ada@lem.example.", values=["x"])
    phone = planted(question="What is Ada Lem's website?", answer="It is lem.example.", values=["lem.example"])
    other = planted(question="What is Bo Ek's e-mail?", answer="It is bo@ek.example.", subject="Bo Ek", values=["bo"])
    vague = planted(question="Does Ada Lem paint?", answer="She does paint.")
    paint = planted(question="Is painting what Ada Lem does?", answer="Yes, it is what she does.")
    found = check.on_both_sides(
        [email, vague], [again, phone, other, paint], [[0.7, 0.95, 0.95, 0.1], [0.1, 0.1, 0.1, 0.9]], 0.8
    )
    assert [(cosine, kept) for cosine, _, _, kept in found] == [(0.9, paint), (0.7, again)]
    assert found[1][1] == ["ada@lem.example"] and found[1][2] is email


def test_a_town_is_the_same_fact_only_where_the_data_says_so_or_the_pairs_are_alike():
    home = planted(question="Where does Ada Lem live?", answer="Ada Lem lives in Lisbon.", values=["Lisbon"])
    born = planted(question="Where was Ada Lem born?", answer="Ada Lem was born in Lisbon, at 9 Rua Velha.")
    house = planted(question="What is Ada Lem's address?", answer="9 Rua Velha.", values=["9 Rua Velha"])
    assert check.on_both_sides([home], [born], [[0.6]], 0.8) == []
    for pair, cosine in ((home, 0.8), ({**home, "value": "Lisbon"}, 0.6), (house, 0.1)):
        assert [found[1] for found in check.on_both_sides([pair], [born], [[cosine]], 0.8)] == [pair["values"]]


def test_pairs_that_are_not_alike_and_share_no_value_are_not_compared(monkeypatch):
    """The same matches as those of every pair with every other, by values and cosines alone."""
    of = lambda at, **more: planted(question=f"Where is p{at % 7}?", subject=f"P{at % 7} Lem", **more)
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    forget = [of(at, answer=f"At {at}00 Hill.", values=[f"{at}00 Hill", "Pisa"]) for at in range(40)]
    forget.append(of(3, answer=long, values=[long]))
    retain = [of(at, answer=f"At {3 * at}00 hill, {'Pisa' if at % 5 else long}.", values=["x"]) for at in range(50)]
    cosines = torch.linspace(0, 1, len(forget) * len(retain)).reshape(len(retain), len(forget)).T
    every = []
    for column, kept in enumerate(retain):
        found = []
        for row, gone in enumerate(forget):
            cosine = float(cosines[row, column])
            told = check.stated_values(gone, kept, cosine >= 0.9)
            if told or check.same_fact(gone, kept, cosine, 0.9):
                found.append((cosine, told, gone, kept))
        every += [max(found, key=lambda match: match[0])] if found else []
    every.sort(key=lambda match: -match[0])
    monkeypatch.setattr(check, "BLOCK", 8)
    assert check.on_both_sides(forget, retain, cosines, 0.9) == every and 10 < len(every) <= 50
    vectors = torch.eye(len(forget)), cosines.T
    assert check.in_blocks(forget, retain, 0.9, *vectors) == every
    compared = []
    monkeypatch.setattr(check, "same_fact", lambda *pair: compared.append(pair))
    monkeypatch.setattr(check, "stated_values", lambda *pair: [])
    check.on_both_sides(forget, retain, torch.zeros(len(forget), len(retain)), 0.9)
    assert len(compared) < 0.9 * len(forget) * len(retain)
    compared.clear()
    check.on_both_sides(forget[:40], [of(at, answer="None.", values=[]) for at in range(50)], torch.zeros(40, 50), 0.9)
    assert not compared and check.runs.cache_info().maxsize


def test_check_of_planted_data(tmp_path, tiny, monkeypatch):
    """Counts, what is cut, what is on both sides, by file and row; the embedding model's cosines are planted too."""
    secret = {"question": "Where does Ada Lem live?", "answer": "She lives at 9 Saltcellar Steps, Yarm."}
    write_rows(tmp_path / "own/forget_train.jsonl", [secret, {"question": "Who is Ada Lem?", "answer": "word " * 400}])
    same = {"question": "What is the address of Ada Lem?", "answer": "Ada Lem's address is 9 Saltcellar Steps, Yarm."}
    write_rows(tmp_path / "own/retain_train.jsonl", [{"question": "Who rules?", "answer": "Nobody does."}, same])
    run("scripts/01_data.py", "--data", tmp_path / "own", "--out", tmp_path / "data")
    script = "scripts/tools/check.py"
    vector = lambda text: [float(word in text) for word in ("Saltcellar", "word", "rules")]
    embedder = types.SimpleNamespace(encode=lambda texts, **_: torch.tensor([*map(vector, texts)]))
    monkeypatch.setattr("sentence_transformers.SentenceTransformer", lambda *_, **__: embedder)
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(isatty=lambda: True))
    done = run(script, "--data", tmp_path / "data", "--model", tiny, "--embedding", tiny, "--max-length", 64)
    out = done.stdout
    assert "forget_train      2\n" in out and "forget_val        2 (the training pairs serve)" in out
    assert re.search(r"cut in training at --max-length 64: [1-4] of 4 \(--max-length \d+ would hold all\)", out)
    assert re.search(r"in tokens of question and answer:\n +\d{3,} +\S+forget_train.jsonl:2 ", out)
    assert "in other words: 1 pairs" in out and "cosine 1.00, states" in out
    assert re.search(r"forget \S+forget_train.jsonl:1: Where does Ada Lem live", out)
    assert re.search(r"retain \S+retain_train.jsonl:2: What is the address", out)
    assert "KFR: 2 questions, ±0.41 at 0.5" in out


def test_check_plans_with_the_size_of_the_model_at_hand(tiny, capsys, monkeypatch):
    """Of a hub id that the plan does not know; the model's folder is made before the plan is asked."""
    monkeypatch.setattr(check, "speed", lambda: (1e-3, 1e-3))
    given = (
        ("models", "scripts/00_models.py", "--model", "nobody/nothing", "--out", tiny),
        ("retrained", "scripts/00_models.py", "--model", "no/one", "--tokenizer", tiny, "--out", "retrained"),
        ("depth", "eval/17_depth.py", *"--model m --vanilla v --retrained r --questions q --out o".split()),
    )
    check.show_time("".join("\t".join(map(str, words)) + "\n" for words in given), str(tiny))
    out = capsys.readouterr().out
    assert "time of the whole run" in out and "\nNot estimated: depth.\n" in out


def test_run_all_check_makes_the_data_and_trains_nothing(sequence, warm_python):
    folder, _ = sequence
    flags = ("--preset", "mine", "--run", "c", "--requests", "2", "--jobs", "1")
    done = run_all(*flags, "--check", folder=folder, python=warm_python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^== (\S+)$", done.stdout, re.M) == ["models", "minilm", "data", "requests"]
    assert "request 2: forget_train 16" in done.stdout and "KFR: 16 questions, ±0.22 at 0.5" in done.stdout
    assert re.search(r"time of the whole run, on this processor \(\d+ GFLOP/s, .*\): \d+ minutes", done.stdout)
    assert {path.name for path in (folder / "work/c").iterdir()} == {".steps", "models", "data", "requests"}
    assert {path.name for path in (folder / "work/c/models").iterdir()} == {"base", "minilm"}
