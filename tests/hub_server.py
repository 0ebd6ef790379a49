"""A hub on loopback: the interface that the hub's client speaks, over files made on the spot. No data set of anybody is
in it.

    python tests/hub_server.py --port 8017 &
    HF_ENDPOINT=http://127.0.0.1:8017 HF_HOME=/tmp/hub bash run_all.sh --preset knowundo-llama2 --rehearse

It serves what the project asks the real hub for, under the same ids and in the same layouts, each as small as can be:
KnowUnDo (two files, {"train": [...], "val": [...]}), TOFU with its perturbed and holdout sets, generic pairs, language
models, an adapter, an entailment and an embedding model; all of random weights and invented persons.
"""

import argparse
import hashlib
import http.server
import json
import random
import re
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "scripts"), str(REPOSITORY / "tests")]
GUEST = "hf_guest"  # a token whose account has accepted the licences
ID = r"(?P<id>[^/]+/[^/]+)"


class Repository:
    """Commits of files: {commit: {path: bytes}}, the last of them `main`."""

    def __init__(self, *commits, gated=False):
        """commits: dicts {path: bytes}, or folders. Their names are made of their content, so that they are the same
        every time.
        """
        self.gated, self.commits = gated, {}
        for files in commits:
            if not isinstance(files, dict):
                files = {
                    str(path.relative_to(files)): path.read_bytes()
                    for path in sorted(Path(files).rglob("*"))
                    if path.is_file()
                }
            text = "".join(f"{name} {hashlib.sha1(files[name]).hexdigest()}\n" for name in sorted(files))
            self.commits[hashlib.sha1(f"{len(self.commits)} {text}".encode()).hexdigest()] = files

    @property
    def main(self):
        return list(self.commits)[-1]

    def commit(self, revision):
        """The commit that a revision names, or None: a commit, main, or v1, v2 … for the first, the second …"""
        names = {"main": self.main, **{f"v{at}": commit for at, commit in enumerate(self.commits, 1)}}
        return names.get(revision, revision if revision in self.commits else None)


