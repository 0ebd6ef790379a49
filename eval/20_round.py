"""A model with its weights rounded to what a smaller file can store, as a folder that every metric reads: float16,
bfloat16, int8 or int4, as eval/10_robustness.py rounds them (eval/robustness/precision.py).

The folder itself is in float32: what is measured is the rounding, not the format. An adapter joins its base's weights
before they are rounded.
"""

from pathlib import Path

from lib.files import new_folder, record, write_json
from lib.flags import Parser
from lib.models import load_model, model_folder, save_model

from robustness.precision import PRECISIONS, stored_in

if __name__ == "__main__":
    parser = Parser(__doc__, folder="model")
    parser.add_argument("--model", required=True, help="model folder, adapter folder or hub id")
    parser.add_argument("--precision", required=True, choices=PRECISIONS, help="what the weights are rounded to")
    parser.add_argument("--out", required=True, help="folder to write")
    args = parser.parse_args()
    model, tokenizer = load_model(model_folder(args.model), "float32")
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    with new_folder(args.out) as partial:
        with stored_in(model, args.precision):
            save_model(model, tokenizer, partial)
        write_json(partial / "origin.json", record(args, sorted(Path(args.model).glob("*.safetensors"))))
