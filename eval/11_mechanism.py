"""What happened inside: is the private value gone, or only no longer said? And which parts of the model were changed
for it?

Four views of each model, all at the token that opens the private value, with the true answer up to it given (teacher
forcing):
1. the five likeliest next tokens at the first answer positions and where the private value begins;
2. the logit lens (nostalgebraist 2020): final norm and output layer on the residual stream after every layer;
3. direct logit attribution (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"): what the
   embedding, each attention head and each MLP add to the value's logit above the mean logit; the parts add up to it,
   and that is checked;
4. how far each weight matrix moved from vanilla's, and over how many directions (effective rank, Roy and Vetterli
   2007).

The private value is the row's own "value" or else an entity of the answer that the question does not hold, as
lib/entities.py finds them. 1 and 4 work for any model; 2 for one that ends in norm, output layer and tanh cap; 3 for
decoders with RMSNorm like Llama's, and with norms behind attention and MLP like Gemma-2's. For another one a line says
what is left out. Forward passes only, in float32. What it writes holds private text.
"""

from argparse import Namespace
from pathlib import Path

from lib.files import fail, write_results, write_text
from lib.flags import Parser, count
from lib.formats import read_pairs
from lib.models import model_folder

from mechanism import figures
from mechanism.study import Study
from mechanism.summary import captions
from mechanism.views import ATTRIBUTION, LENS


def parser() -> Parser:
    made = Parser(__doc__, files=lambda args: [Path(args.out, name) for name in ("mechanism.json", "mechanism.md")])
    made.add_argument(
        "--models", required=True, nargs="+", metavar="FOLDER", help="vanilla first, then the models to compare with it"
    )
    made.add_argument(
        "--questions", required=True, metavar="FILE", help="pairs to have been forgotten, such as forget_val.jsonl"
    )
    made.add_argument(
        "--out", required=True, metavar="FOLDER", help="folder for mechanism.json, mechanism.md and the figures"
    )
    made.add_argument("--count", type=count, help="so many of the questions, the first ones (default: all)")
    made.add_argument(
        "--positions", type=count, default=4, help="first answer positions whose likeliest tokens are kept (default: 4)"
    )
    made.add_argument("--batch", type=count, default=16, help="questions in one forward pass (default: 16)")
    return made


def write(study: Study, args: Namespace):
    """mechanism.json, mechanism.md and the figures that the models' layout allows."""
    out, vanilla, example = Path(args.out), next(iter(study.models)), study.example()
    write_results(out / "mechanism.json", study.summary(), study.items, args, [args.questions])
    if LENS in study.views:
        figures.draw_lens(study.models, study.layers, len(study.items), out / "logit_lens.png")
    if ATTRIBUTION in study.views:
        figures.draw_attribution(study.models, out / "attribution.png")
    if study.moves:
        figures.draw_weights(study.moves, vanilla, out / "weights.png")
    figures.draw_top5(example, list(study.models), out / "top5.png")
    size = study.layers, len(study.items)
    write_text(out / "mechanism.md", captions(study.models, study.moves, *size, example["question"], study.views))


def told(name: str, row: dict):
    """One model's line of the output."""
    words = [f"first choice in the end {row['first_at_end']:.2f}"]
    if "first_in_some_layer" in row:
        words.append(f"in some layer {row['first_in_some_layer']:.2f}")
    words.append(f"probability {row['probability_at_end']:.3f}")
    if "difference" in row:
        words.append(f"logit above mean {row['difference']:.2f}")
    print(name, *words, sep="  ")


def main(args: Namespace):
    folders = {Path(folder).name: model_folder(folder) for folder in args.models}
    if len(folders) < len(args.models):
        fail("--models: two folders have the same name, and so would their rows")
    study = Study(read_pairs(args.questions)[: args.count], args)
    study.read(folders)
    write(study, args)
    for name, row in study.models.items():
        told(name, row)


if __name__ == "__main__":
    main(parser().parse_args())
