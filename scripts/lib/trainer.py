"""One training run: model and batches, the optimiser, checkpoints, points kept on the way, the finished folder.

A method script keeps its loop and its loss in sight and calls `start` (model and batches), `trainer.update` (after the
backward pass) and `trainer.finish` (the model folder).
"""

import contextlib
import itertools
import json
import math
import random
import shutil
import sys
import time
from pathlib import Path

from lib import lora, parallel
from lib.batches import accumulated, collate, parts, whole_row
from lib.files import (
    FROM_HUB,
    REPOSITORY,
    STARTED,
    begin_folder,
    fail,
    file_of_data,
    new_folder,
    progress,
    read_json,
    real_path,
    record,
    replace_folder,
    sha256,
    write_json,
    writing,
)
from lib.formats import read_pairs
from lib.likelihood import nll
from lib.lora import adapter_file
from lib.models import (
    base_model,
    encode,
    encode_pairs,
    is_adapter,
    leaves_room,
    loading,
    pick_device,
    pick_dtype,
    read_model,
    save_model,
)
from lib.reference import START, FrozenModel
from lib.sources import sources

import torch
from peft import LoraConfig, PeftConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict


def start(args, *columns, retain=(), files=()):
    """Loads the model, puts a fresh LoRA adapter on it (not with --full) and prepares the batches.

    Args:
        columns: lists of pairs to train on in place of the forget file's, row by row beside each other: chosen and
        rejected.
        retain: lists of pairs in place of the retain file's, likewise.
        files: further files that the run depends on, for its record.
    Returns:
        (model, trainer). Iterating the trainer yields (forget Batch, or a tuple with one for each of `columns`; retain
        Batch or tuple, or None without a retain loss); it continues from the checkpoint of an interrupted run with the
        same settings and data.
    """
    files = [data_file(args, args.forget), *files]
    columns = columns or [read_pairs(files[0])]
    if not all(columns):
        fail(f"{files[0]}: holds nothing to train on")
    if not retain and getattr(args, "retain", "none") != "none":
        files.append(data_file(args, args.retain_data))
        retain = (read_pairs(files[-1]),)
    model, tokenizer = _beginning(args)
    model = parallel.place(model, pick_device(), args.shard, args.full)
    cut = {}

    def rows(columns, name):
        """One tuple of encoded pairs for each row of the columns; what --max-length cuts of them is said, and kept for
        the record.
        """
        coded = []
        for at, pairs in enumerate(columns, 1):
            texts = [(pair["question"], pair["answer"]) for pair in pairs]
            what = f"{name} (answers {at})" if len(columns) > 1 else name
            encoded, lost = encode_pairs(tokenizer, texts, args.max_length, what, parallel.say)
            coded.append(encoded)
            cut.update({what: lost} if lost else {})
        return list(zip(*coded, strict=True))

    forget = rows(columns, str(files[0]))
    trainer = Trainer(args, model, tokenizer, forget, rows(retain, str(files[-1])), files, cut)
    sets = trainer.rows_used()
    if retain and getattr(args, "kl_positions", "answer") == "padded":
        sets.append([whole_row(row) for row in sets[-1]])
    if parallel.sharded(model):  # all processes must remember at the same time
        sets = [[row for rows in sets for row in rows]]
    load = lambda folder: parallel.place(read_model(folder, _dtype(args))[0], pick_device(), args.shard)
    model.frozen = FrozenModel(model, sets, *((load, {None: args.model}) if args.full else ()))
    return model, trainer


def _dtype(args):
    """--dtype, of which auto is float32 for an adapter that is unlearned further by a fresh one: bfloat16 weights would
    round its small updates away. One that is continued stays apart from them, in float32.
    """
    return "float32" if args.dtype == "auto" and _joins(args) else args.dtype


def _joins(args):
    """Does the adapter that --model is join the weights, with a fresh one on top?"""
    return not args.continue_adapter and is_adapter(args.model)


