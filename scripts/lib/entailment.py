"""Entailment: does a premise entail, contradict or leave open a hypothesis? The embedded model, or any from a hub or
folder.
"""

from pathlib import Path

from lib import hub
from lib.files import fail, progress

import torch
import transformers
from torch import nn

LABELS = ("contradiction", "entailment", "neutral")


class PairClassifier(nn.Module):
    """A cross-encoder on a small sentence-embedding model: premise and hypothesis are read together, then their mean
    token states u and v, which that model was trained to make comparable, are compared: (first token, u, v, |u - v|,
    u·v) → 3 logits.
    """

    def __init__(self, embedding):
        super().__init__()
        self.encoder = transformers.AutoModel.from_pretrained(
            embedding, use_safetensors=True, trust_remote_code=False, add_pooling_layer=False
        )
        width = self.encoder.config.hidden_size
        self.compare, self.dropout, self.decide = (
            nn.Linear(5 * width, width),
            nn.Dropout(0.1),
            nn.Linear(width, len(LABELS)),
        )

    def forward(self, input_ids, attention_mask, token_type_ids):
        """All arguments (rows, length), as a BERT tokenizer makes them from pairs → logits (rows, 3)."""
        states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        u, v = (
            (states * part[..., None]).sum(1) / part.sum(1, keepdim=True)
            for part in (attention_mask * (1 - token_type_ids), attention_mask * token_type_ids)
        )
        features = torch.cat([states[:, 0], u, v, (u - v).abs(), u * v], -1)
        return self.decide(self.dropout(nn.functional.gelu(self.compare(features))))

    def trained(self):
        """The parameters that training changes, and that data/nli keeps: all but the word embeddings, half of the
        whole.
        """
        return {name: value for name, value in self.named_parameters() if not name.startswith("encoder.embeddings.")}


def sentence_model(name, device=None):
    """The embedding model of a folder or hub id, a SentenceTransformer; a damaged one ends the program."""
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(
            hub.folder(name), device=device, trust_remote_code=False, model_kwargs={"use_safetensors": True}
        )
    except Exception as error:  # whatever a library raises for a damaged folder
        fail(f"cannot load {name}: {(str(error).strip() or repr(error)).splitlines()[0]}")


class Entailment:
    """Labels pairs of texts.

    Args:
        nli: folder with the embedded model's weights (data/nli), or a folder or hub id of any three-class model.
        embedding: folder of the embedding model that the embedded one stands on.
    """

    def __init__(self, nli, embedding, batch=64):
        from safetensors.torch import load_file

        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        self.batch, self.device = batch, "cuda" if torch.cuda.is_available() else "cpu"
        nli, embedding = hub.folder(nli), hub.folder(embedding)
        ours = not Path(nli, "config.json").exists() and Path(nli, "model.safetensors").exists()
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(
                embedding if ours else nli, trust_remote_code=False
            )
            if ours:
                self.model, self.labels = PairClassifier(embedding), LABELS
                weights = load_file(Path(nli, "model.safetensors"))
                if {name: value.shape for name, value in weights.items()} != {
                    name: value.shape for name, value in self.model.trained().items()
                }:
                    fail(
                        f"{nli}: its weights do not fit {embedding}; give --embedding all-MiniLM-L6-v2 (00_models.py "
                        f"--model minilm)"
                    )
                self.model.load_state_dict(weights, strict=False)
            else:
                self.model = transformers.AutoModelForSequenceClassification.from_pretrained(
                    nli, use_safetensors=True, trust_remote_code=False
                )
                names = [self.model.config.id2label[at].lower() for at in range(self.model.config.num_labels)]
                self.labels = [next((label for label in LABELS if label in name), name) for name in names]
        except Exception as error:  # whatever a library raises for a damaged folder
            fail(f"cannot load {embedding} or {nli}: {(str(error).strip() or repr(error)).splitlines()[0]}")
        if not set(LABELS) <= set(self.labels):
            fail(
                f"{nli}: an entailment model needs the labels {', '.join(LABELS)}, this one has "
                f"{', '.join(self.labels)}"
            )
        self.model = self.model.eval().to(self.device)

    def __call__(self, pairs):
        """pairs: list of (premise, hypothesis) → list of {label: probability}, in their order. A text entails itself,
        whatever a model makes of it."""
        results = {
            at: {label: float(label == "entailment") for label in self.labels}
            for at, pair in enumerate(pairs)
            if pair[0].split() == pair[1].split()
        }
        order = sorted(
            set(range(len(pairs))) - set(results), key=lambda at: (len(pairs[at][0]) + len(pairs[at][1]), at)
        )
        batches = range(0, len(order), self.batch)
        for at in progress(batches, desc="entailment", unit="batch", delay=5, leave=False):
            part = order[at : at + self.batch]
            inputs = self.tokenizer(
                [pairs[row][0] for row in part],
                [pairs[row][1] for row in part],
                padding=True,
                truncation=True,
                max_length=256,
                return_tensors="pt",
            ).to(self.device)
            with torch.inference_mode():
                logits = self.model(**inputs)
            scores = getattr(logits, "logits", logits).float().softmax(-1).tolist()
            results |= {
                row: dict(zip(self.labels, score, strict=True)) for row, score in zip(part, scores, strict=True)
            }
        return [results[row] for row in range(len(pairs))]
