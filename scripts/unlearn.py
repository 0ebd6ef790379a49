"""What every training script needs and no reader wants to see twice: flags, models, batches, retain losses, the optimiser.

A method script keeps its loop and its loss in sight and calls four things of this module:
`arguments` (flags), `start` (model and batches), `trainer.step` (one update), `trainer.finish` (the model folder).
"""
import argparse
import contextlib
import itertools
import json
import math
import os
import random
import shutil
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers.modeling_outputs import BaseModelOutputWithPast

import lora
import parallel
from files import REPOSITORY, STARTED, fail, progress, read_json, read_pairs, record, replace_folder, write_json

warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing")  # peft asks transformers in an old way

# ---------------------------------------------------------------- flags

COMMON = {  # name: (default, help)
    "data": ("work/people-smollm2/data", "folder made by 01_data.py"),
    "forget": ("forget_train.jsonl", "pairs to unlearn: a file, or the name of one in --data"),
    "retain_data": ("retain_train.jsonl", "pairs to keep: a file, or the name of one in --data"),
    "lr": (1e-4, "peak learning rate"),
    "epochs": (5.0, "passes over the forget pairs"),
    "batch": (8, "pairs in one forward pass, forget and retain each"),
    "accumulation": (1, "forward passes to one update"),
    "warmup": (0.1, "share of the updates in which the rate rises; then it falls linearly to 0"),
    "clip": (1.0, "largest gradient norm"),
    "lora_r": (8, "LoRA rank"),
    "lora_alpha": (16, "LoRA alpha"),
    "lora_dropout": (0.1, "LoRA dropout"),
    "max_length": (512, "tokens kept of question and answer"),
    "dtype": ("auto", "frozen weights: bfloat16, float16, float32; auto: bfloat16 where the processor computes in it and --model is no adapter"),
    "checkpoint_every": (20, "updates between checkpoints"),
    "probes": (4, "times that the NLL of a few validation pairs is taken on the way, for the report's curves; 0: never"),
    "seed": (0, "seed of order, dropout and new weights"),
    "shard": parallel.SHARD,
}


def arguments(doc, **flags):
    """Parses a training script's flags.

    Args:
        doc: the script's docstring, shown by --help.
        flags: `name=default` changes a common default; `name=(default, help)` or `(default, help, choices)` adds a flag.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--model", required=True, help="model folder (or hub id) that training starts from")
    parser.add_argument("--out", required=True, help="folder to write the trained model to")
    for name, spec in {**COMMON, **flags}.items():
        spec = spec if isinstance(spec, tuple) else (spec, COMMON[name][1])
        default, text, choices = (*spec, None)[:3]
        option, shown = "--" + name.replace("_", "-"), f"{text} (default: {default})"
        if isinstance(default, bool):
            parser.add_argument(option, action="store_true", help=text)
        else:
            parser.add_argument(option, type=type(default), default=default, choices=choices, help=shown)
    args = parser.parse_args()
    for name in ("lr", "epochs", "batch", "accumulation", "clip", "lora_r", "max_length", "checkpoint_every", "beta", "top_k"):
        if not getattr(args, name, 1) > 0:
            fail(f"--{name.replace('_', '-')} must be above 0, not {getattr(args, name)}")
    for name, most in (("warmup", 1), ("lora_dropout", 1), ("percentile", 100)):
        if not 0 <= getattr(args, name, 0) <= most:
            fail(f"--{name.replace('_', '-')} must lie from 0 to {most}, not {getattr(args, name)}")
    parallel.begin()
    return args


# ---------------------------------------------------------------- models

def pick_device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(name):
    """`auto` is bfloat16 where the hardware multiplies in it; elsewhere it would be emulated, 4× slower than float32."""
    if name != "auto":
        if name not in ("bfloat16", "float16", "float32"):
            fail(f"--dtype must be auto, bfloat16, float16 or float32, not {name}")
        return getattr(torch, name)
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        fast = able.get("amx_bf16") or able.get("avx512_bf16")
    return torch.bfloat16 if fast else torch.float32


def load_model(path, dtype="auto", shard="ddp"):
    """Loads a model folder (full weights, or a PEFT adapter with its base) or a hub id, safetensors only.

    Returns:
        (model on the device, with several processes shared out as `shard` says; tokenizer). The tokenizer's chat template is the
        model's prompt format.
    """
    model, tokenizer = _read_model(path, dtype)
    return parallel.place(model, pick_device(), shard), tokenizer


def base_model(path):
    """Whose weights are loaded for a model folder or hub id: an adapter's base, or its own."""
    adapter = Path(path, "adapter_config.json")
    if not adapter.is_file():
        return str(path)
    settings = read_json(adapter)
    base = settings.get("base_model_name_or_path") if isinstance(settings, dict) else None
    return base if base and isinstance(base, str) else fail(f"{adapter}: names no base model (base_model_name_or_path)")


