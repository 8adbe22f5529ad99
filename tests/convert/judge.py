"""What both judges share: their arguments, the program, and what they found."""

import subprocess
import sys
from pathlib import Path

GOLDEN, WORK, PROGRAM = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]).resolve()
failures = []


def check(what, value, limit):
    print(f"{what}: {value:.3g} (at most {limit:g})")
    if not value <= limit:
        failures.append(what)


def run(*arguments):
    subprocess.run([PROGRAM, *map(str, arguments)], check=True, stderr=subprocess.PIPE)
