"""What the steps of scripts/ and eval/ share, a subject a module; nothing here is run by hand.

Importing it sets three environment variables, where the user has not. GOMP_SPINCOUNT must be there before torch is loaded, so the
scripts import from here first: PyTorch's OpenMP threads else spin while they wait for each other, which beside other programs makes a
training step 17 times slower.
"""

import os
import signal
import sys


def _interrupted(*_):
    os.write(2, b"\ninterrupted: give the same command again to continue\n")
    os._exit(130)


# while libraries load, for seconds, Ctrl-C ends the program at once: numpy makes other errors of a KeyboardInterrupt
if signal.getsignal(signal.SIGINT) is signal.default_int_handler and "pytest" not in sys.modules:
    signal.signal(signal.SIGINT, _interrupted)

os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
