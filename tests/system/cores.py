"""One client and one target on two cores each: a queue on every core of both sides."""

import json
import os
import re
import unittest

import program


@unittest.skipIf(len(os.sched_getaffinity(0)) < 2, "this machine gives us one core")
class cores(program.program_case):
    def test_every_core_of_both_sides_serves_a_queue(self) -> None:
        first, second = sorted(os.sched_getaffinity(0))[:2]
        both = f"{first},{second}"
        target = self.serve("a.sock", "ram:1M", options=("--cores", both))
        done = self.succeed("perf", self.at("a.sock"), "--cores", both, "--depth", 16, "--rw",
                            "randrw", "--verify", "--time", 2, "--warmup", 0, "--json")
        got = json.loads(done.out)
        self.assertEqual((got["errors"], got["verify_mismatches"]), (0, 0))
        self.assertEqual([core["core"] for core in got["cores"]], [first, second])
        self.assertTrue(all(core["ios"] > 0 for core in got["cores"]), got["cores"])
        self.assertEqual(sum(core["ios"] for core in got["cores"]), got["ios"])
        told = target.end().err
        served = re.findall(r"core (\d+) served reads=(\d+) writes=(\d+)", told)
        self.assertEqual([int(core) for core, _, _ in served], [first, second], told)
        self.assertTrue(all(int(reads) > 0 and int(writes) > 0 for _, reads, writes in served))
