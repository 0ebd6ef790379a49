"""What a run would take, before it takes anything: updates, tokens, GPU memory and hours of every step, and their
total.

`run_all.sh --plan` hands over the very command lines that it would run (a line each on standard input: the step's
name, its script and flags, apart by tabs), and the data is followed through them by its sizes. Nothing is run, loaded
or downloaded, and nothing but Python's standard library is needed. Estimates:
  work     N frozen weights with LoRA: 2N FLOPs a token forward and 2N back to the activations (full fine-tuning: 6N);
           a frozen reference model, once for each pair, 2N; an answer's token 2N; N counts every weight
  hours    the longer of two: the work at --tflops, and reading the weights once for each pass at --bandwidth (which is
           what small batches and generation wait for); without loading models, and as if every answer had
           --max-new-tokens
  memory   weights 2 bytes; each LoRA weight 16 (float32: itself, its gradient, Adam's two moments); with --full each
           weight 20 (16 in float32: itself, its gradient, in float32 a copy and the sum of its gradients, Adam's two
           moments) and the vanilla model's output layer once more where a method looks at that; for a token of the
           longest forward pass what autograd keeps (68 bytes × hidden size × layers, 100 with LoRA dropout; Gemma-2 100
           and 140), for an answer token 14 × vocabulary; merging weights 4; generation its key-value cache; 10^9 bytes
           are a GB
  tokens   4 characters each
  disk     models kept by --keep: an adapter's weights 4 bytes each, with --full the model's in the type that it has
"""

import argparse
import importlib
import importlib.abc
import importlib.machinery
import math
import runpy
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from lib.files import REPOSITORY, fail, read_json, read_rows
from lib.flags import Parser, positive
from lib.hub import REVISIONS, is_id

FOLDERS = (REPOSITORY / "scripts", REPOSITORY / "eval")
CHARACTERS = 4  # a token of English, Llama-2's tokenizer; SmolLM2's had 4.5 to 4.9 on KnowUnDo and TOFU
# bytes a token, layer and unit of hidden size that autograd keeps, without and with LoRA dropout: counted by
# saved_tensors_hooks on small models of these proportions in bfloat16
ACTIVATION = {"llama": (68, 100), "gemma2": (100, 140)}
# bytes an answer token and word of the vocabulary: bfloat16 and float32 logits, their gradients, the log-softmax
LOGITS = 14
NOT_PINNED = "main (pin it by --revision COMMIT in the preset's MODEL_FLAGS, of data in its DATA_FLAGS)"
MINILM = 22.7e6  # weights of the embedding model, and about as many of the entailment model
MODELS = {  # configurations as published: what is counted from a local folder's config.json
    "llama-2-7b-chat-hf": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    },
    "llama-3.1-8b-instruct": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "llama-3.2-1b-instruct": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "gemma-2-2b-it": {
        "model_type": "gemma2",
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 256000,
        "tie_word_embeddings": True,
    },
    "smollm2": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    "tiny-random": {
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1024,
    },
}


class Pairs(NamedTuple):
    """A set of question-answer pairs: how many, mean characters of question and of answer, characters of the longest
    pair.
    """

    count: int
    question: float
    answer: float
    longest: int

    def tokens(self):
        """Tokens of a pair, on average."""
        return (self.question + self.answer) / CHARACTERS


def refused(pairs):
    """The same questions with refusals for answers."""
    refusals = read_json(REPOSITORY / "data/refusals.json")
    return pairs._replace(answer=sum(map(len, refusals)) / len(refusals))


def measured(pairs):
    lengths = [(len(pair["question"]), len(pair["answer"])) for pair in pairs]
    return Pairs(len(pairs), *(sum(side) / len(pairs) for side in zip(*lengths)), max(map(sum, lengths)))


