"""The reference model beside the one in training: the model as it was before the first update, and no second copy.

That is the vanilla model, the same weights with the adapter off. Where an adapter is trained further
(--continue-adapter), as for the next of several requests, it is the model that the last request left: the same weights
with a frozen copy of the adapter as it was, named START. So it is in the continual setting of Yuan et al. 2024
(arXiv:2410.08109; sail-sg/closer-look-LLM-unlearning, forget.py: the adapter of the last request is loaded trainable,
and without fix_ref_model the reference model is that checkpoint).

A frozen model's hidden states never change: those before the answer tokens of a training set are computed once and
kept in memory (hidden size × answer tokens: 9 MB for 4,000 tokens of SmolLM2-135M in float32, 33 MB of Llama-2-7b in
bfloat16). From them only the output layer is computed again.
"""

import contextlib
import sys

from lib.batches import collate

import torch

START = "start"  # the adapter as it was when its training was continued


def start_of(model):
    """The name of the adapter with which the model began, None where it began as the vanilla model."""
    return START if START in model.peft_config else None


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


def logits_of(model, states):
    """The output layer on hidden states (…, hidden) → (…, vocabulary), with what some families do to its result."""
    logits, config = model.get_output_embeddings()(states), model.config
    logits = (
        logits * (getattr(config, "logit_scale", 1) or 1) / getattr(config, "logits_scaling", 1)
    )  # Cohere, MPT; Granite
    cap = getattr(config, "final_logit_softcapping", None)  # Gemma
    return cap * torch.tanh(logits / cap) if cap else logits


class FrozenModel:
    """A PEFT model's frozen weights, with one of its adapters or none, for `answer_logits` and what is computed from
    it.

    Args:
        model: the PEFT model. training_sets: lists of encoded rows (ids, prompt tokens); the states of all rows of a
        set are
        computed when the first of them is asked for.
    """

    def __init__(self, model, training_sets=()):
        self.model, self.training_sets, self.kept, self.recalls, self.adapter = model, training_sets, {}, True, None

    def _forward(self, batch, positions):
        """(logits, hidden states before the output layer) at some positions, a mask of the batch's shape."""
        seen, output = [], self.model.get_output_embeddings()

        def note(_, inputs):
            seen.append(inputs[0])
            return (inputs[0][positions],)

        hook = output.register_forward_pre_hook(note)
        try:
            return self.model(input_ids=batch.input_ids, use_cache=False).logits, seen[0]
        finally:
            hook.remove()

    def _remember(self, rows):
        """Keeps the states before the answer tokens of rows.

        Always the same batches for the same rows: padding moves a number's last bits, and a continued run must end as
        an unbroken one.
        """
        rows = sorted(rows, key=lambda row: (len(row[0]), row))
        for at in range(0, len(rows), 8):
            part = rows[at : at + 8]
            batch = collate(part, 0, device=next(self.model.parameters()).device)
            ids, prompt = part[0]
            first = torch.zeros_like(batch.answer)
            first[0, prompt - 1 : len(ids) - 1] = True  # logits of one row are enough to compare
            logits, states = self._forward(batch, first)
            if not self.kept and not torch.allclose(
                logits_of(self.model, states[first]).float(), logits.float(), atol=1e-3, rtol=1e-3
            ):
                print(
                    f"{self.model.config.model_type}: its logits are not its output layer's; the reference model is "
                    f"computed whole each "
                    "time",
                    file=sys.stderr,
                )
                self.recalls = False
                return
            for state, (ids, prompt) in zip(states, part, strict=True):
                self.kept[self.adapter, prompt, tuple(ids)] = state[prompt - 1 : len(ids) - 1].clone()

    def answer_logits(self, batch):
        """As likelihood.answer_logits: (answer tokens, vocabulary), float32, without gradient."""
        rows = [
            (ids[: int(mask.nonzero()[-1]) + 1].tolist(), int(mask.nonzero()[0]))
            for ids, mask in zip(batch.input_ids, batch.answer)
        ]
        keys = [(self.adapter, prompt, tuple(ids)) for ids, prompt in rows]
        with torch.no_grad(), weights_of(self.model, self.adapter):
            for row, key in zip(rows, keys, strict=True):
                if self.recalls and key not in self.kept:  # the whole training set that it is from, or the row alone
                    self._remember(next((whole for whole in self.training_sets if row in whole), [row]))
            if not self.recalls:
                before = torch.zeros_like(batch.answer)
                before[:, :-1] = batch.answer[:, 1:]
                return self._forward(batch, before)[0].float()
            return logits_of(self.model, torch.cat([self.kept[key] for key in keys])).float()


def reference(function, model, batch, adapter=None):
    """`function(model, batch)` under the model as it began (see above), or with the name of a loaded `adapter` under
    that one; without gradient.

    Args:
        function: one of likelihood.py's, all of which start from `answer_logits`.
    """
    frozen = getattr(model, "frozen", None) or FrozenModel(
        model
    )  # `start` gives the model one that knows the training sets
    frozen.adapter = adapter or start_of(model)
    with torch.no_grad():
        return function(frozen, batch)
