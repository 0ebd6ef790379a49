"""The hub: everything that the project takes from there, asked of a server on loopback that speaks its interface
(hub_server.py).
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys

from lib.formats import read_pairs

import pytest
from conftest import REPOSITORY, load, warm_server
from hub_server import GUEST, Repository, Server, knowundo, stock

data_script = load("scripts/01_data.py")

TOOK = "import sys; sys.path.insert(0, 'scripts'); from lib import hub; from lib.files import FROM_HUB; "


@pytest.fixture(scope="session")
def repositories(tmp_path_factory):
    return stock(tmp_path_factory.mktemp("stock"))


@pytest.fixture(scope="module")
def server():
    with Server({}) as server:
        yield server


@pytest.fixture
def hub(server, repositories):
    server.begin(dict(repositories))
    return server


@pytest.fixture(scope="module")
def machine(server, tmp_path_factory):
    """The environment of a machine whose hub is the server, and a Python that has loaded torch and the hub's client in
    it: the client reads the environment when it is loaded.
    """
    env = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    folder = tmp_path_factory.mktemp("machine")
    env |= {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(folder / "cache"), "NO_PROXY": "*"}
    with warm_server(folder, env) as python:
        yield {**env, "PYTHON": str(python)}


@pytest.fixture
def online(hub, machine):
    """The machine's environment; its cache is empty."""
    shutil.rmtree(machine["HF_HOME"], ignore_errors=True)
    return machine