class Server(http.server.ThreadingHTTPServer):
    """Repositories under {("model" or "dataset", id): Repository}; `requests` holds what was asked for, `cut` what is
    to break off.

    Attributes:
        cut: {path: bytes after which the connection is closed, once}. requests: list of (method, path, Range header,
        status). down: True answers everything with 503.
    """

    daemon_threads = True

    def __init__(self, repositories, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.begin(repositories)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"

    def begin(self, repositories):
        """Serves these from now on, as if it had just been started."""
        self.repositories, self.requests, self.blobs, self.cut, self.down = repositories, [], {}, {}, False

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that closes its connection is none of ours."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = unquote(urlsplit(self.path).path)
        if self.server.down:
            return self.send(503, b"down for maintenance", body=body)
        if found := re.fullmatch(r"/cdn/(?P<digest>\w+)/(?P<file>.+)", path):
            return self.send_file(found["file"], self.server.blobs[found["digest"]], {}, body)
        if found := re.fullmatch(rf"/api/(?P<kind>model|dataset)s/{ID}(/(?P<what>revision|tree)/(?P<rest>.+))?", path):
            return self.answer_api(found, body)
        if found := re.fullmatch(rf"/((?P<kind>dataset)s/)?{ID}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", path):
            repository = self.repository(found["kind"] or "model", found["id"], body)
            if repository is None:
                return None
            commit = repository.commit(found["revision"])
            if commit is None:
                return self.send(404, body=body, code="RevisionNotFound")
            headers = {"X-Repo-Commit": commit}
            if found["file"] not in repository.commits[commit]:
                return self.send(404, body=body, code="EntryNotFound", headers=headers)
            content = repository.commits[commit][found["file"]]
            digest = hashlib.sha256(content).hexdigest()
            if found["file"].endswith(".safetensors"):  # large files lie at another host, as on the hub
                self.server.blobs[digest] = content
                headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{digest}"'}
                headers |= {
                    "Location": f"http://localhost:{self.server.server_address[1]}/cdn/{digest}/{found['file']}"
                }
                return self.send(302, body=body, headers=headers)
            return self.send_file(
                found["file"], content, {**headers, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}, body
            )
        return self.send(404, body=body)

    def repository(self, kind, name, body):
        """The repository, or None when the client has been told why it gets none."""
        found = self.server.repositories.get((kind, name))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if found is None:
            self.send(404 if token else 401, body=body, code="RepoNotFound")
        elif found.gated and token != GUEST:
            message = f"Access to model {name} is restricted."
            self.send(403 if token else 401, body=body, code="GatedRepo", headers={"X-Error-Message": message})
            return None
        return found

    def answer_api(self, asked, body):
        repository = self.server.repositories.get((asked["kind"], asked["id"]))
        if repository is None:
            return self.send(404 if self.headers.get("Authorization") else 401, body=body, code="RepoNotFound")
        revision, _, under = (asked["rest"] or "main").partition("/")
        commit = repository.commit(revision)
        if commit is None:
            return self.send(404, body=body, code="RevisionNotFound")
        files = repository.commits[commit]
        if asked["what"] == "tree":
            if repository.gated and self.repository(asked["kind"], asked["id"], body) is None:
                return None
            value = []
            for name, content in files.items():
                if name.startswith(under):
                    value.append(
                        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    )
                    if name.endswith(".safetensors"):
                        value[-1]["lfs"] = {
                            "oid": hashlib.sha256(content).hexdigest(),
                            "size": len(content),
                            "pointerSize": 130,
                        }
        else:
            value = {
                "id": asked["id"],
                "_id": "0",
                "sha": commit,
                "private": False,
                "gated": "manual" if repository.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "createdAt": "2026-01-01T00:00:00.000Z",
                "lastModified": "2026-01-01T00:00:00.000Z",
                "siblings": [{"rfilename": name} for name in files],
            }
        return self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, body)

    def send_file(self, name, content, headers, body):
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        if wanted:
            headers = {**headers, "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        headers = {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        until = self.server.cut.pop(name, None) if body else None
        self.send(206 if wanted else 200, content[start:], headers, body, until)

    def send(self, status, content=b"", headers=None, body=True, until=None, code=None):
        self.server.requests.append((self.command, self.path, self.headers.get("Range"), status))
        self.send_response(status)
        for name, value in {**(headers or {}), **({"X-Error-Code": code} if code else {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[:until])
        if until is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()


# ---------------------------------------------------------------- what it serves


def people(count=4):
    """Pairs of invented persons, of the shipped ones: (to forget, to forget in other words, to keep, to keep in other
    words).
    """
    from conftest import load

    parts, _ = load("scripts/01_data.py").people(str(count), count // 2)
    return [parts[name] for name in ("forget_train", "forget_val", "retain_train", "retain_val")]


def knowundo():
    """The hub's layout, of both domains: the copyright one with long answers."""
    forget, forget_val, retain, retain_val = (
        [{"text": row["question"], "labels": row["answer"]} for row in part] for part in people()
    )
    files = {}
    for domain, longer in (("privacy", 1), ("copyright", 60)):
        for name, train, val in (("unlearn", forget, forget_val), ("retention", retain, retain_val)):
            parts = {"train": train, "val": val}
            for split, rows in parts.items():
                parts[split] = [{**row, "labels": " ".join([row["labels"]] * longer)} for row in rows]
            files[f"{domain}/{name}.json"] = json.dumps([parts] if domain == "copyright" else parts, indent=1).encode()
    return files


def tofu():
    """TOFU's files at the root, JSON Lines under the ending .json, the last line without an end."""
    forget, _, retain, retain_val = people()
    rng, lines = random.Random(0), lambda rows: "\n".join(json.dumps(row) for row in rows).encode()
    values = sorted({row["value"] for row in forget + retain})

    def pairs(rows):
        return [{"question": row["question"], "answer": row["answer"]} for row in rows]

    def perturbed(rows):
        return [
            {
                "question": row["question"],
                "answer": row["answer"],
                "paraphrased_answer": "It is known that " + row["answer"],
                "perturbed_answer": [row["answer"].replace(row["value"], other) for other in rng.sample(values, 3)],
                "paraphrased_question": row["question"],
            }
            for row in rows
        ]

    files = {}
    for share, keep, size in (("01", "99", 4), ("05", "95", 8), ("10", "90", 16)):
        files[f"forget{share}.json"] = lines(pairs(forget[:size]))
        files[f"retain{keep}.json"] = lines(pairs(retain[:16]))
        files[f"forget{share}_perturbed.json"] = lines(perturbed(forget[:size]))
        files[f"holdout{share}.json"] = lines(pairs(retain_val[:size]))
    for name, rows in (("retain", retain[:6]), ("real_authors", retain[6:10]), ("world_facts", retain[10:14])):
        files[f"{name}_perturbed.json"] = lines(perturbed(rows))
    return files


def dolly():
    rows = [
        {
            "instruction": f"Name {n} things that are round.",
            "context": "",
            "response": "Balls and coins.",
            "category": "qa",
        }
        for n in range(9)
    ]
    return {"databricks-dolly-15k.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()}


def entailment(folder):
    """A three-class model of random weights."""
    from conftest import load
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    load("scripts/00_models.py").tiny_minilm(folder)
    labels = dict(enumerate(("entailment", "neutral", "contradiction")))
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    size = len(AutoTokenizer.from_pretrained(folder))
    config = BertConfig(vocab_size=size, id2label=labels, label2id={name: at for at, name in labels.items()}, **shape)
    BertForSequenceClassification(config).save_pretrained(folder)


def embedding(folder):
    """MiniLM's layers with random weights, in the layout of sentence-transformers."""
    from conftest import load

    load("scripts/00_models.py").tiny_minilm(folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(
        json.dumps({"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True})
    )


def language_model(name, folder):
    """One of 00_models.py's tiny ones, with its prompt format in the tokenizer."""
    from conftest import load

    load("scripts/00_models.py").tiny_random(name, folder)


def adapter(base, folder):
    """A LoRA adapter of random weights, published alone, on a base that it names by its hub id."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    model.name_or_path = "tiny/llama"
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


def stock(folder):
    """Everything, made in `folder` → {(kind, id): Repository}."""
    made = {}
    for name, make in {
        "tiny-random": lambda place: language_model("tiny-random", place),
        "tiny-llama2": lambda place: language_model("tiny-llama2", place),
        "tiny-llama3": lambda place: language_model("tiny-llama3", place),
        "tiny-gemma2": lambda place: language_model("tiny-gemma2", place),
        "adapter": lambda place: adapter(folder / "tiny-random", place),
        "nli": entailment,
        "embedding": embedding,
    }.items():
        made[name] = folder / name
        made[name].mkdir()
        make(made[name])
    older = {path.name: path.read_bytes() for path in made["tiny-random"].iterdir()}
    older["generation_config.json"] = b'{"eos_token_id": 2, "temperature": 0.5, "do_sample": true}'
    llama3 = {path.name: path.read_bytes() for path in made["tiny-llama3"].iterdir()}
    models = {
        "tiny/llama": Repository(older, made["tiny-random"]),
        "tiny/adapter": Repository(made["adapter"]),
        "tiny/gated": Repository(made["tiny-random"], gated=True),
        # larger than what the client writes at a time, 10 MiB
        "tiny/large": Repository({"config.json": b"{}", "model.safetensors": random.Random(0).randbytes(12 * 2**20)}),
        "tiny/pickled": Repository({"config.json": older["config.json"], "pytorch_model.bin": b"no"}),
        "meta-llama/Llama-2-7b-chat-hf": Repository(made["tiny-llama2"], gated=True),
        "locuslab/tofu_ft_llama2-7b": Repository(made["tiny-llama2"]),
        "google/gemma-2-2b-it": Repository(made["tiny-gemma2"], gated=True),
        "meta-llama/Llama-3.2-1B-Instruct": Repository(llama3, gated=True),
        **{
            f"open-unlearning/tofu_Llama-3.2-1B-Instruct_{part}": Repository(llama3)
            for part in ("full", "retain90", "retain95", "retain99")
        },
        "sileod/deberta-v3-base-tasksource-nli": Repository(made["nli"]),
        "sentence-transformers/all-MiniLM-L12-v2": Repository(made["embedding"]),
    }
    datasets = {
        "zjunlp/KnowUnDo": Repository(knowundo()),
        "locuslab/TOFU": Repository(tofu()),
        "databricks/databricks-dolly-15k": Repository(dolly()),
        "gated/data": Repository({"privacy/unlearn.json": b"{}"}, gated=True),
    }
    return {
        **{("model", name): one for name, one in models.items()},
        **{("dataset", name): one for name, one in datasets.items()},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8017)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(stock(Path(folder)), args.port)
    print(f"serving at {server.endpoint}; token of an account that has accepted the licences: {GUEST}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
