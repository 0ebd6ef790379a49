"""Runs a training script as it is and tells, in a last line of JSON, what each of its passes took: seconds, pairs,
tokens; and its peak memory.

python bench/watch.py scripts/12_relearn.py --model work/people-smollm2/models/vanilla --out /tmp/out ...
"""

import json
import resource
import runpy
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from lib.trainer import Trainer  # noqa: E402

import torch  # noqa: E402


def peak():
    """Most memory held so far, in bytes: by tensors on a GPU; on a CPU by the whole process, Python and libraries
    included.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def synchronize():
    """Waits for the GPU, so that a time is the work's and not its order's."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def row_tokens(batches):
    """Tokens of each pair in what the trainer yields (a Batch, None, or a tuple of these), padding not counted."""
    if isinstance(batches, tuple):
        return [count for part in batches for count in row_tokens(part)]
    return [] if batches is None else [int(row.nonzero()[-1]) + 1 for row in batches.answer]


def watch(script, flags):
    """Runs a script with these flags; its trainer's passes are timed from batch to batch, update included → dict of
    lists and numbers.
    """
    seen = {"seconds": [], "rows": [], "tokens": [], "libraries": peak()}
    iterate = Trainer.__iter__

    def watched(trainer):
        seen["parameters"] = sum(
            value.numel() for name, value in trainer.model.named_parameters() if "lora_" not in name
        )
        weights = next(trainer.model.parameters())
        seen["dtype"], seen["device"], seen["threads"] = (
            str(weights.dtype)[6:],
            weights.device.type,
            torch.get_num_threads(),
        )
        mark = time.perf_counter()
        for batches in iterate(trainer):
            counts = row_tokens(batches)
            yield batches
            synchronize()
            seen["seconds"].append(time.perf_counter() - mark)
            seen["rows"].append(len(counts))
            seen["tokens"].append(sum(counts))
            mark = time.perf_counter()
        seen["peak"] = peak()

    Trainer.__iter__ = watched
    sys.argv = [str(script), *flags]
    runpy.run_path(str(script), run_name="__main__")
    return seen


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        raise SystemExit(0 if sys.argv[1:] == ["--help"] else 2)
    print(json.dumps(watch(sys.argv[1], sys.argv[2:])))