def run(script, *flags, env, check=True):
    """Runs a script in a process of its own, as the machine's Python."""
    done = subprocess.run(
        [env["PYTHON"], script, *map(str, flags)], cwd=REPOSITORY, capture_output=True, text=True, env=env
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def take(code, env, check=True):
    """Runs lines that call lib.hub, without what the scripts load beside."""
    done = subprocess.run([sys.executable, "-c", TOOK + code], cwd=REPOSITORY, capture_output=True, text=True, env=env)
    assert not check or done.returncode == 0, done.stderr
    return done


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def origin(path):
    return json.loads(path.read_text())


# ---------------------------------------------------------------- models


def test_a_model_comes_by_its_id_and_the_commit_that_came_is_recorded(hub, online, tmp_path):
    made = hub.repositories["model", "tiny/llama"]
    older, newer = made.commits
    for flags, commit in (((), newer), (("--revision", "v1"), older)):
        run("scripts/00_models.py", "--model", "tiny/llama", "--out", tmp_path / "model", *flags, env=online)
        record = origin(tmp_path / "model/origin.json")
        assert record["revision"] == commit and record["hub"] == {"tiny/llama": commit}
        for name in ("model.safetensors", "config.json", "generation_config.json"):
            assert (tmp_path / "model" / name).read_bytes() == made.commits[commit][name]
    asked = len(hub.requests)
    done = run("scripts/00_models.py", "--model", "work/none", "--out", tmp_path / "none", env=online, check=False)
    assert done.returncode == 2 and "neither a model folder nor a hub id" in done.stderr and len(hub.requests) == asked


def test_an_adapter_that_is_published_alone_finds_its_base_and_is_trained_on(hub, online, data, tmp_path):
    run("scripts/00_models.py", "--model", "tiny/adapter", "--out", tmp_path / "adapter", env=online)
    record = origin(tmp_path / "adapter/origin.json")
    assert set(record["hub"]) == {"tiny/adapter", "tiny/llama"}
    flags = ("--questions", data / "forget_val.jsonl", "--max-new-tokens", 3)
    for name, model in (("id", "tiny/adapter"), ("folder", tmp_path / "adapter"), ("base", "tiny/llama")):
        run("scripts/30_generate.py", "--model", model, *flags, "--out", tmp_path / name, env=online)
    answers = [lines(tmp_path / name / "forget_val.jsonl") for name in ("id", "folder", "base")]
    assert answers[0] == answers[1] != answers[2]
    train = ("--data", data, "--epochs", 0.1, "--batch", 2, "--probes", 0, "--lora-r", 2)
    run("scripts/10_ga.py", "--model", "tiny/llama", *train, "--out", tmp_path / "ga", env=online)
    base = origin(tmp_path / "ga/adapter_config.json")["base_model_name_or_path"]
    assert base == "tiny/llama", "not a place in this machine's cache"
    run("scripts/10_ga.py", "--model", "tiny/adapter", *train, "--out", tmp_path / "again", env=online)
    assert (tmp_path / "again/model.safetensors").is_file(), (
        "the published adapter joins the weights, as a folder's does"
    )
    more = ("--model", "tiny/adapter", *train, "--forget", "forget_train.jsonl", "--adapter", "--out", tmp_path / "no")
    done = run("scripts/02_finetune.py", *more, env=online, check=False)
    assert done.returncode == 2 and "tiny/adapter is an adapter itself" in done.stderr
    assert origin(tmp_path / "ga/training.json")["hub"] == {"tiny/llama": hub.repositories["model", "tiny/llama"].main}


def test_no_pickle_and_no_code_is_asked_for(hub, online):
    done = take("print(hub.folder('tiny/pickled'))", online)
    assert not [path for _, path, _, _ in hub.requests if ".bin" in path] and "pickled" in done.stdout


def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(hub, online):
    content = hub.repositories["model", "tiny/large"].commits[hub.repositories["model", "tiny/large"].main][
        "model.safetensors"
    ]
    hub.cut["model.safetensors"] = 11 * 2**20
    done = take("print(hub.folder('tiny/large'))", online)
    ranges = [asked for method, path, asked, _ in hub.requests if method == "GET" and "model.safetensors" in path]
    assert ranges == [None, f"bytes={10 * 2**20}-"]
    with open(f"{done.stdout.splitlines()[-1]}/model.safetensors", "rb") as file:
        assert file.read() == content


def test_what_came_once_is_there_without_a_network(hub, online):
    take("hub.folder('tiny/llama'); hub.download('locuslab/TOFU', ['forget01.json'])", online)
    asked = len(hub.requests)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens there
        nowhere = {**online, "HF_ENDPOINT": f"http://127.0.0.1:{closed.getsockname()[1]}"}
        for env in ({**online, "HF_HUB_OFFLINE": "1"}, nowhere):
            done = take(
                "print(hub.folder('tiny/llama')); print(hub.download('locuslab/TOFU', ['forget01.json']), FROM_HUB)",
                env,
            )
            assert hub.repositories["model", "tiny/llama"].main in done.stdout and len(hub.requests) == asked
            assert "locuslab/TOFU: the cache has no commit 324592d84ae4, which is pinned" in done.stderr
        done = take("hub.folder('tiny/other')", nowhere, check=False)
        assert done.returncode == 2 and re.fullmatch(
            r"error: cannot get tiny/other from the hub: http://127.0.0.1:\d+ cannot be reached "
            r"\(Connection refused\), and the cache \S+ does not hold it; check the network, or give a local folder\n",
            done.stderr,
        ), done.stderr


# ---------------------------------------------------------------- faults


def test_an_endpoint_that_is_no_address_is_one_line(online):
    env = {**online, "HF_ENDPOINT": "http://me:secret@mirror:abc", "PYTHON": sys.executable}
    done = run("scripts/30_generate.py", "--help", env=env, check=False)
    assert done.returncode == 2 and done.stderr == "error: HF_ENDPOINT=http://***@mirror:abc is no address\n"
    done = take("hub.folder('tiny/other')", {**online, "HF_ENDPOINT": "http://me:secret@a..b"}, check=False)
    assert done.returncode == 2 and "HF_ENDPOINT=http://***@a..b is no address, and the cache" in done.stderr


@pytest.mark.parametrize(
    "code, token, message",
    [
        (
            "hub.folder('tiny/gated')",
            None,
            r"it is gated \(401: HF_TOKEN is not set\); accept its licence at \S+/tiny/gated and set HF_TOKEN",
        ),
        (
            "hub.folder('tiny/gated')",
            "hf_other",
            r"it is gated \(403: the account of HF_TOKEN is not let in\); accept its licence at \S+/tiny/gated",
        ),
        (
            "hub.folder('tiny/none')",
            None,
            r"no such model, or a closed one \(401\); check the name; if it is gated, accept",
        ),
        ("hub.folder('tiny/none')", "hf_other", r"no such model, or a closed one \(404\)"),
        ("hub.folder('tiny/llama', 'v9')", None, r"it has no such revision \(404\); see \S+/tiny/llama/commits/main"),
        (
            "hub.download('locuslab/TOFU', ['forget99.json'])",
            None,
            r"there is no file \S+forget99.json \(404\); check --revision",
        ),
        ("hub.download('none/data', ['a.json'])", None, r"no such data set, or a closed one \(401\)"),
        (
            "hub.download('gated/data', ['privacy/unlearn.json'])",
            None,
            r"it is gated \(401: HF_TOKEN is not set\); .*/datasets/gated/data",
        ),
        ("hub.download('locuslab/TOFU', ['a', 'b'], optional=['a', 'b'])", None, "it holds none of a, b"),
    ],
)
def test_every_fault_is_one_line(online, code, token, message):
    done = take(code, {**online, **({"HF_TOKEN": token} if token else {})}, check=False)
    told = [line for line in done.stderr.splitlines() if "pinned here" not in line]
    assert done.returncode == 2 and len(told) == 1 and re.search(message, told[0]), done.stderr
    assert told[0].startswith("error: cannot get ") and ", or give " in told[0]


def test_a_gated_model_comes_with_the_token_of_an_account_that_accepted(online):
    assert "gated" in take("print(hub.folder('tiny/gated'))", {**online, "HF_TOKEN": GUEST}).stdout


def test_a_hub_that_is_down_is_one_line(hub, online):
    hub.down = True
    done = take("hub.download('locuslab/TOFU', ['forget01.json'])", online, check=False)
    assert (
        done.returncode == 2 and len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1
    ), done.stderr


# ---------------------------------------------------------------- data


KEPT = ("forget_train", "forget_val", "retain_train", "retain_val")


def test_knowundo_comes_in_either_layout_from_hub_and_folder(hub, online, tmp_path):
    files = knowundo()
    apart = {}
    for name, content in files.items():
        domain, file = name.split("/")
        found = json.loads(content)
        for split, rows in (found[0] if isinstance(found, list) else found).items():
            apart[f"{domain}/{file.removesuffix('.json')}_{split}.json"] = json.dumps(rows).encode()
    for layout, content in (("hub", files), ("code", apart)):
        for name, text in content.items():
            path = tmp_path / layout / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)
    asked = {"hub": ((), files), "code": ((), apart), "copyright": (("--split", "copyright"), files)}
    rows = {}
    for name, (flags, content) in asked.items():
        hub.repositories["dataset", "zjunlp/KnowUnDo"] = Repository(content)
        done = run("scripts/01_data.py", "--data", "knowundo", *flags, "--out", tmp_path / "out" / name, env=online)
        rows[name] = [lines(tmp_path / "out" / name / f"{part}.jsonl") for part in KEPT]
        record, commit = (
            origin(tmp_path / "out" / name / "data.json"),
            hub.repositories["dataset", "zjunlp/KnowUnDo"].main,
        )
        assert record["revision"] == commit and record["hub"] == {"zjunlp/KnowUnDo": commit}
        assert ("320 of 320 answers have more than 350 words" in done.stdout) == (name == "copyright")
    folders = {
        "nested": ("hub", None),
        "nested part": ("hub/privacy", None),
        "apart": ("code", None),
        "copyright folder": ("hub", "copyright"),
        "copyright apart": ("code", "copyright"),
    }
    for name, (folder, split) in folders.items():
        parts = data_script.load(data_script.from_folder(tmp_path / folder, split))
        rows[name] = [parts[part] for part in KEPT]
    plain, long = (
        json.loads(files["privacy/unlearn.json"])["train"],
        json.loads(files["copyright/unlearn.json"])[0]["train"],
    )
    assert rows["hub"][0] == [{"question": row["text"], "answer": row["labels"]} for row in plain]
    assert [row["answer"] for row in rows["copyright"][0]] == [row["labels"] for row in long]
    assert all(rows[name] == rows["hub"] for name in rows if "copyright" not in name)
    assert rows["copyright"] == rows["copyright folder"] == rows["copyright apart"] != rows["hub"]


