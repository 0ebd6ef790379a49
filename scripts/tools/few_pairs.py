"""A few pairs of a prepared data folder in the files and the schema of a published set: what a rehearsal reads in its
place.
"""

import json
from pathlib import Path

from lib.files import record, write_json, write_text
from lib.flags import Parser, count
from lib.formats import read_pairs

FILES = {  # set: {file: part of ours}
    "knowundo": {
        "unlearn_train": "forget_train",
        "unlearn_val": "forget_val",
        "retention_train": "retain_train",
        "retention_val": "retain_val",
    },
    "tofu": {
        **{f"forget{share:02}": "forget_train" for share in (1, 5, 10)},
        **{f"retain{100 - share}": "retain_train" for share in (1, 5, 10)},
    },
    "own": {f"{side}_{split}": f"{side}_{split}" for side in ("forget", "retain") for split in ("train", "val")},
}

if __name__ == "__main__":
    parser = Parser(__doc__, files=lambda args: [Path(args.out, "origin.json")])
    parser.add_argument("--data", required=True, help="folder made by 01_data.py")
    parser.add_argument("--like", required=True, choices=FILES, help="set whose files and schema are imitated")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--pairs", type=count, default=4, help="pairs in each file (default: 4)")
    args = parser.parse_args()
    parts = {part: read_pairs(Path(args.data) / f"{part}.jsonl") for part in FILES[args.like].values()}
    for name, part in FILES[args.like].items():
        rows = [{"question": pair["question"], "answer": pair["answer"]} for pair in parts[part][: args.pairs]]
        if args.like == "knowundo":
            theirs = [{"text": row["question"], "labels": row["answer"]} for row in rows]
            text = json.dumps(theirs, ensure_ascii=False, indent=4)
        else:
            text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"
        write_text(Path(args.out) / f"{name}.json", text)
    used = [Path(args.data) / f"{part}.jsonl" for part in sorted({*FILES[args.like].values()})]
    write_json(Path(args.out) / "origin.json", record(args, used))
