"""What the steps of scripts/ and eval/ share, a subject a module; nothing here is run by hand.

Importing it sets three environment variables, where the user has not. GOMP_SPINCOUNT must be there before torch is
loaded, so the scripts import from here first: PyTorch's OpenMP threads else spin while they wait for each other, which
beside other programs makes a training step 17 times slower. Nothing else global changes, but in this repository's own
scripts: there Ctrl-C and a full disk are one line from the first import on, which takes seconds.
"""

import os
import sys
from pathlib import Path

from lib.files import REPOSITORY, report_faults

os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

program = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()
if program.parent in (REPOSITORY / "scripts", REPOSITORY / "scripts/tools", REPOSITORY / "eval"):
    report_faults()
