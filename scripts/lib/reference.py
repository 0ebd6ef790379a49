"""The reference model beside the one in training: the model as it was before the first update, and no second copy.

That is the vanilla model, the same weights with the adapter off. Where an adapter is trained further
(--continue-adapter), as for the next of several requests, it is the model that the last request left: the same weights
with a frozen copy of the adapter as it was, named START. So it is in the continual setting of Yuan et al. 2024
(arXiv:2410.08109; sail-sg/closer-look-LLM-unlearning, forget.py: the adapter of the last request is loaded trainable,
and without fix_ref_model the reference model is that checkpoint).

A frozen model's hidden states never change: those that a training set needs are computed once and kept in memory
(hidden size × answer tokens: 9 MB for 4,000 tokens of SmolLM2-135M in float32, 33 MB of Llama-2-7b in bfloat16). From
those before the answer tokens only the output layer is computed again. Where all weights are trained (--full) no
adapter can be taken off: the vanilla model is read again from its folder when states are first asked for, and only its
output layer stays.
"""

import contextlib
import sys

from lib import parallel
from lib.batches import collate
from lib.files import fail
from lib.models import blocks_of

import torch

START = "start"  # the adapter as it was when its training was continued


def start_of(model):
    """The name of the adapter with which the model began, None where it began as the vanilla model."""
    return START if START in getattr(model, "peft_config", ()) else None


@contextlib.contextmanager
def weights_of(model, adapter):
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


class _Reached(Exception):
    """The block whose states are wanted has been computed."""


def block_states(model, input_ids, block):
    """Hidden states after a block: (rows, length, hidden). Later blocks are not computed.

    Args:
        block: its number, from 1.
    """
    blocks = blocks_of(model)
    if block > len(blocks):
        fail(f"{model.config.model_type} has no block {block}: it has {len(blocks)}")
    seen = []

    def keep(_, __, output):
        seen.append(output[0] if isinstance(output, (tuple, list)) else output)
        if not parallel.sharded(model):  # all processes must leave every layer in order
            raise _Reached

    hook = blocks[block - 1].register_forward_hook(keep)
    try:
        with contextlib.suppress(_Reached):
            model(input_ids=input_ids, use_cache=False)
    finally:
        hook.remove()
    return seen[0]


def logits_of(output, config, states):
    """The output layer on hidden states (…, hidden) → (…, vocabulary), with what some families do to its result."""
    logits = output(states)
    logits = (
        logits * (getattr(config, "logit_scale", 1) or 1) / getattr(config, "logits_scaling", 1)
    )  # Cohere, MPT; Granite
    cap = getattr(config, "final_logit_softcapping", None)  # Gemma
    return cap * torch.tanh(logits / cap) if cap else logits