HUB = {  # the published sets' sizes and lengths, counted on copies of them
    "knowundo": {
        "forget_train": Pairs(400, 51, 155, 367),
        "forget_val": Pairs(110, 69, 186, 389),
        "retain_train": Pairs(441, 51, 156, 337),
        "retain_val": Pairs(108, 65, 189, 386),
        "full": Pairs(1059, 54, 162, 389),
        "full_without_forget": Pairs(549, 54, 162, 386),
    },
    "tofu": {
        split: {
            "forget_train": Pairs(forget, 69, 168, 499),
            "retain_train": Pairs(4000 - forget, 69, 168, 499),
            "full": Pairs(4000, 69, 168, 499),
            "full_without_forget": Pairs(4000 - forget, 69, 168, 499),
        }
        | {
            "forget_perturbed": Pairs(forget, 69, 168, 499),
            "retain_perturbed": Pairs(400, 63, 166, 434),
            "real_authors_perturbed": Pairs(100, 58, 14, 119),
            "world_facts_perturbed": Pairs(117, 56, 10, 140),
        }
        for split, forget in (("forget01", 40), ("forget05", 200), ("forget10", 400))
    },
}
REFERENCES = {
    "11_npo.py": 1,
    "13_dpo.py": 1,
    "18_rkld.py": 2,
    "22_altpo.py": 1,
    "23_undial.py": 1,
}  # frozen models that see the forget set


# ---------------------------------------------------------------- a script's flags


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for every installed package, so that a script's own parser can be asked without torch."""

    def __init__(self):
        self.modules = {}  # what was imported while packages were absent

    def find_spec(self, name, path, target=None):
        top = name.split(".")[0]
        ours = any((folder / top).is_dir() or (folder / f"{top}.py").is_file() for folder in FOLDERS)
        return (
            None
            if ours or top in sys.stdlib_module_names
            else importlib.machinery.ModuleSpec(name, self, is_package=True)
        )

    def create_module(self, spec):
        return mock.MagicMock(name=spec.name, __path__=[], __spec__=spec)

    def exec_module(self, module):
        pass


ABSENT = Absent()


def flags(script, words):
    """A command's flags over the script's defaults, as the script's own parser reads them: the script is run up to
    there.
    """

    class Parsed(Exception):
        pass

    def parse_args(parser, *_):
        parser.error = lambda message: fail(f"{script}: {message}")
        raise Parsed(vars(parse(parser)))

    parse, before = argparse.ArgumentParser.parse_args, dict(sys.modules)
    sys.modules.update({name: module for name, module in ABSENT.modules.items() if name not in before})
    sys.meta_path.insert(0, ABSENT)
    try:
        with (
            mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args),
            mock.patch.object(sys, "argv", [str(script), *words]),
            mock.patch.object(sys, "path", [str(Path(script).resolve().parent), *sys.path]),
            mock.patch.object(sys, "excepthook"),
        ):
            runpy.run_path(str(script), run_name="__main__")
    except Parsed as parsed:
        return parsed.args[0]
    finally:
        sys.meta_path.remove(ABSENT)
        ABSENT.modules |= {name: module for name, module in sys.modules.items() if name not in before}
        sys.modules.clear()
        sys.modules.update(before)
    fail(f"{script}: reads no flags")


def several(value):
    """What a flag with one value or more was given, as a list."""
    return value if isinstance(value, list) else [value] if value else []


# ---------------------------------------------------------------- the model


class Shape:
    """The sizes of a model: weights, those of a LoRA adapter, and what a token takes."""

    def __init__(self, name, params):
        config = Path(name, "config.json")
        known = MODELS.get(name.split("/")[-1].lower())  # not a part of it: SmolLM2-1.7B is another size than smollm2
        if params:  # of the shape of Llama-2-7b, smaller or larger
            scale = (params / 6.74e9) ** (1 / 3)
            known = {
                key: max(1, round(value * (scale if key != "vocab_size" else 1)))
                for key, value in MODELS["llama-2-7b-chat-hf"].items()
            }
        elif config.is_file():
            known = read_json(config)
        try:
            self.hidden, self.layers, self.vocabulary = (
                known[key] for key in ("hidden_size", "num_hidden_layers", "vocab_size")
            )
            heads, inner = known["num_attention_heads"], known["intermediate_size"]
        except (KeyError, TypeError):
            fail(
                f'the size of {name} is not known here: give its weights, as in --plan="--params 7e9", or a model '
                f"folder"
            )
        head = known.get("head_dim") or self.hidden // heads
        query, self.cache = heads * head, (known.get("num_key_value_heads") or heads) * head
        self.matrices = [
            (self.hidden, query),
            (self.hidden, self.cache),
            (self.hidden, self.cache),
            (query, self.hidden),
            (self.hidden, inner),
            (self.hidden, inner),
            (inner, self.hidden),
        ]  # q, k, v, o, gate, up, down
        self.kept = ACTIVATION.get(known.get("model_type"), ACTIVATION["llama"])
        embeddings = self.vocabulary * self.hidden * (1 if known.get("tie_word_embeddings") else 2)
        self.weights = params or embeddings + self.layers * sum(rows * columns for rows, columns in self.matrices)

    def adapter(self, rank):
        return rank * self.layers * sum(map(sum, self.matrices))