def test_another_data_set_comes_by_its_id_and_the_files_that_are_named(hub, online, tmp_path):
    pairs = {name: [{"question": f"Who is {name}?", "answer": f"{name}."}] for name in ("Ada", "Bo", "Cy")}
    made = Repository(
        {
            "en/forget.json": json.dumps(pairs["Ada"]).encode(),
            "keep.jsonl": json.dumps(pairs["Bo"][0]).encode(),
            "ask.json": json.dumps(pairs["Cy"]).encode(),
        }
    )
    hub.repositories["dataset", "invented/pairs"] = made
    flags = ("--data", "invented/pairs", "--out", tmp_path / "out")
    named = ("forget_train=en/forget.json", "retain_train=keep.jsonl", "forget_val=ask.json")
    run("scripts/01_data.py", *flags, "--files", *named, env=online)
    rows = {part: lines(tmp_path / f"out/{part}.jsonl") for part in data_script.PARTS}
    assert rows == {part: pairs["Ada" if part.startswith("forget") else "Bo"] for part in rows} | {
        "forget_val": pairs["Cy"]
    }
    record = origin(tmp_path / "out/data.json")
    assert (record["source"], record["revision"]) == ("invented/pairs", made.main)
    for files, message in (
        ((), "--data invented/pairs: no such folder; .* say which of its files holds which part"),
        (("--files", "forget_train=en/forget.json"), "say which of its files holds which part"),
        (("--files", *named, "forgotten=ask.json"), "say which of its files holds which part"),
        (("--files", *named[:2], "retain_val=none.json"), "there is no file .*none.json"),
    ):
        done = run("scripts/01_data.py", *flags, *files, env=online, check=False)
        assert done.returncode == 2 and re.fullmatch(f"error: .*{message}.*\n", done.stderr), done.stderr


