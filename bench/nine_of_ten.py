#!/usr/bin/python3
"""Judges `bench/compare`: a build against itself is equal, against one that was made slower slower.

usage: nine_of_ten.py COMPARE BUILD SLOWER_BUILD    ten times each, in turns; nine must be right
"""

import json
import subprocess
import sys
import tempfile

TIMES = 10
OWED = 9


def verdict(compare, build, other):
    """What COMPARE says of `other`, and by which ratio and chance."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([compare, build, other, "--depth", "1", "--json", out.name], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        row = json.load(out)[0]
    told = row["more"]
    line = row["ping_pong_cycles"]
    return told["verdict"], f"{row['ratio']:.3f}, p {told['p']:.2g}, line {line:.0f}"


def main():
    compare, build, slower = sys.argv[1:]
    right = {"equal": 0, "slower": 0}
    for _ in range(TIMES):
        for expected, other in (("equal", build), ("slower", slower)):
            said, why = verdict(compare, build, other)
            right[expected] += said == expected
            print(f"{expected} is called {said}: {why}", flush=True)
    for expected, count in right.items():
        print(f"{expected}: right {count} times of {TIMES}, {OWED} owed")
    return min(right.values()) < OWED


if __name__ == "__main__":
    sys.exit(main())
