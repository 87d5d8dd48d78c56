"""What perf and identify print: whole, plausible, and measured without touching the heap."""

import json
import os
import re
import subprocess

import program

MIB = 1 << 20


class figures(program.program_case):
    def perf(self, *words: object) -> dict:
        done = self.succeed("perf", *words, "--time", "1", "--warmup", "0.2", "--json")
        return json.loads(done.out)

    def test_perf_says_what_it_measured(self) -> None:
        got = self.perf("null:1M")
        self.assertGreater(got["iops"], 0)
        self.assertGreater(got["bytes_per_second"], 0)
        self.assertEqual(got["errors"], 0)
        percentiles = ["min", "p50", "p90", "p99", "p99_9", "p99_99", "max"]
        latencies = [got["latency_ns"][name] for name in percentiles]
        self.assertEqual(latencies, sorted(latencies))
        self.assertTrue(all(isinstance(value, int) for value in latencies))
        self.assertTrue({"mean", "resolution"} <= got["latency_ns"].keys())
        self.assertIn("cpu_cycles_per_io", got)
        self.assertGreaterEqual(got["cores"][0]["off_core_share"], 0)

    def test_nothing_is_allocated_at_any_depth(self) -> None:
        self.serve("a.sock", "ram:16M")
        for depth in (1, 32, 128):
            for words in ([], ["--raw"], ["--rw", "randrw"]):
                got = self.perf(self.at("a.sock"), "--depth", depth, *words)
                self.assertEqual(got["heap_allocations"], 0, f"depth {depth} {words}")
                self.assertEqual(got["errors"], 0)

    def test_what_was_written_is_what_is_read(self) -> None:
        self.serve("a.sock", "ram:4M")
        got = self.perf(self.at("a.sock"), "--depth", 16, "--rw", "randrw", "--verify")
        self.assertEqual(got["errors"], 0)

    def test_an_open_loop_keeps_its_rate(self) -> None:
        got = self.perf("null:1M", "--rate", 10000)
        self.assertAlmostEqual(got["iops"], 10000, delta=1000)

    def test_what_could_not_be_had_is_said(self) -> None:
        image = self.random_file("disk.img", MIB)
        words = ("perf", f"file:{image}", "--time", "0.1", "--warmup", "0")
        humble = ("prlimit", "--memlock=4096")
        if os.geteuid() == 0:
            humble += ("setpriv", "--bounding-set=-all")
        done = program.run(*words, under=humble)
        self.assertEqual(done.status, 0, done.err)
        self.assertRegex(done.err, "note: file:.*(ulimit -l|io_uring is refused)")
        done = program.run("perf", "null:", "--time", "0.1", "--warmup", "0")
        free = program.huge_pages_free()
        self.assertEqual("vm.nr_hugepages" in done.err, free == 0, done.err)

    def test_long_work_shows_its_progress_on_a_terminal(self) -> None:
        ours, theirs = os.openpty()
        words = [str(program.binary), "perf", "null:", "--time", "0.5", "--warmup", "0"]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=theirs) as measured:
            self.assertEqual(measured.wait(timeout=program.RUN_SECONDS_MAX), 0)
        os.close(theirs)
        shown = os.read(ours, 65536).decode(errors="replace")
        os.close(ours)
        self.assertRegex(shown, r"\[=+ *\] 0 of 0 s")

    def test_the_demo_runs(self) -> None:
        done = self.succeed("demo").out.decode()
        sums = re.findall(r"\b[0-9a-f]{64}\b", done)
        self.assertEqual(len(sums) >= 2 and sums[0], sums[1], done)
        for word in ("e2fsck", "p99", "IOPS"):
            self.assertIn(word, done)

    def test_the_floor_is_measured(self) -> None:
        if len(os.sched_getaffinity(0)) < 2:
            self.assertEqual(program.run("floor").status, 1)
            return
        got = json.loads(self.succeed("floor", "--time", "0.05", "--json").out)
        self.assertGreater(got["ping_pong_cycles"], 0)
        self.assertIn(got["placement"], ("near", "far"))

    def test_identify_tells_sizes(self) -> None:
        self.serve("a.sock", "ram:8M", "ram:8M?block_size=4096")
        got = json.loads(self.succeed("identify", self.at("a.sock"), "--json").out)
        sizes = [namespace["nsze"] for namespace in got["namespaces"]]
        self.assertEqual(sizes, [8 * MIB // 512, 8 * MIB // 4096])

    def test_the_version_is_printed(self) -> None:
        self.assertRegex(self.succeed("--version").out.decode(), r"^runnel \d+\.\d+\.\d+\n$")