class FrozenModel:
    """The weights that training leaves alone, those of the vanilla model or of another adapter on it, for
    `answer_logits`, `answer_states` and what is computed from them.

    Args:
        model: the one in training: a PEFT model, whose frozen weights they are; or any other, with `load`.
        training_sets: lists of encoded rows (ids, prompt tokens); the states of all rows of a set are computed when
        the first of them is asked for.
        load: where all weights are trained, the function from a model folder to the model that is read from it.
        folders: for `load`, by the adapter's name: {None: the vanilla model's}.
    """

    def __init__(self, model, training_sets=(), load=None, folders=()):
        self.model, self.training_sets, self.kept, self.recalls, self.adapter = model, training_sets, {}, True, None
        self.load, self.folders, self.outputs, self.whole, self.checked = load, dict(folders), {}, {}, False

    @contextlib.contextmanager
    def _computing(self):
        """The model that computes as the frozen one does, without dropout."""
        if self.load is None:
            with weights_of(self.model, self.adapter):
                yield self.model
        elif self.adapter in self.whole:
            yield self.whole[self.adapter]
        else:
            with torch.random.fork_rng([]):  # reading may draw, and a continued run reads at another time
                model = self.load(self.folders[self.adapter]).eval()
            self.outputs[self.adapter] = model.get_output_embeddings()
            yield model
            if not self.recalls:
                self.whole[self.adapter] = model

    def _forward(self, model, batch, positions):
        """(logits, hidden states before the output layer) at some positions, a mask of the batch's shape."""
        seen, output = [], model.get_output_embeddings()

        def note(_, inputs):
            seen.append(inputs[0])
            return (inputs[0][positions],)

        hook = output.register_forward_pre_hook(note)
        try:
            return model(input_ids=batch.input_ids, use_cache=False).logits, seen[0]
        finally:
            hook.remove()

    def _remember(self, rows, block=None):
        """Keeps the states of rows, before the output layer where it predicts answer tokens, or after a block at
        these.

        Always the same batches for the same rows: padding moves a number's last bits, and a continued run must end as
        an unbroken one.
        """
        with self._computing() as model:
            rows = sorted(rows, key=lambda row: (len(row[0]), row))
            for at in range(0, len(rows), 8):
                part = rows[at : at + 8]
                batch = collate(part, 0, device=next(self.model.parameters()).device)
                if block:
                    states, before = block_states(model, batch.input_ids, block), 0
                elif (states := self._checked_states(model, batch, part)) is None:
                    return
                else:
                    before = 1
                for state, (ids, prompt) in zip(states, part, strict=True):
                    key = self.adapter, block, prompt, tuple(ids)
                    self.kept[key] = state[prompt - before : len(ids) - before].clone()

    def _checked_states(self, model, batch, part):
        """The states before the output layer, (rows, length, hidden); None where logits are not computed from them."""
        ids, prompt = part[0]
        first = torch.zeros_like(batch.answer)
        first[0, prompt - 1 : len(ids) - 1] = True  # logits of one row are enough to compare
        logits, states = self._forward(model, batch, first)
        if self.checked:
            return states
        self.checked = True
        again = logits_of(model.get_output_embeddings(), self.model.config, states[first])
        if torch.allclose(again.float(), logits.float(), atol=1e-3, rtol=1e-3):
            return states
        print(
            f"{self.model.config.model_type}: its logits are not its output layer's; the vanilla model is computed "
            "whole each time",
            file=sys.stderr,
        )
        self.recalls = False
        return None

    def _states(self, batch, block=None):
        """The states of a batch's rows, each (answer tokens, hidden), in their order; None where they cannot be
        kept.
        """
        rows = [
            (ids[: int(mask.nonzero()[-1]) + 1].tolist(), int(mask.nonzero()[0]))
            for ids, mask in zip(batch.input_ids, batch.answer)
        ]
        keys = [(self.adapter, block, prompt, tuple(ids)) for ids, prompt in rows]
        for row, key in zip(rows, keys, strict=True):
            if (self.recalls or block) and key not in self.kept:  # its whole training set, or the row alone
                self._remember(next((whole for whole in self.training_sets if row in whole), [row]), block)
        return torch.cat([self.kept[key] for key in keys]) if self.recalls or block else None

    def answer_logits(self, batch):
        """As likelihood.answer_logits, in the model's type: (answer tokens, vocabulary), without gradient."""
        with torch.no_grad():
            states = self._states(batch)
            if states is None:
                before = torch.zeros_like(batch.answer)
                before[:, :-1] = batch.answer[:, 1:]
                with self._computing() as model:
                    return self._forward(model, batch, before)[0]
            output = self.outputs.get(self.adapter) or self.model.get_output_embeddings()
            with contextlib.nullcontext() if self.load else weights_of(self.model, self.adapter):
                return logits_of(output, self.model.config, states)

    def answer_states(self, batch, block):
        """As likelihood.answer_states: (answer tokens, hidden), float32, without gradient."""
        with torch.no_grad():
            return self._states(batch, block).float()


def add_reference(model, name, folder):
    """Makes another adapter on the vanilla model known to `reference`."""
    if model.frozen.load:
        model.frozen.folders[name] = folder
    else:
        model.load_adapter(folder, name)


def reference(function, model, batch, adapter=None, **flags):
    """`function(model, batch, **flags)` under the model as it began (see above), or under the one that `add_reference`
    named; without gradient.

    Args:
        function: one of likelihood.py's, all of which start from `answer_logits` or `answer_states`.
    """
    frozen = getattr(model, "frozen", None) or FrozenModel(
        model
    )  # `start` gives the model one that knows the training sets
    frozen.adapter = adapter or start_of(model)
    with torch.no_grad():
        return function(frozen, batch, **flags)