# ---------------------------------------------------------------- the steps


class Plan:
    """Follows models and data, by the paths under which the steps leave them, through the commands."""

    def __init__(self, params):
        self.params, self.pairs, self.shape, self.hub = params, {}, None, {}
        self.points, self.disk = {}, 0.0  # models kept, by the training's folder; bytes of them all
        self.full = set()  # folders of models whose weights were all trained

    def step(self, script, args):
        """One step → what it takes: dict with text for `model` and `data`, and `updates`, `tokens`, `memory` (bytes),
        `flops`, `reads` (passes over the weights); what is missing does not apply. None for a script that is not known
        here."""
        known = {
            "00_models.py": self.models,
            "01_data.py": self.data,
            "07_requests.py": self.requests,
            "03_augment.py": self.augment,
            "04_invert.py": self.invert,
            "20_uipe.py": self.uipe,
            "choose.py": self.choose,
            "30_generate.py": self.generate,
            "04_memorization.py": self.memorization,
            "03_tofu.py": self.tofu,
            "01_kfr_krr.py": self.judge,
            "02_linguistic.py": self.linguistic,
            "09_report.py": lambda _: {},
            "19_requests.py": lambda _: {},
        }
        if "lora_r" in args:
            return self.train(script, args)
        return known[script](args) if script in known else None

    def find(self, args, name):
        """The set that a flag names: a path, or a file in --data."""
        path = name if "/" in name else f"{args['data']}/{name}"
        return self.pairs.get(path) or fail(f"no step before this one makes {path}")

    def models(self, args):
        if args["out"].endswith("/minilm"):  # the embedding model, whatever its name
            return {"model": args["model"].split("/")[-1]}
        name = args["model"]
        if "/" in name and not Path(name).is_dir():
            if not is_id(name):
                fail(f"{name}: no such model folder")
            self.hub[name] = args.get("revision") or REVISIONS.get(name)
        if self.shape is None:  # a published vanilla or retrained model has the base model's size
            self.shape = Shape(name, self.params)
        return {
            "model": name.split("/")[-1],
            "data": f"{short(self.shape.weights)} weights, {2 * self.shape.weights / 1e9:.1f} GB in bfloat16",
        }

    def data(self, args):
        """The parts' sizes: people and a folder's as 01_data.py makes them, a hub's set by what is known of it."""
        name, split = args["data"], args.get("split") or "forget10"
        sys.path.insert(0, str(REPOSITORY / "scripts"))
        prepare = importlib.import_module("01_data")
        if name in HUB:
            parts = HUB[name].get(split) if name == "tofu" else HUB[name]
            if parts is None:
                fail(f"--split must be one of {', '.join(HUB['tofu'])}, not {split}")
            for side in ("forget", "retain"):
                train = parts[f"{side}_train"]
                parts = {f"{side}_tune": train, f"{side}_val": train, **parts}
            known = args.get("revision") or REVISIONS.get(prepare.HUB[name])
            self.hub[f"{name} {split}" if name == "tofu" else name] = known
        elif name != "people" and not Path(name).is_dir() and not Path(args["out"], "forget_train.jsonl").is_file():
            fail(f"the size of {name} is not known here: give a folder with its files as --data")
        else:
            beside = {}
            if name == "people":
                found = prepare.people(
                    args["persons"], int(args["forget_persons"]) if args.get("forget_persons") else None
                )[0]
            else:
                columns, split, folder = prepare.columns_of(args["columns"]), args.get("split"), Path(name)
                if not folder.is_dir():  # a hub's data set that is made already
                    columns, split, folder = {}, None, Path(args["out"])
                cutting = args["words"], args["overlap"]
                paths = prepare.from_folder(folder, split)
                found = prepare.load(paths, columns, *cutting)
                given = {part: paths[part] for part in prepare.BESIDE if paths.get(part)}
                pairs = lambda path: prepare.as_pairs(prepare.read_given(path, columns), False, *cutting)
                beside = {part: [row for _, row in pairs(path)] for part, path in given.items()}
            parts = {part: measured(pairs) for part, pairs in found.items()}
            parts |= {part: measured(rows) for part, rows in beside.items()}
            parts |= {
                name: measured(prepare.learnt(found, used))
                for name, used in (("full", prepare.PARTS), ("full_without_forget", prepare.PARTS[3:]))
            }
        self.pairs |= {f"{args['out']}/{part}.jsonl": pairs for part, pairs in parts.items()}
        count = {part: pairs.count for part, pairs in parts.items()}
        return {
            "model": Path(name).name,
            "data": f"train {count['forget_train']} forget + {count['retain_train']} retain, "
            f"ask {count['forget_val']} + {count['retain_val']}",
        }

    def requests(self, args):
        """The forget set in as many equal parts as there are folders, and what is kept while each is unlearned."""
        forget, retain, tuned, left, asked, kept = (
            self.find(args, f"{side}_{part}.jsonl")
            for part in ("train", "tune", "val")
            for side in ("forget", "retain")
        )
        count = len(args["out"])
        mixed = lambda one, other, at: one._replace(count=one.count + other.count * (count - at) // count)
        for at, out in enumerate(args["out"], 1):
            self.pairs |= {
                f"{out}/forget_train.jsonl": forget._replace(count=math.ceil(forget.count / count)),
                f"{out}/retain_train.jsonl": mixed(retain, forget, at),
                f"{out}/forget_tune.jsonl": tuned._replace(count=math.ceil(tuned.count / count)),
                f"{out}/retain_tune.jsonl": mixed(left, tuned, at),
                f"{out}/requested_val.jsonl": asked._replace(count=math.ceil(asked.count * at / count)),
                f"{out}/retain_val.jsonl": mixed(kept, asked, at),
            }
        return {"data": f"{forget.count} in {count} requests"}

    def augment(self, args):
        """Four variants (--kinds) of each question, some of them as completions too, and generic pairs; answers as
        long as the old ones.
        """
        forget = self.find(args, "forget_train.jsonl")
        ours = (
            REPOSITORY / "data/general_knowledge.jsonl"
        )  # what --generic would fetch is taken to be of the same lengths
        generic = measured(
            [row for _, row in read_rows(args["generic"] if Path(args["generic"] or "none").is_file() else ours)]
        )
        variants = (len(several(args.get("kinds"))) or 4) * forget.count
        completions = round(args["completion_share"] * variants)
        drawn = round(args["generic_ratio"] * (variants + completions))
        count = variants + completions + drawn
        question = (
            variants * forget.question + completions * args["completion"] * forget.answer + drawn * generic.question
        )
        answer = (
            variants * forget.answer + completions * (1 - args["completion"]) * forget.answer + drawn * generic.answer
        )
        self.pairs[args["out"]] = Pairs(count, question / count, answer / count, max(forget.longest, generic.longest))
        self.pairs[args["out"], "preferred"] = Pairs(variants, forget.question, forget.answer, forget.longest)
        return {"data": f"{forget.count} → {variants} variants + {completions} completions + {drawn} generic"}

    def invert(self, args):
        forget = self.find(args, args.get("file") or "forget_train.jsonl")
        self.pairs[args["out"]] = forget._replace(count=forget.count * args["count"])
        return {"data": f"{forget.count} → {args['count']} inverted facts each"}

    def train(self, script, args):
        """Training: the updates of lib/trainer.py, every forget and retain row forward and back, frozen models once."""
        shape, name = self.shape, Path(args["forget"]).stem
        if script == "02_finetune.py" and args["without_forget"]:
            name = "full_without_forget"
        forget = self.find(args, args["forget"] if name in args["forget"] else f"{name}.jsonl")
        columns = [forget]
        if script == "17_meow.py":  # of the inverted facts of each question
            columns = [forget._replace(count=self.find(args, "forget_train.jsonl").count * args["top_k"])]
        elif script == "22_altpo.py":  # alternatives beside the true answers
            columns = [self.find(args, args["alternatives"])] * 2
        elif script in ("14_idk.py", "29_idk_ap.py") or script == "13_dpo.py" and not args["prefer"]:
            columns = [refused(forget)] if script != "13_dpo.py" else [refused(forget), forget]
        elif script == "13_dpo.py":
            columns = [self.pairs[args["prefer"], "preferred"]] * 2
        rows, size = columns[0].count, args["batch"] * args["accumulation"]
        epoch = math.ceil(rows / size)
        updates = max(1, round(args["epochs"] * epoch))
        seen = updates // epoch * rows + min(updates % epoch * size, rows)  # rows of each column, and as many to retain
        kinds = args.get("retain") or "none"
        retain = [] if kinds == "none" else [self.find(args, args["retain_data"])]
        if script == "29_idk_ap.py":
            kept = self.find(args, args["retain_data"])
            retain = [kept, refused(kept)]
        tokens = seen * sum(pairs.tokens() for pairs in columns + retain)
        frozen = REFERENCES.get(script, int(args.get("loss") == "npo")) * sum(
            pairs.count * pairs.tokens() for pairs in columns
        )
        frozen += sum(pairs.count * pairs.tokens() for pairs in retain if "klr" in kinds or kinds == "states")
        part = 1  # of the blocks that are computed: RMU's up to the one that it steers
        if script == "27_rmu.py":
            part = (args["layer"] or max(1, round(7 / 32 * shape.layers))) / shape.layers
        longest = min(args["batch"], rows) * sum(
            min(args["max_length"], pairs.longest / CHARACTERS) for pairs in columns + retain
        )
        answers = min(args["batch"], rows) * sum(pairs.answer / CHARACTERS for pairs in columns + retain)
        wide = 4 if args["dtype"] == "float32" else 2
        if args["full"]:
            trained = (16 if wide == 4 else 20) * shape.weights
            trained += wide * shape.vocabulary * shape.hidden * (frozen > 0 and part == 1)
        else:
            trained = wide * shape.weights + 16 * shape.adapter(args["lora_r"])
        memory = (
            trained
            + LOGITS * answers * shape.vocabulary * (part == 1)
            + shape.kept[args["lora_dropout"] > 0 and not args["full"]] * longest * shape.hidden * shape.layers * part
        )
        if script == "02_finetune.py" and not args["adapter"] and not args["full"]:
            memory = max(memory, 4 * shape.weights + 16 * shape.adapter(args["lora_r"]))
        text = f"{rows} {name.removesuffix('_train') if script != '17_meow.py' else 'inverted'}" + (
            f" + {retain[0].count} retain" if retain else ""
        )
        if args["keep"] > 1 and script != "19_ta.py":
            size = wide * shape.weights if args["full"] else 4 * shape.adapter(args["lora_r"])
            self.points[args["out"]] = min(args["keep"], updates)
            self.disk += (args["keep"] - 1) * size
            text += f", keeps {args['keep']} points, {(args['keep'] - 1) * size / 1e9:.2g} GB"
        if args["full"]:
            text += ", all weights"
            self.full.add(args["out"])
        return {
            "model": Path(args["model"]).name,
            "data": text,
            "updates": updates,
            "tokens": tokens,
            "memory": memory,
            "flops": part * shape.weights * ((6 if args["full"] else 4) * tokens + 2 * frozen),
            "reads": part * 2 * math.ceil(seen / args["batch"]) * len(columns + retain),
        }

    def uipe(self, args):
        """At most: NLL of the retain pairs at 0, at the grid's six values of α and at each bisection."""
        retain = self.find(args, args["retain_data"])
        times = 7 + args["bisections"] if args["alpha"] == "auto" else 0
        tokens = times * retain.count * retain.tokens()
        return {
            "model": Path(args["model"]).name,
            "data": f"{retain.count} retain_tune × {times}",
            "tokens": tokens,
            "memory": (6 if args["model"] in self.full else 2) * self.shape.weights
            + LOGITS * args["batch"] * retain.answer / CHARACTERS * self.shape.vocabulary,
            "flops": 2 * self.shape.weights * tokens,
            "reads": times * math.ceil(retain.count / args["batch"]),
        }

    def written(self, model, text, prompts, prompt, new, batch, longest):
        """Generation of at most `new` tokens after each of `prompts` prompts of `prompt` tokens."""
        shape, rows = self.shape, min(batch, prompts)
        cache = 2 * 2 * shape.layers * shape.cache * rows * (longest + new)
        return {
            "model": Path(model).name,
            "data": text,
            "tokens": prompts * (prompt + new),
            "memory": 2 * shape.weights + cache,
            "flops": 2 * shape.weights * prompts * (prompt + new),
            "reads": math.ceil(prompts / batch) * new,
        }

    def generate(self, args):
        paths, models = several(args["questions"]), several(args["model"])
        asked, new = [self.find(args, path) for path in paths], args["max_new_tokens"]
        for out, path, pairs in (
            (out, path, pairs) for out in several(args["out"]) for path, pairs in zip(paths, asked)
        ):
            self.pairs[f"{out}/{Path(path).name}"] = Pairs(
                pairs.count * args["samples"], pairs.question, new * CHARACTERS, pairs.longest
            )
        questions, samples = sum(pairs.count for pairs in asked), args["samples"]
        text = " + ".join(
            f"{pairs.count} {Path(path).stem}" for path, pairs in zip(paths, asked)
        ) + f", {samples} answers each" * (samples > 1)
        return self.written(
            self.named(models),
            text,
            len(models) * questions * samples,
            sum(pairs.count * pairs.question for pairs in asked) / questions / CHARACTERS,
            new,
            args["batch"],
            max(pairs.longest for pairs in asked) / CHARACTERS,
        )

    def choose(self, args):
        """Every point of a training is asked the questions to tune on; what 30_generate.py's flags say counts."""
        models = self.points.get(args["points"], 1)
        self.full |= {args["out"]} if args["points"] in self.full else set()
        asked = {side: self.find(args, f"{side}_tune.jsonl") for side in ("forget", "retain")}
        words = [*args["generate"].split(), "--model", args["points"], "--out", args["answers"], "--questions"]
        how = flags(
            REPOSITORY / "scripts/30_generate.py", [*words, *(f"{args['data']}/{side}_tune.jsonl" for side in asked)]
        )
        prompts = models * how["samples"] * sum(pairs.count for pairs in asked.values())
        text = f"{models} points × {' + '.join(f'{pairs.count} {side}_tune' for side, pairs in asked.items())}"
        length = sum(pairs.count * pairs.question for pairs in asked.values())
        length /= CHARACTERS * sum(pairs.count for pairs in asked.values())
        longest = max(pairs.longest for pairs in asked.values()) / CHARACTERS
        return self.written(args["points"], text, prompts, length, how["max_new_tokens"], how["batch"], longest)

    def tofu(self, args):
        """Probabilities of the answer, its paraphrase and five false ones, and a greedy answer, of every row."""
        models, sets = several(args["model"]), ("forget", "retain", "real_authors", "world_facts")
        asked = [self.find(args, args[name]) for name in sets if args.get(name)]
        rows, new = len(models) * sum(pairs.count for pairs in asked), args["max_new_tokens"]
        length = len(models) * sum(pairs.count * pairs.question for pairs in asked) / rows / CHARACTERS
        takes = self.written(
            self.named(models),
            f"{rows} rows",
            rows,
            length,
            new,
            args["batch"],
            max(pairs.longest for pairs in asked) / CHARACTERS,
        )
        tokens = 7 * len(models) * sum(pairs.count * pairs.tokens() for pairs in asked)
        return takes | {"tokens": takes["tokens"] + tokens, "flops": takes["flops"] + 2 * self.shape.weights * tokens}

    def named(self, models):
        return models[0] if len(models) == 1 else f"{len(models)} models"

    def memorization(self, args):
        """MEMO: a prompt for every --window characters of each answer."""
        pairs, models = self.find(args, args["pairs"]), several(args["model"])
        prompts = len(models) * pairs.count * math.ceil(pairs.answer / args["window"])
        return self.written(
            self.named(models),
            f"{pairs.count} answers, {prompts} prompts",
            prompts,
            (pairs.question + pairs.answer / 2) / CHARACTERS,
            args["max_new_tokens"],
            args["batch"],
            pairs.longest / CHARACTERS,
        )

    def judge(self, args):
        """Sentence embeddings and entailment, by two models of MiniLM's size."""
        answers = [self.find(args, path) for side in ("forget", "retain") for path in several(args[side])]
        tokens = 2 * sum(pairs.count * pairs.tokens() for pairs in answers)
        return {
            "model": "minilm, nli",
            "data": f"{sum(pairs.count for pairs in answers)} answers",
            "tokens": tokens,
            "memory": 8 * MINILM,
            "flops": 2 * MINILM * tokens,
            "reads": 0,
        }

    def linguistic(self, args):
        """Perplexity of every answer under the base model."""
        answers = [self.find(args, path) for path in several(args["answers"])]
        count, tokens = (
            sum(values) for values in zip(*((pairs.count, pairs.count * pairs.tokens()) for pairs in answers))
        )
        return {
            "model": Path(args["model"]).name,
            "data": f"{count} answers",
            "tokens": tokens,
            "flops": 2 * self.shape.weights * tokens,
            "memory": 2 * self.shape.weights + LOGITS * args["batch"] * tokens / count * self.shape.vocabulary,
            "reads": sum(math.ceil(pairs.count / args["batch"]) for pairs in answers),
        }


def short(value):
    """12345678 as 12.3M; nothing for None."""
    if value is None:
        return ""
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.0f}"


