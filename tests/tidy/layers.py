#!/usr/bin/python3
"""Includes point down only: mempool <- drivers <- runtime <- apps, bench; tests may see all.

A `_test.cc` may also include tests/sim, where what several of them share is. DPDK's headers are
seen by drivers/ethdev alone, and by bench, where DPDK is a peer.
"""

import cpp
import tree

BELOW = {
    "mempool": ["mempool"],
    "drivers": ["mempool", "drivers"],
    "runtime": ["mempool", "drivers", "runtime"],
    "apps": ["mempool", "drivers", "runtime", "apps"],
    "bench": ["mempool", "drivers", "runtime", "apps", "bench"],
    "tests": ["mempool", "drivers", "runtime", "apps", "bench", "tests"],
}


def _allowed(path: str, target: str) -> bool:
    room, below = path.split("/")[0], target.split("/")[0]
    if target.startswith("tests/sim/") and path.endswith("_test.cc"):
        return True
    return below in BELOW.get(room, [])


def find(files: tree.Tree) -> list[str]:
    findings = []
    for path, text in files.items():
        if not tree.is_cpp(path):
            continue
        for line, quote, target in cpp.includes(text):
            place = f"{path}:{line}"
            if quote == '"' and target not in files:
                findings.append(f"{place}: {target} is no file of the project (paths from root)")
            elif quote == '"' and not _allowed(path, target):
                findings.append(f"{place}: {path.split('/')[0]} may not include {target}")
            elif target.startswith("rte_") and not path.startswith(("drivers/ethdev/", "bench/")):
                findings.append(f"{place}: only drivers/ethdev and bench may include <{target}>")
    return findings


def _pair(path: str, include: str) -> tree.Tree:
    return {path: f"#include {include}\n", include.strip('"'): ""}


if __name__ == "__main__":
    tree.run(
        "includes point down the arrow",
        find,
        planted={
            "mempool including drivers": _pair("mempool/a.h", '"drivers/b.h"'),
            "drivers including runtime": _pair("drivers/x/a.cc", '"runtime/b.h"'),
            "runtime including apps": _pair("runtime/a.h", '"apps/b.h"'),
            "a product file including tests/sim": _pair("drivers/a.cc", '"tests/sim/b.h"'),
            "a header including tests/sim": _pair("drivers/a.h", '"tests/sim/b.h"'),
            "a unit test including a room above": _pair("drivers/a_test.cc", '"runtime/b.h"'),
            "a path that is not from root": {"mempool/a.cc": '#include "a.h"\n', "mempool/a.h": ""},
            "DPDK outside drivers/ethdev": {"drivers/nvme/a.cc": "#include <rte_mbuf.h>\n"},
        },
        clean={
            "apps including all below": _pair("apps/a.cc", '"mempool/b.h"'),
            "a unit test including tests/sim": _pair("drivers/a_test.cc", '"tests/sim/b.h"'),
            "DPDK as a peer in bench": {"bench/a.cc": "#include <rte_ring.h>\n"},
            "DPDK in drivers/ethdev": {"drivers/ethdev/a.cc": "#include <rte_mbuf.h>\n"},
        },
    )