def _read_model(path, dtype):
    """(model in host memory, tokenizer): each of several processes reads all of it there."""
    transformers.utils.logging.disable_progress_bar()
    base = base_model(path)
    for name in {str(path), base}:
        if (os.sep in name or name.startswith(".")) and name.count("/") != 1 and not Path(name).is_dir():
            fail(f"{name}: no such model folder (make it first, or give another --model)")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=False)  # None would ask on standard input
        model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=pick_dtype(dtype), use_safetensors=True,
                                                                  trust_remote_code=False)
        if base != str(path):
            model = lora.hasten(PeftModel.from_pretrained(model, path))
    except (OSError, ValueError, KeyError) as error:
        fail(f"cannot load a model from {path}: {str(error).strip().splitlines()[0]}")
    if tokenizer.chat_template is None:
        fail(f"{path}: the tokenizer has no chat template; make the folder with 00_models.py --chat-template NAME")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    # a prompt's last position alone, as `generate` asks for it: from a slice a CPU's matmul copies the whole matrix for every row
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    return model, tokenizer


def prompt_text(tokenizer, question):
    """The text the model sees before its answer, in the format that its own folder carries."""
    return tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False,
                                         add_generation_prompt=True)


def encode(tokenizer, pair, max_length=512):
    """Tokens of one pair.

    Returns:
        (token ids, number of prompt tokens); the ids end with the end-of-sequence token unless `max_length` cuts them.
    """
    prompt = prompt_text(tokenizer, pair["question"])
    gap = "" if prompt[-1:].isspace() else " "  # "[INST] question [/INST]" leaves the space to the answer
    encoded = tokenizer(prompt + gap + pair["answer"], add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded["input_ids"] + [tokenizer.eos_token_id]
    prompt_tokens = sum(end <= len(prompt) for _, end in encoded["offset_mapping"])
    if prompt_tokens >= max_length:
        fail(f"a question of {prompt_tokens} tokens leaves no room for an answer: raise --max-length {max_length} "
             f"({pair['question'][:60]!r})")
    return ids[:max_length], prompt_tokens


# ---------------------------------------------------------------- batches

@dataclass
class Batch:
    """Right-padded pairs. Causal attention never looks right, so no padding mask is needed.

    input_ids: (rows, length) token ids. answer: (rows, length) bool, true on answer tokens (question and padding false).
    step_tokens, step_rows: answer tokens and rows of the whole accumulated batch that this one is a part of; means
    divide by them, so that the parts of an accumulated batch, in one process or several, add up to its mean. Infinite
    for a part that is not to count.
    """
    input_ids: torch.Tensor
    answer: torch.Tensor
    step_tokens: int
    step_rows: int

    def token_mean(self, values):
        """values: (answer tokens,) → scalar, the mean over the accumulated batch's answer tokens."""
        return values.sum() / self.step_tokens

    def row_mean(self, values):
        """values: (rows,) → scalar, the mean over the accumulated batch's rows."""
        return values.sum() / self.step_rows


def collate(items, pad, step_tokens=None, step_rows=None, device="cpu"):
    """items: list of (ids, prompt tokens) as `encode` returns them → Batch."""
    length = max(len(ids) for ids, _ in items)
    input_ids = torch.full((len(items), length), pad)
    answer = torch.zeros((len(items), length), dtype=torch.bool)
    for row, (ids, prompt) in enumerate(items):
        input_ids[row, :len(ids)] = torch.tensor(ids)
        answer[row, prompt:len(ids)] = True
    return Batch(input_ids.to(device), answer.to(device), step_tokens or int(answer.sum()), step_rows or len(items))


def epoch_order(lengths, size, seed, epoch):
    """Shuffled groups of `size` row numbers, rows of like length together (less padding). A pure function of its arguments."""
    rng = random.Random(f"{seed} {epoch}")
    rows = list(range(len(lengths)))
    rng.shuffle(rows)
    pool = 8 * size  # sorted within pools only: the order stays random
    rows = [row for at in range(0, len(rows), pool) for row in sorted(rows[at:at + pool], key=lengths.__getitem__)]
    groups = [rows[at:at + size] for at in range(0, len(rows), size)]
    rng.shuffle(groups)
    return groups


def accumulated(rows, size, seed):
    """Endless accumulated batches, lists of at most `size` rows, epoch after epoch. A row is a list of encoded pairs."""
    lengths = [sum(len(ids) for ids, _ in row) for row in rows]
    for epoch in itertools.count():
        for group in epoch_order(lengths, size, seed, epoch):
            yield [rows[at] for at in group]


def _parts(rows, batch, pad, device):
    """Cuts one accumulated batch into forward passes of `batch` rows: a Batch each, a tuple of them for rows of several pairs.

    Of several processes each gets its share of the rows, and as many passes as the others: one that has no row left takes the
    first once more, and does not count it.
    """
    columns, passes = [], -(-len(rows) // (batch * parallel.count))
    for column in zip(*rows):
        tokens, mine = sum(len(ids) - prompt for ids, prompt in column), column[parallel.rank::parallel.count]
        columns.append([collate(mine[at:at + batch], pad, tokens, len(rows), device) if at < len(mine)
                        else collate(column[:1], pad, math.inf, math.inf, device) for at in range(0, passes * batch, batch)])
    return columns[0] if len(columns) == 1 else list(zip(*columns))


# ---------------------------------------------------------------- log-probabilities and retain losses

def answer_logits(model, batch):
    """Logits that predict the answer tokens: (answer tokens, vocabulary), float32.

    The output layer sees only the positions before answer tokens: the vocabulary is the widest matrix of a small model.
    """
    positions = batch.answer[:, 1:]
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :-1][positions],))
    try:
        return model(input_ids=batch.input_ids, use_cache=False).logits.float()
    finally:
        hook.remove()