if __name__ == "__main__":
    parser = Parser(__doc__)
    parser.add_argument(
        "--tflops",
        type=positive,
        default=200.0,
        help="10^12 FLOPs a second, sustained (default: 200; an A100 peaks at 312)",
    )
    parser.add_argument(
        "--bandwidth",
        type=positive,
        default=1.0,
        help="10^12 bytes of weights read a second (default: 1; an A100 peaks at 1.6 to 2)",
    )
    parser.add_argument(
        "--params", type=positive, help="weights of the model, where neither its name nor a folder tells"
    )
    args = parser.parse_args()

    plan, rows, unknown, total = (
        Plan(args.params),
        [("step", "model", "data", "updates", "tokens", "GPU GB", "hours")],
        [],
        {},
    )
    for line in sys.stdin.read().strip().splitlines():
        name, script, *words = line.split("\t")
        takes = plan.step(Path(script).name, flags(script, words))
        if takes is None:
            unknown.append(name)
            rows.append((name, "", f"{script}: not estimated", "", "", "", ""))
            continue
        hours = None
        if "flops" in takes:
            weights = plan.shape.weights * 2
            hours = (
                max(takes["flops"] / (args.tflops * 1e12), takes["reads"] * weights / (args.bandwidth * 1e12)) / 3600
            )
        for key, value in (
            ("updates", takes.get("updates")),
            ("tokens", takes.get("tokens")),
            ("flops", takes.get("flops")),
            ("hours", hours),
        ):
            total[key] = total.get(key, 0) + (value or 0)
        total["memory"] = max(total.get("memory", 0), takes.get("memory", 0))
        rows.append(
            (
                name,
                takes.get("model", ""),
                takes.get("data", ""),
                str(takes.get("updates", "")),
                short(takes.get("tokens")),
                f"{takes['memory'] / 1e9:.1f}" if "memory" in takes else "",
                "" if hours is None else f"{hours:.3f}",
            )
        )
    if len(rows) == 1:
        fail("no step on standard input; this is what `bash run_all.sh --plan` calls")
    rows.append(
        (
            f"total: {len(rows) - 1} steps",
            "",
            f"{total['flops']:.2g} FLOPs",
            str(total["updates"]),
            short(total["tokens"]),
            f"{total['memory'] / 1e9:.1f}",
            f"{total['hours']:.3f}",
        )
    )
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    for number, row in enumerate(rows):
        if number in (1, len(rows) - 1):
            print("─" * (sum(widths) + 12))
        print(
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths))
            ).rstrip()
        )
    print(
        f"\nHours on one GPU that sustains {args.tflops:g} TFLOP/s and reads {args.bandwidth:g} TB/s; GPU GB with "
        f"weights in bfloat16. An estimate, "
        "by the rules\nthat `python scripts/tools/plan.py --help` gives; steps that are done already are counted too."
        + (f"\nDisk for the points kept on the way of all trainings: {plan.disk / 1e9:.2g} GB." if plan.disk else "")
        + (f"\nNot estimated: {', '.join(unknown)}." if unknown else "")
        + "".join(f"\nFrom the hub: {name}, revision {revision or NOT_PINNED}." for name, revision in plan.hub.items())
    )
