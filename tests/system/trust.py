"""What perf says of a target that one should not trust: one that lies, or that stands still."""

import json
import signal
import time

import program


class trust(program.program_case):
    def test_a_dropped_write_is_noticed(self) -> None:
        self.notice("drop")

    def test_swapped_writes_are_noticed(self) -> None:
        self.notice("swap")

    def test_a_torn_write_is_noticed(self) -> None:
        self.notice("tear")

    def notice(self, lie: str) -> None:
        """One write in 10,000 is not what it should be."""
        target = self.start_program(program.lying_target, lie, self.folder / "a.sock")
        self.assertEqual(target.line(), "ready")
        done = program.run("perf", self.at("a.sock"), "--rw", "randrw", "--depth", 16, "--verify",
                           "--time", "2", "--warmup", "0", "--json")
        self.assertEqual(done.status, 1, done.err)
        self.assertGreater(json.loads(done.out)["verify_mismatches"], 0)
        self.assertRegex(done.err, "verify vfio-user:.* did not deliver the last")

    def test_a_stall_is_counted_for_all_that_waited(self) -> None:
        """Closed loops hide a stall: only what was in flight saw it. An open loop must not."""
        target = self.serve("a.sock", "ram:16M")
        load = self.start("perf", self.at("a.sock"), "--rate", 5000, "--time", 5, "--json")
        load.await_work(1.5)
        target.process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)  # nothing is waited for: this is the stall
        target.process.send_signal(signal.SIGCONT)
        got = json.loads(load.finish().out)
        self.assertGreaterEqual(got["latency_ns"]["p99"], 100_000_000)
        self.assertLess(got["latency_ns"]["p50"], 100_000_000)
        self.assertAlmostEqual(got["iops"], 5000, delta=500)
