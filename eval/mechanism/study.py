"""All views and weights of several models, vanilla first, on the same questions."""

from argparse import Namespace
from pathlib import Path

from lib.files import fail, mean, progress, real_path
from lib.models import base_model, load_model

import torch

from mechanism.places import locate, private_value
from mechanism.summary import describe, first, lost
from mechanism.views import ATTRIBUTION, LENS, VIEWS, see_what_can_be
from mechanism.weights import difference_spectrum, layer_count, movement, spectrum


def _short(value):
    return float(f"{value:.4g}")


def _matrices(model):
    return {name: weight.detach() for name, weight in model.named_parameters() if weight.dim() == 2}


def _shapes(weights):
    return {name: weight.shape for name, weight in weights.items()}


class Study:
    """What was found so far.

    models: {name: what `describe` gives}. moves: {name: what `movement` gives} of all but vanilla. items: a dict a
    question, with what each model makes of it. views: those of VIEWS that every model allows. layers: how many there
    are.
    """

    def __init__(self, pairs: list[dict], args: Namespace):
        """pairs: the questions, as `read_pairs` gives them. args: the flags of 11_mechanism.py."""
        self.pairs, self.args, self.views = pairs, args, set(VIEWS)
        self.values = [private_value(pair) for pair in pairs]
        self.models, self.moves, self.items, self.rows = {}, {}, [], None

    def read(self, folders: dict[str, str]):
        """Reads the models, {name: folder}, vanilla first."""
        for name, folder in progress(folders.items(), desc="mechanism", unit="model"):
            self.add(name, folder)

    def add(self, name: str, folder: str):
        """One more model; the first is vanilla."""
        model, tokenizer = load_model(folder, "float32")
        adapter = Path(folder, "adapter_config.json").is_file()
        spectra = spectrum(model) if adapter and self._on_vanilla(folder) else None
        if adapter:
            model = model.merge_and_unload()
        rows = [locate(pair, value, tokenizer) for pair, value in zip(self.pairs, self.values, strict=True)]
        matrices = _matrices(model)
        if self.rows is None:
            self._begin(rows, matrices, tokenizer)
        else:
            if rows != self.rows or _shapes(matrices) != _shapes(self.vanilla):
                fail(f"{folder}: not made from {self.args.models[0]}: its tokens or its weights' shapes are others")
            with torch.inference_mode():
                spectra = difference_spectrum(matrices, self.vanilla) if spectra is None else spectra
                self.moves[name] = movement(spectra, self.norms, self.layers)
        size = self.args.positions, self.args.batch
        found, self.views = see_what_can_be(model, name, rows, *size, self.views)
        self.models[name] = describe(found, self.views)
        for item, row, seen in zip(self.items, rows, found, strict=True):
            item["models"][name] = self._told(row, seen, tokenizer)

    def _on_vanilla(self, folder):
        """Whether an adapter stands on vanilla itself, so that its factors are the change."""
        base = real_path(base_model(folder))
        return self.rows is not None and base == real_path(self.args.models[0])

    def _begin(self, rows, matrices, tokenizer):
        """What all models are compared with: vanilla's tokens and weights."""
        self.rows, self.vanilla = rows, {name: weight.cpu() for name, weight in matrices.items()}
        self.norms = {name: weight.norm().item() for name, weight in self.vanilla.items()}
        self.layers = layer_count(self.norms)
        self.items = [
            {
                "question": pair["question"],
                "answer": pair["answer"],
                "value": value,
                "value_token": tokenizer.decode([row["ids"][row["at"]]]),
                "value_position": row["at"] - row["start"],
                "models": {},
            }
            for pair, value, row in zip(self.pairs, self.values, rows, strict=True)
        ]

    def _told(self, row, seen, tokenizer):
        """What one model makes of one question."""
        text = lambda token: tokenizer.decode([token])
        told = {"probability": [_short(value) for value in seen["probability"]], "rank": seen["rank"]}
        if LENS in self.views:
            told |= {"first_layer": first(seen["rank"], 1), "first_layer_top5": first(seen["rank"], 5)}
        if ATTRIBUTION in self.views:
            told |= {name: seen[name] for name in ("difference", "embedding", "error")}
        told["top5"] = [
            {
                "position": place - row["start"],
                "before": tokenizer.decode(row["ids"][row["start"] : place]),
                "true": text(row["ids"][place]),
                "tokens": [[text(token), _short(value)] for token, value in best],
            }
            for place, best in seen["top5"]
        ]
        return told

    def summary(self) -> dict:
        """{"questions", "layers", "models": {name: its summary, the parts that fell most, its weights' movement}}."""
        vanilla = next(iter(self.models))
        models = {}
        for name, told in self.models.items():
            fallen = lost(told, self.models[vanilla]) if name != vanilla and ATTRIBUTION in self.views else []
            models[name] = {**told, "lost": fallen, "weights": self.moves.get(name)}
        return {"questions": len(self.items), "layers": self.layers, "models": models}

    def example(self) -> dict:
        """The question on which vanilla is surest of the private value by most over the others."""

        def ahead(item):
            vanilla, *others = (told["probability"][-1] for told in item["models"].values())
            return vanilla - mean(others or [0])

        return max(self.items, key=ahead)
