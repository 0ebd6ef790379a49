"""A line for each script: its name, and a hash of all source files that it depends on.

python scripts/tools/sources.py scripts/11_npo.py eval/09_report.py
"""

import functools
import hashlib
import sys

from lib.sources import sources


@functools.cache
def content(path):
    return path.read_bytes()


if __name__ == "__main__":
    for script in dict.fromkeys(sys.argv[1:]):
        digest = hashlib.sha256()
        for path in sources(script):
            digest.update(content(path) + b"\0")
        print(script, digest.hexdigest())