def answer_tokens(batch):
    """(answer tokens,) the token ids that `answer_logits` predicts, in its order."""
    return batch.input_ids[:, 1:][batch.answer[:, 1:]]


def answer_logprob(model, batch):
    """log p(answer token | question, answer so far) in nats: (answer tokens,)."""
    return -F.cross_entropy(answer_logits(model, batch), answer_tokens(batch), reduction="none")


def sequence_logprob(model, batch):
    """log p(answer | question) in nats, summed over answer tokens: (rows,)."""
    logprob, rows = answer_logprob(model, batch), batch.answer[:, 1:].nonzero()[:, 0]
    return logprob.new_zeros(len(batch.input_ids)).index_add(0, rows, logprob)


def nll(model, batch):
    """Mean negative log-likelihood of the answer tokens, in nats a token: scalar."""
    return -batch.token_mean(answer_logprob(model, batch))


@contextlib.contextmanager
def _weights_of(model, adapter):
    """Within it the model computes with another adapter, or with none, and without dropout."""
    training = model.training
    model.eval()
    try:
        if adapter is None:
            with model.disable_adapter():
                yield
        else:
            model.set_adapter(adapter)
            yield
    finally:
        if adapter is not None:
            model.set_adapter("default")
        model.train(training)


def _remember(model, rows, adapter):
    """Keeps a frozen model's hidden states before the answer tokens of rows, (ids, prompt tokens) each, in model.kept_states.

    Always the same batches for the same rows: padding moves a number's last bits, and a continued run must end as an unbroken one.
    """
    rows = sorted(rows, key=lambda row: (len(row[0]), row))
    for at in range(0, len(rows), 8):
        part = rows[at:at + 8]
        batch = collate(part, 0, device=next(model.parameters()).device)
        states = model.get_base_model().get_decoder()(input_ids=batch.input_ids, use_cache=False).last_hidden_state
        for state, (ids, prompt) in zip(states, part, strict=True):
            model.kept_states[adapter, prompt, tuple(ids)] = state[prompt - 1:len(ids) - 1].clone()


