"""What the steps of scripts/ and eval/ share, a subject a module; nothing here is run by hand.

Importing it sets three environment variables, where the user has not. GOMP_SPINCOUNT must be there before torch is
loaded, so the scripts import from here first: PyTorch's OpenMP threads else spin while they wait for each other, which
beside other programs makes a training step 17 times slower. Nothing else global changes, but in this repository's own
scripts: there Ctrl-C is one line from the first import on, which takes seconds, and so is an HF_ENDPOINT that is no
address.
"""

import os
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def _interrupted(*_):
    os.write(2, b"\ninterrupted: give the same command again to continue\n")
    os._exit(130)


program = Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve().parent
scripts = Path(__file__).resolve().parents[1]
ours = program in (scripts, scripts / "tools", scripts.parent / "eval")
if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # until Parser.parse_args: while libraries are loaded numpy makes other errors of a KeyboardInterrupt
    signal.signal(signal.SIGINT, _interrupted)
if ours:  # transformers and others load the hub's client, which stumbles over it with a traceback
    try:
        urlsplit(os.environ.get("HF_ENDPOINT", "")).port  # noqa: B018
    except ValueError:
        from lib.files import fail, without_password

        fail(f"HF_ENDPOINT={without_password(os.environ['HF_ENDPOINT'])} is no address")