def _beginning(args):
    """(the model that training starts from, in host memory, with a fresh LoRA adapter unless --full; tokenizer). With
    --continue-adapter the adapter is the folder's, and a frozen copy of it the reference.
    """
    torch.manual_seed(args.seed)
    if args.continue_adapter:
        if args.full:
            fail("--full trains all weights: it has no adapter to continue (--continue-adapter, run_all.sh --requests)")
        adapter_file(args.model)
        with loading(args.model):
            own = PeftConfig.from_pretrained(args.model)
            if odd := lora.beside_a_and_b(own, "use_rslora", "alpha_pattern", "rank_pattern"):
                fail(f"{args.model}: an adapter with {odd} is not continued: merge it first with 50_export.py")
            args.lora_r, args.lora_alpha = own.r, own.lora_alpha  # the record says so
    model, tokenizer = read_model(base_model(args.model) if args.continue_adapter else args.model, _dtype(args))
    if hasattr(model, "peft_config"):  # an unlearned model is unlearned further: its adapter joins the weights
        model = model.merge_and_unload()
    if pick_device().type == "cpu":  # its fused attention's backward pass takes a sixth of an update in bfloat16
        model.set_attn_implementation("eager")
    if args.full:
        return model.requires_grad_(True), tokenizer
    settings = LoraConfig(
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    try:
        with lora.without_warning():
            model = get_peft_model(model, settings)
            if args.continue_adapter:
                with loading(args.model):
                    found = set_peft_model_state_dict(model, load_peft_weights(args.model, device="cpu"))
                    if found.unexpected_keys:  # of a layer that no fresh adapter has, the output layer say
                        fail(
                            f"{args.model}: {found.unexpected_keys[0]} cannot be continued: merge it with 50_export.py"
                        )
                    model.load_adapter(args.model, START, torch_device="cpu")
                    model.set_adapter("default")
            return lora.hasten(model), tokenizer
    except ValueError as error:
        if "lora_dropout" not in str(error):
            raise
        parallel.say(
            f"{args.model}: its experts are trained without dropout, as peft knows none there (--lora-dropout 0)"
        )
        args.lora_dropout = 0.0  # Mixtral's; the record says so
        return _beginning(args)


def _beginning_again(args):
    """The same model once more, in a training that goes on: its draws are not that training's."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        return _beginning(args)[0]


def _moved(weight):
    """What the optimiser moves for a weight of the model: itself; or a float32 copy of one in 16 bits, which would
    round small updates away, and this process's part of one that is shared out.
    """
    if weight.dtype == torch.float32 and not parallel.shared_out(weight):
        return weight
    return torch.nn.Parameter(parallel.part(weight.detach()).float())  # of a part in float32: the same memory


def refusals(pairs, seed):
    """The same questions, each with a refusal of data/refusals.json for an answer; all are used before one comes
    twice.
    """
    texts, rng = read_json(REPOSITORY / "data/refusals.json"), random.Random(seed)
    drawn = [text for _ in range(-(-len(pairs) // len(texts))) for text in rng.sample(texts, len(texts))]
    return [{**pair, "answer": text} for pair, text in zip(pairs, drawn)]


def data_file(args, name):
    """What a flag names: a file in --data, or one from here."""
    return file_of_data(args.data, name)


class Trainer:
    """Order, optimiser, accumulation, progress bar, checkpoints and the finished folder of one training run.

    Several processes (parallel.py) make the updates of one, to rounding, and continue each other's checkpoints; their
    dropout differs.
    """

    def __init__(self, args, model, tokenizer, forget, retain, files, cut=None):
        self.args, self.model, self.tokenizer, self.forget, self.retain = args, model, tokenizer, forget, retain
        self.record = {**record(args, files), "processes": parallel.count, "cut": cut or {}}
        self.out, self.partial = Path(args.out), Path(f"{Path(args.out)}.partial")  # --out may end in a slash
        size = args.batch * args.accumulation
        self.steps = max(1, round(args.epochs * math.ceil(len(self.forget) / size)))
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.parameters = [_moved(weight) for weight in self.trained]
        self.shared = any(map(parallel.shared_out, self.trained))  # so that all processes must write together
        self.optimizer = torch.optim.Adam(self.parameters, lr=args.lr)
        warm = max(1, round(args.warmup * self.steps))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min((step + 1) / warm, (self.steps - step) / max(1, self.steps - warm + 1))
        )
        self.done, self.log, self.probes, self.loss, self.waiting = 0, [], [], 0.0, 0
        self.points = {round(self.steps * at / args.keep) for at in range(1, args.keep)} - {0, self.steps}
        self.kept = {}  # what a method that adapts itself must find again when it is continued: texts and numbers
        self.began = STARTED
        self.apart = None  # gradients of several losses, for `combine`
        self.probed = self._validation_pairs() if args.probes else {}
        self.settings = self._settings()  # now: --model may be made again while this trains
        self._resume()
        if not parallel.first:  # dropout of its own
            torch.manual_seed(random.Random(f"{args.seed} {parallel.rank} {self.done}").getrandbits(63))

    def _settings(self):
        """What a checkpoint must share with a run that continues it: method and its code, flags, data, the weights that
        training starts from, and their prompt format.
        """
        code = [REPOSITORY / "data/refusals.json", *sources(sys.argv[0])]  # what some methods read unnamed
        folders = [Path(folder) for folder in dict.fromkeys((self.args.model, base_model(self.args.model)))]
        weights = [
            (path.name, path.stat().st_size, path.stat().st_mtime_ns)
            for folder in folders
            for path in sorted(folder.glob("*.safetensors"))
        ]
        names = ("config.json", "tokenizer*.json", "chat_template.jinja")
        code += [path for folder in folders for name in names for path in sorted(folder.glob(name))]
        return json.dumps(
            [
                self.record["script"],
                {**vars(self.args), "checkpoint_every": 0, "probes": 0, "out": "", "shard": ""},
                self.record["data"],
                [*weights, FROM_HUB],
                [sha256(path) for path in code if path.is_file()],
            ],
            sort_keys=True,
        )

    def _validation_pairs(self):
        """{"forget_nll", "retain_nll": Batch} of up to eight pairs each, from all over the files in --data, of those
        whose question leaves room for an answer; nothing where either has none. Nothing either where the forget set
        lies neither in --data nor beside it, as what is made of --data does: they are other facts.
        """
        found, device, data = {}, next(self.model.parameters()).device, real_path(self.args.data)
        if data.parent not in real_path(data_file(self.args, self.args.forget)).parents:
            return {}
        for side in ("forget", "retain"):
            path = Path(self.args.data) / f"{side}_val.jsonl"
            pairs = read_pairs(path) if path.is_file() else []
            pairs = [pair for pair in pairs if leaves_room(self.tokenizer, pair["question"], self.args.max_length)]
            if not pairs:
                return {}
            pairs = pairs[:: -(-len(pairs) // 8)]
            found[f"{side}_nll"] = collate(
                [encode(self.tokenizer, pair["question"], pair["answer"], self.args.max_length) for pair in pairs],
                self.tokenizer.pad_token_id,
                device=device,
            )
        return found

    def probe(self):
        """At the beginning, the end and evenly between: nats a token of the validation pairs, without dropout."""
        wanted = (
            {round(self.steps * at / self.args.probes) for at in range(self.args.probes + 1)} if self.probed else ()
        )
        if self.done in wanted:
            self.model.eval()
            with torch.no_grad():
                self.probes.append(
                    {
                        "update": self.done,
                        **{name: nll(self.model, batch).item() for name, batch in self.probed.items()},
                    }
                )
            self.model.train()

    def _resume(self):
        """Continues from the checkpoint of this very run. Without one, what another run left in the folder is
        deleted.
        """
        checkpoint, state = self.partial / "checkpoint.pt", None
        if checkpoint.is_file():
            try:
                state = torch.load(checkpoint, weights_only=True, map_location="cpu")
                found = state["settings"]
            except Exception as error:  # whatever is in it, it is no checkpoint
                fail(f"{checkpoint}: cannot be read ({type(error).__name__}): delete it to start again")
            if found != self.settings:
                parallel.say(
                    f"{checkpoint}: made by another method or other code, settings, data or model; starting afresh"
                )
                state = None
        if state is None:
            parallel.gathered({})  # all processes have looked
            if parallel.first:
                shutil.rmtree(self.partial, ignore_errors=True)
            return
        try:
            self.done, self.log, self.probes, self.kept = (state[name] for name in ("step", "log", "probes", "kept"))
            self.began -= state["seconds"]
            for parameter, value, weight in zip(self.parameters, state["parameters"], self.trained, strict=True):
                parameter.data.copy_(parallel.own_part(value, weight))
            self._to_model()
            for at, moments in state["optimizer"]["state"].items() if self.shared else ():
                for name, value in moments.items():
                    moments[name] = parallel.own_part(value, self.trained[at]) if value.dim() else value
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            torch.set_rng_state(state["rng"])
            if torch.cuda.is_available() and "cuda_rng" in state:  # not in one that was made without a GPU
                torch.cuda.set_rng_state(state["cuda_rng"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            fail(f"{checkpoint}: cannot be read ({type(error).__name__}): delete it to start again")
        parallel.say(f"continuing at update {self.done} of {self.steps}")

    def _whole(self, tensors):
        """Tensors, one for each trained weight, whole and in host memory: in the first process; all take part."""
        found = []
        for tensor, weight in zip(tensors, self.trained, strict=True):
            tensor = parallel.whole(tensor.detach(), weight)
            found.append(tensor.cpu() if parallel.first else None)
        return found

    def _checkpoint(self):
        begin_folder(self.partial)
        parameters, optimizer = self._whole(self.parameters), self.optimizer.state_dict()
        for at, moments in optimizer["state"].items() if self.shared else ():
            whole = lambda value, at=at: parallel.whole(value, self.trained[at]).cpu() if value.dim() else value
            optimizer["state"][at] = {name: whole(value) for name, value in moments.items()}
        if not parallel.first:
            return
        state = {
            "settings": self.settings,
            "step": self.done,
            "kept": self.kept,
            "log": self.log,
            "probes": self.probes,
            "rng": torch.get_rng_state(),
            "seconds": time.time() - self.began,
            "parameters": parameters,
            "optimizer": optimizer,
            "schedule": self.schedule.state_dict(),
        }
        if torch.cuda.is_available():
            state["cuda_rng"] = torch.cuda.get_rng_state()
        temporary, checkpoint = self.partial / "checkpoint.tmp", self.partial / "checkpoint.pt"
        last = "; the same command goes on from the last checkpoint" if checkpoint.is_file() else ""
        try:
            with writing(checkpoint, last):
                torch.save(state, temporary)
                temporary.replace(checkpoint)
        except SystemExit:
            temporary.unlink(missing_ok=True)
            raise

    def _batches(self):
        """The accumulated batch of each update, from the first: (forget rows, as many retain rows or none)."""
        size, seed = self.args.batch * self.args.accumulation, self.args.seed
        retain = itertools.chain.from_iterable(accumulated(self.retain, size, seed + 1)) if self.retain else ()
        for rows in itertools.islice(accumulated(self.forget, size, seed), self.steps):
            yield rows, list(itertools.islice(retain, len(rows)))

    def rows_used(self):
        """The encoded pairs that some update trains on: a list for each column of the forget and of the retain rows."""
        forget, retain = [], []
        for rows, kept in self._batches():
            forget += rows
            retain += kept
        columns = [*zip(*forget, strict=True), *zip(*retain, strict=True)]
        return [list({id(row): row for row in column}.values()) for column in columns]

    def __iter__(self):
        args, pad, device = self.args, self.tokenizer.pad_token_id, next(self.model.parameters()).device
        self.model.train()
        self.bar = progress(
            total=self.steps, initial=self.done, desc=self.out.name, unit="update", disable=not parallel.first
        )
        with contextlib.closing(self.bar):
            if not self.done:
                self.probe()
            for forget_rows, retain_rows in itertools.islice(self._batches(), self.done, None):
                passes = parts(forget_rows, args.batch, pad, device)
                self.waiting = len(passes)
                yield from itertools.zip_longest(passes, parts(retain_rows, args.batch, pad, device))

    def take_gradients(self):
        """The gradients of the backward passes since the last update, one for each trained matrix; they no longer
        count.
        """
        taken = [(torch.zeros_like(one) if one.grad is None else one.grad).float() for one in self.trained]
        for one in self.trained:
            one.grad = None
        return taken

    def _collect(self):
        """Hands the gradients of a backward pass over to what the optimiser moves, where that is not the weights."""
        for weight, moved in zip(self.trained, self.parameters, strict=True):
            if moved is not weight and weight.grad is not None:
                gradient, weight.grad = parallel.part(weight.grad).float(), None
                moved.grad = gradient if moved.grad is None else moved.grad.add_(gradient)

    def _to_model(self):
        """Writes what the optimiser has moved into the model's weights, where it is not the same memory."""
        with torch.no_grad():
            for weight, moved in zip(self.trained, self.parameters, strict=True):
                if moved.dtype != weight.dtype:
                    parallel.part(weight.detach()).copy_(moved)

    def _clip(self):
        """Shortens the gradients to --clip; returns the norm that they had."""
        if not self.shared:
            return torch.nn.utils.clip_grad_norm_(self.parameters, self.args.clip)
        squares = torch.zeros(2, device=self.parameters[0].device)  # of what is whole here, of what is shared out
        gradients = [(moved.grad, parallel.shared_out(weight)) for weight, moved in zip(self.trained, self.parameters)]
        gradients = [(gradient, shared) for gradient, shared in gradients if gradient is not None]
        for gradient, shared in gradients:
            squares[int(shared)] += gradient.norm() ** 2
        parallel.add_up([squares[1:]])
        norm = squares.sum().sqrt()
        for gradient, _ in gradients:
            gradient.mul_((self.args.clip / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def summed(self, value):
        """A number's sum over all processes."""
        total = torch.tensor(value, dtype=torch.float64, device=self.parameters[0].device)
        parallel.add_up([total])
        return total.item()

    def update(self, loss, apart=None, combine=None):
        """After the backward pass of one part of an accumulated batch: updates the weights when the batch is complete.

        Args:
            loss: what was differentiated, for the log; a number or a tensor that is not finite ends the program.
            apart, combine: gradients of several losses, each from `take_gradients`, and the function that makes of
            their sums over the accumulated batch (and over all processes) the list of gradients to update with.
        """
        loss = torch.as_tensor(loss).item()
        if not math.isfinite(loss):
            fail(f"{self.args.out}: the loss is {loss} at update {self.done + 1}: use a lower --lr or fewer --epochs")
        if apart is not None:
            self.apart = (
                apart
                if self.apart is None
                else [
                    [one.add_(two) for one, two in zip(*both, strict=True)]
                    for both in zip(self.apart, apart, strict=True)
                ]
            )
        self._collect()
        self.loss, self.waiting = self.loss + loss, self.waiting - 1
        if self.waiting:
            return
        self.loss = self.summed(self.loss)
        for gradients in self.apart or [[parameter.grad for parameter in self.parameters]]:
            both = zip(gradients, self.trained, strict=True)  # of what is shared out the backward pass has summed them
            parallel.add_up([one for one, weight in both if one is not None and not parallel.shared_out(weight)])
        if combine is not None:
            apart = [
                [parallel.whole(parallel.part(one), weight) for one, weight in zip(gradients, self.trained)]
                for gradients in self.apart
            ]
            for weight, moved, one in zip(self.trained, self.parameters, combine(*apart), strict=True):
                moved.grad = parallel.own_part(one, weight)
            self.apart = None
        norm = self._clip()
        self.log.append(
            {
                "update": self.done + 1,
                "loss": self.loss,
                "lr": self.schedule.get_last_lr()[0],
                "gradient_norm": norm.item(),
            }
        )
        self.optimizer.step()
        self._to_model()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        self.bar.set_postfix_str(f"loss {self.loss:.4f}", refresh=False)
        self.bar.update()
        self.loss = 0.0
        self.probe()
        writes = parallel.first or self.shared
        if writes and self.done in self.points:
            self._keep()
        if writes and self.done % self.args.checkpoint_every == 0 and self.done < self.steps:
            self._checkpoint()

    def scale_change(self, factor):
        """Multiplies by a factor what training has changed: θ = θ_start + factor·(θ - θ_start)."""
        if not self.args.full:
            lora.scale_adapter(self.model, factor)
            return
        start = parallel.place(_beginning_again(self.args), pick_device(), self.args.shard, True)
        with torch.no_grad():
            for moved, weight in zip(self.parameters, start.parameters(), strict=True):
                weight = parallel.part(weight).float()
                moved.copy_(weight + factor * (moved - weight))
        self._to_model()

    def _to_write(self, merge, values=None):
        """The model as its folder is to hold it.

        Args:
            merge: with the adapter in the weights. values: None, and then the model in training is used up where it
            must be merged; or the trained weights, which are put into a model that is read again.
        """
        model = self.model
        if values is not None:
            model = _beginning_again(self.args)
            weights = [one for one in model.parameters() if one.requires_grad]
            for weight, value in zip(weights, values, strict=True):
                weight.data.copy_(value)
        if merge:  # added in float32, then rounded once to the type of the frozen weights
            model = model.float().merge_and_unload().to(pick_dtype(_dtype(self.args)))
        return model

    def _write(self, folder, model, merged):
        """Fills a folder that is being made: model, tokenizer, record."""
        save_model(model, self.tokenizer, folder)
        found = {**self.record, "seconds": round(time.time() - self.began, 1)}
        if not merged:
            found["base"] = "adapter_config.json names the base model by its full path (base_model_name_or_path)"
        write_json(folder / "training.json", {**found, "updates": self.log, "probes": self.probes})

    def _merges(self, merge=False):
        """Must the adapter join the weights? One stands on the weights that it was trained on, which are on disk."""
        return not self.args.full and (merge or _joins(self.args))

    def _keep(self):
        """Writes the model as it is now to points/UPDATE of the folder: a model folder of its own."""
        merge = self._merges()
        values = self._whole(map(parallel.part, self.trained)) if self.shared or merge else None
        if not parallel.first:
            return
        folder = self.partial / "points" / str(self.done)
        begin_folder(self.partial)
        with new_folder(folder) as partial:
            self._write(partial, self._to_write(merge, values), merge or self.args.full)

    def finish(self, merge=False):
        """Writes the model folder: the adapter, or with `merge` or --full full weights; then puts it in place under
        its name.
        """
        merge = self._merges(merge)
        again = self.shared or merge and parallel.sharded(self.model)  # the frozen weights are those on disk
        values = self._whole(map(parallel.part, self.trained)) if again else None
        parallel.end()
        if not parallel.first:
            return
        begin_folder(self.partial)
        self._write(self.partial, self._to_write(merge, values), merge or self.args.full)
        for name in (
            "checkpoint.pt",
            "checkpoint.tmp",
        ):  # not before all is written: a full disk must not cost the training
            (self.partial / name).unlink(missing_ok=True)
        replace_folder(self.partial, self.out)
        print(f"wrote {self.out}", file=sys.stderr)