def reference(function, model, batch, adapter=None):
    """`function(model, batch)` under the vanilla model: the same weights with the adapter off, no second copy.

    With the name of a loaded `adapter`, under that one. A frozen model's hidden states never change: those of a training set are
    computed at the first call and kept in memory (hidden size × answer tokens: 9 MB for 4,000 tokens of SmolLM2-135M in float32,
    33 MB of Llama-2-7b in bfloat16).
    """
    kept, positions = model.__dict__.setdefault("kept_states", {}), batch.answer[:, 1:]
    rows = [(ids[:int(mask.nonzero()[-1]) + 1].tolist(), int(mask.nonzero()[0])) for ids, mask in zip(batch.input_ids, batch.answer)]
    keys = [(adapter, prompt, tuple(ids)) for ids, prompt in rows]
    decoder = model.get_base_model().get_decoder()
    with torch.no_grad(), _weights_of(model, adapter):
        for row, key in zip(rows, keys):
            if key not in kept:  # the whole training set that it is from, or the row alone
                _remember(model, next((whole for whole in getattr(model, "training_sets", []) if row in whole), [row]), adapter)
        states = torch.cat([kept[key] for key in keys])
        hidden = states.new_zeros(*batch.input_ids.shape, states.shape[-1])
        hidden[:, :-1][positions] = states
        compute, decoder.forward = decoder.forward, lambda **_: BaseModelOutputWithPast(last_hidden_state=hidden)
        try:  # from here on the decoder recalls; the output layer still computes
            return function(model, batch)
        finally:
            decoder.forward = compute


def log_ratio(model, batch):
    """log π_θ(answer | question) - log π_vanilla(answer | question), in nats: (rows,)."""
    return sequence_logprob(model, batch) - reference(sequence_logprob, model, batch)


FORGET_FLAGS = {
    "loss": ("ga", "forget loss: gradient ascent (ga) or negative preference optimisation (npo)", ("ga", "npo")),
    "beta": (0.1, "inverse temperature β of npo"),
}
RETAIN = ("none", "gdr", "klr", "gdr+klr")
RETAIN_FLAGS = {
    "retain": ("gdr", "retain loss: NLL (gdr), KL to the vanilla model (klr), both, or none", RETAIN),
    "kl": ("forward", "direction of klr: forward KL(vanilla‖model), the released code's; reverse, ReLearn's Eq. 8",
           ("forward", "reverse")),
}


def retain_loss(model, batch, args):
    """The retain term(s) named by --retain, on the retain batch: scalar (ReLearn Eq. 7 and 8).

    gdr: NLL. klr: KL between vanilla and current next-token distributions, a mean over answer tokens.
    """
    if args.retain == "none":
        return 0.0
    logp, loss = F.log_softmax(answer_logits(model, batch), -1), 0.0
    if "gdr" in args.retain:
        loss = loss + batch.token_mean(F.nll_loss(logp, answer_tokens(batch), reduction="none"))
    if "klr" in args.retain:
        vanilla = F.log_softmax(reference(answer_logits, model, batch), -1)
        p, q = (vanilla, logp) if args.kl == "forward" else (logp, vanilla)
        loss = loss + batch.token_mean((p.exp() * (p - q)).sum(-1))
    return loss


# ---------------------------------------------------------------- training