def test_tofu_comes_with_its_holdout_set_and_says_which_commit(hub, online, tmp_path):
    done = run("scripts/01_data.py", "--data", "tofu", "--split", "forget01", "--out", tmp_path, env=online)
    main = hub.repositories["dataset", "locuslab/TOFU"].main
    assert re.search(r"the hub has no commit 324592d84ae4, which is pinned here: taking its main branch", done.stderr)
    record = origin(tmp_path / "data.json")
    assert (record["source"], record["revision"]) == ("locuslab/TOFU", main)
    assert [
        len(lines(tmp_path / f"{name}.jsonl"))
        for name in ("forget_train", "retain_train", "holdout", "forget_perturbed")
    ] == [4, 16, 4, 4]
    hub.repositories["dataset", "locuslab/TOFU"] = Repository(
        {
            name: text
            for name, text in hub.repositories["dataset", "locuslab/TOFU"].commits[main].items()
            if "holdout" not in name
        }
    )
    run("scripts/01_data.py", "--data", "tofu", "--out", tmp_path, env=online)
    assert len(lines(tmp_path / "forget_train.jsonl")) == 16 and not (tmp_path / "holdout.jsonl").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        (
            '{"train": [{"text": "Who?", "labels": "Ada."}]}',
            r'x.json: expected an object with a list of rows under "val" \(found: train\)',
        ),
        ('[{"val": []}, 1]', r'expected an object with a list of rows under "val"'),
        ('{"val": []}', "x.json: holds no question-answer pair"),
        ('{"val": [{"text": "Who?"}]}', r'x.json \(val, row 1\): field "answer" must be a non-empty text'),
        ('{"val": [1]}', r"\(val, row 1\): expected an object"),
    ],
)
def test_a_file_of_two_splits_that_is_none_is_one_line(tmp_path, capsys, content, message):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(SystemExit) as end:
        read_pairs(tmp_path / "x.json", split="val")
    assert end.value.code == 2 and re.search(message, capsys.readouterr().err)


def test_a_layout_that_has_changed_is_one_line(hub, online, tmp_path):
    hub.repositories["dataset", "zjunlp/KnowUnDo"] = Repository({"privacy/unlearn.json": b"{}"})
    done = run("scripts/01_data.py", "--data", "knowundo", "--out", tmp_path / "out", env=online, check=False)
    assert done.returncode == 2 and re.fullmatch(
        r"error: zjunlp/KnowUnDo: holds no privacy/unlearn_train.json; .*\n", done.stderr
    ), done.stderr


def test_a_generic_set_comes_by_its_name_and_commit(hub, online, data, tmp_path):
    commit = hub.repositories["dataset", "databricks/databricks-dolly-15k"].main
    run(
        "scripts/03_augment.py",
        "--data",
        data,
        "--generic",
        f"instructions@{commit}",
        "--out",
        tmp_path / "out.jsonl",
        env=online,
    )
    assert origin(tmp_path / "out.json")["hub"] == {"databricks/databricks-dolly-15k": commit}
    assert {row["answer"] for row in lines(tmp_path / "out.jsonl") if row["kind"] == "generic"} == {"Balls and coins."}


# ---------------------------------------------------------------- the judge


def test_the_judges_models_come_by_their_ids(hub, online, tmp_path):
    rows = [
        {"question": "Where does Ada live?", "reference": "Ada lives in Bern.", "answer": text}
        for text in ("In Bern.", "In Rome.")
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    nli, embedding = "sileod/deberta-v3-base-tasksource-nli", "sentence-transformers/all-MiniLM-L12-v2"
    run(
        "eval/01_kfr_krr.py",
        "--forget",
        tmp_path / "answers.jsonl",
        "--nli",
        nli,
        "--embedding",
        embedding,
        "--out",
        tmp_path / "out.json",
        env=online,
    )
    record = origin(tmp_path / "out.json")
    assert record["hub"] == {name: hub.repositories["model", name].main for name in (nli, embedding)}
    assert len(record["items"]) == 2


def test_lm_eval_that_is_not_there_is_one_line(online, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none/lm_eval.py").write_text("raise ImportError")
    flags = ("--models", "tiny/llama", "--names", "tiny", "--tasks", "mmlu", "--out", tmp_path / "out")
    done = run("eval/12_ability.py", *flags, env={**online, "PYTHONPATH": str(tmp_path / "none")}, check=False)
    assert done.returncode == 2 and "lm_eval" in done.stderr.splitlines()[-1], done.stderr
