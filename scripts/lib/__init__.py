"""What the steps of scripts/ and eval/ share, a subject a module; nothing here is run by hand.

Importing it sets three environment variables, where the user has not. GOMP_SPINCOUNT must be there before torch is loaded, so the
scripts import from here first: PyTorch's OpenMP threads else spin while they wait for each other, which beside other programs makes a
training step 17 times slower.
"""

import os

from lib.files import report_faults

report_faults()  # before torch is loaded, which takes seconds in which one may press Ctrl-C
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