def start(args, *columns, files=()):
    """Loads the model, puts a fresh LoRA adapter on it and prepares the batches.

    Args:
        columns: lists of pairs to train on in place of the forget file's, row by row beside each other: chosen and rejected.
        files: further files that the run depends on, for its record.
    Returns:
        (model, trainer). Iterating the trainer yields (forget Batch, or a tuple with one for each of `columns`; retain Batch,
        or None without a retain loss); it continues from the checkpoint of an interrupted run with the same settings and data.
    """
    files = [data_file(args, args.forget), *files]
    columns = columns or [read_pairs(files[0])]
    if not all(columns):
        fail(f"{files[0]}: holds nothing to train on")
    retain = []
    if getattr(args, "retain", "none") != "none":
        files.append(data_file(args, args.retain_data))
        retain = read_pairs(files[-1])
    model, tokenizer = _adapted(args)
    model = parallel.place(model, pick_device(), args.shard)
    coded = lambda pairs: [encode(tokenizer, pair, args.max_length) for pair in pairs]
    *columns, retain = model.training_sets = [*map(coded, columns), coded(retain)]
    if parallel.sharded(model):  # all processes remember the same rows at the same time
        model.training_sets = [sum(model.training_sets, [])]
    return model, Trainer(args, model, tokenizer, list(zip(*columns, strict=True)), [(row,) for row in retain], files)


def _dtype(args):
    """--dtype, of which auto is float32 for an adapter that is unlearned further: bfloat16 weights would round its small updates away."""
    return "float32" if args.dtype == "auto" and Path(args.model, "adapter_config.json").is_file() else args.dtype


def _adapted(args):
    """(the model that training starts from with a fresh LoRA adapter, in host memory; tokenizer)."""
    torch.manual_seed(args.seed)
    model, tokenizer = _read_model(args.model, _dtype(args))
    if hasattr(model, "peft_config"):  # an unlearned model is unlearned further: its adapter joins the weights
        model = model.merge_and_unload()
    settings = LoraConfig(r=args.lora_r, lora_alpha=args.lora_alpha, lora_dropout=args.lora_dropout, target_modules="all-linear",
                          task_type="CAUSAL_LM")
    return lora.hasten(get_peft_model(model, settings)), tokenizer


def refusals(pairs, seed):
    """The same questions, each with a refusal of data/refusals.json for an answer; all are used before one comes twice."""
    texts, rng = read_json(REPOSITORY / "data/refusals.json"), random.Random(seed)
    drawn = [text for _ in range(-(-len(pairs) // len(texts))) for text in rng.sample(texts, len(texts))]
    return [{**pair, "answer": text} for pair, text in zip(pairs, drawn)]


def adapter_file(folder):
    """The weights of a finished adapter's folder."""
    path = Path(folder, "adapter_model.safetensors")
    if not folder or not path.is_file():
        fail(f"{folder or '--augmented'}: no adapter folder; make it with 02_finetune.py --adapter")
    return path


def scale_adapter(model, factor):
    """Multiplies the adapter's change of the weights, B·A of every matrix, by `factor`."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B.default" in name:
                parameter.mul_(factor)


def save_model(model, tokenizer, folder):
    """Writes a model folder: full weights, or only the adapter that was trained."""
    model.save_pretrained(folder, **({"selected_adapters": ["default"]} if hasattr(model, "peft_config") else {}))
    tokenizer.save_pretrained(folder)


def data_file(args, name):
    """A flag names a file, or one in --data."""
    return Path(name) if os.sep in name or Path(name).is_file() else Path(args.data) / name


class Trainer:
    """Order, optimiser, accumulation, progress bar, checkpoints and the finished folder of one training run.

    Several processes (parallel.py) make the updates of one, to rounding, and continue each other's checkpoints; their dropout differs.
    """

    def __init__(self, args, model, tokenizer, forget, retain, files):
        self.args, self.model, self.tokenizer, self.forget, self.retain = args, model, tokenizer, forget, retain
        self.record = {**record(args, files), "processes": parallel.count}
        self.out, self.partial = Path(args.out), Path(f"{Path(args.out)}.partial")  # --out may end in a slash
        size = args.batch * args.accumulation
        self.steps = max(1, round(args.epochs * math.ceil(len(self.forget) / size)))
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, lr=args.lr)
        warm = max(1, round(args.warmup * self.steps))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min((step + 1) / warm, (self.steps - step) / max(1, self.steps - warm + 1)))
        self.done, self.log, self.probes, self.loss, self.waiting = 0, [], [], 0.0, 0
        self.began = STARTED
        self.gradients = None  # those of two losses, apart: for `combine`
        self.probed = self._validation_pairs() if args.probes else {}
        self.settings = self._settings()  # now: --model may be made again while this trains
        self._resume()
        if not parallel.first:  # dropout of its own
            torch.manual_seed(random.Random(f"{args.seed} {parallel.rank} {self.done}").getrandbits(63))

    def _settings(self):
        """What a checkpoint must share with a run that continues it: method, flags, data, and the weights that training starts from."""
        weights = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for folder in (self.args.model, base_model(self.args.model))
                   for path in sorted(Path(folder).glob("*.safetensors"))]
        return json.dumps([self.record["script"], {**vars(self.args), "checkpoint_every": 0, "out": "", "shard": ""}, self.record["data"],
                           weights], sort_keys=True)

    def _validation_pairs(self):
        """{"forget_nll", "retain_nll": Batch} of up to eight pairs each, from all over the files in --data; nothing where they are not."""
        found, device = {}, next(self.model.parameters()).device
        for side in ("forget", "retain"):
            path = Path(self.args.data) / f"{side}_val.jsonl"
            if path.is_file():
                pairs = read_pairs(path)
                pairs = pairs[::-(-len(pairs) // 8)]
                found[f"{side}_nll"] = collate([encode(self.tokenizer, pair, self.args.max_length) for pair in pairs],
                                               self.tokenizer.pad_token_id, device=device)
        return found

    def probe(self):
        """At the beginning, the end and evenly between: nats a token of the validation pairs, without dropout."""
        wanted = {round(self.steps * at / self.args.probes) for at in range(self.args.probes + 1)} if self.probed else ()
        if self.done in wanted:
            self.model.eval()
            with torch.no_grad():
                self.probes.append({"update": self.done, **{name: nll(self.model, batch).item() for name, batch in self.probed.items()}})
            self.model.train()

    def _resume(self):
        """Continues from the checkpoint of this very run. Without one, what another run left in the folder is deleted."""
        checkpoint, state = self.partial / "checkpoint.pt", None
        if checkpoint.is_file():
            try:
                state = torch.load(checkpoint, weights_only=True, map_location="cpu")
            except Exception as error:
                fail(f"{checkpoint}: cannot be read ({error}); delete it to start again")
            if state["settings"] != self.settings:
                parallel.say(f"{checkpoint}: made by another method, or with other settings, data or model; starting afresh")
                state = None
        if state is None:
            parallel.gathered({})  # all processes have looked
            if parallel.first:
                shutil.rmtree(self.partial, ignore_errors=True)
            return
        self.done, self.log, self.probes = state["step"], state["log"], state["probes"]
        self.began -= state["seconds"]
        for parameter, value in zip(self.parameters, state["parameters"], strict=True):
            parameter.data.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["rng"])
        if torch.cuda.is_available() and "cuda_rng" in state:  # not in one that was made without a GPU
            torch.cuda.set_rng_state(state["cuda_rng"])
        parallel.say(f"continuing at update {self.done} of {self.steps}")

    def _checkpoint(self):
        self.partial.mkdir(parents=True, exist_ok=True)
        state = {"settings": self.settings, "step": self.done, "log": self.log, "probes": self.probes, "rng": torch.get_rng_state(),
                 "seconds": time.time() - self.began,
                 "parameters": [parameter.detach().cpu() for parameter in self.parameters],
                 "optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}
        if torch.cuda.is_available():
            state["cuda_rng"] = torch.cuda.get_rng_state()
        torch.save(state, self.partial / "checkpoint.tmp")
        (self.partial / "checkpoint.tmp").replace(self.partial / "checkpoint.pt")

    def __iter__(self):
        args, pad, device = self.args, self.tokenizer.pad_token_id, next(self.model.parameters()).device
        size = args.batch * args.accumulation
        forget = accumulated(self.forget, size, args.seed)
        retain = itertools.chain.from_iterable(accumulated(self.retain, size, args.seed + 1)) if self.retain else ()
        groups = ((items, list(itertools.islice(retain, len(items)))) for items in forget)  # as many rows of each
        self.model.train()
        self.bar = progress(total=self.steps, initial=self.done, desc=self.out.name, unit="update",
                            disable=not parallel.first)
        with contextlib.closing(self.bar):
            if not self.done:
                self.probe()
            for forget_rows, retain_rows in itertools.islice(groups, self.done, self.steps):
                parts = _parts(forget_rows, args.batch, pad, device)
                self.waiting = len(parts)
                yield from itertools.zip_longest(parts, _parts(retain_rows, args.batch, pad, device))

    def step(self, loss, rest=None, combine=None, weights=(1.0, 1.0)):
        """Adds one forward pass's loss to the gradient; updates the weights when its accumulated batch is complete.

        With `combine`, the gradients of `loss` and of `rest` are gathered apart (each a list with one for each trained matrix),
        and `combine(gradients, rest_gradients)` gives the list to update with. `weights`: of the two in the logged loss.
        """
        total = sum(weight * (part.item() if torch.is_tensor(part) else part or 0.0) for weight, part in zip(weights, (loss, rest)))
        if not math.isfinite(total):
            fail(f"{self.args.out}: the loss is {total} at update {self.done + 1}: use a lower --lr or fewer --epochs")
        if combine is None:
            loss.backward()
        else:
            self.gradients = self.gradients or [[torch.zeros_like(parameter) for parameter in self.parameters] for _ in range(2)]
            for part, gathered in zip((loss, rest), self.gradients, strict=True):
                if torch.is_tensor(part):
                    part.backward()
                    for parameter, gradient in zip(self.parameters, gathered, strict=True):
                        gradient.add_(parameter.grad)
                        parameter.grad = None
        self.loss, self.waiting = self.loss + total, self.waiting - 1
        if self.waiting:
            return
        loss = torch.tensor(self.loss, dtype=torch.float64, device=self.parameters[0].device)
        parallel.add_up([loss])
        self.loss = loss.item()
        for gathered in self.gradients or [[parameter.grad for parameter in self.parameters]]:
            parallel.add_up(gathered)
        if combine is not None:
            for parameter, gradient in zip(self.parameters, combine(*self.gradients), strict=True):
                parameter.grad = gradient
            self.gradients = None
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.args.clip)
        self.log.append({"update": self.done + 1, "loss": self.loss, "lr": self.schedule.get_last_lr()[0],
                         "gradient_norm": norm.item()})
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        self.bar.set_postfix_str(f"loss {self.loss:.4f}", refresh=False)
        self.bar.update()
        self.loss = 0.0
        self.probe()
        if parallel.first and self.done % self.args.checkpoint_every == 0 and self.done < self.steps:
            self._checkpoint()

    def finish(self, merge=False):
        """Writes the model folder: the adapter, or with `merge` full weights; then puts it in place under its name."""
        parallel.end()
        if not parallel.first:
            return
        self.partial.mkdir(parents=True, exist_ok=True)
        model = self.model
        merge = merge or Path(self.args.model, "adapter_config.json").is_file()  # an adapter stands on the weights that it was trained on
        if merge and parallel.sharded(model):  # the frozen weights are those on disk: read whole once more
            model, _ = _adapted(self.args)
            for parameter, trained in zip((one for one in model.parameters() if one.requires_grad), self.parameters, strict=True):
                parameter.data.copy_(trained)
        if merge:  # added in float32, then rounded once to the type of the frozen weights
            model = model.float().merge_and_unload().to(pick_dtype(_dtype(self.args)))
        save_model(model, self.tokenizer, self.partial)
        self.record["seconds"] = round(time.time() - self.began, 1)
        write_json(self.partial / "training.json", {**self.record, "updates": self.log, "probes": self.probes})
        for name in ("checkpoint.pt", "checkpoint.tmp"):  # not before all is written: a full disk must not cost the training
            (self.partial / name).unlink(missing_ok=True)
        replace_folder(self.partial, self.out)
        print(f"wrote {self.out}", file=sys.stderr)
