"""Clients that behave as badly as they can cost themselves alone: another one keeps its I/O.

Method: one target and one core serve both; while the bad one is at it, `perf --verify` runs on the
other listener, and must see no error and not lose its speed. A host that takes our processors away
slows a run as well, but not each one of several: the best counts.
"""

import json
import os
import struct
import time
from collections.abc import Callable

import program
from raw_client import BAR0, DMA_MAP, PAGE, REGION_READ, map_payload, raw_client

IOPS_SHARE_MIN = 0.02  # of an undisturbed run; 0.56 to 0.9 on two idle cores
RUNS_MAX = 4


class hostile(program.program_case):
    def setUp(self) -> None:
        super().setUp()
        self.target = self.serve("good.sock", "ram:16M", options=("--listen", self.at("bad.sock")))

    def test_memory_that_shrinks(self) -> None:
        self.disturb(self.shrink)

    def test_descriptors_of_the_wrong_kind(self) -> None:
        self.disturb(self.send_wrong_descriptors)

    def test_replies_that_are_never_read(self) -> None:
        self.disturb(self.never_read)

    def test_maps_without_end(self) -> None:
        self.disturb(self.map_without_end)

    def disturb(self, attack: Callable[[raw_client], None]) -> None:
        alone = self.iops(self.perf())
        files = self.open_files()
        shares = [self.iops_beside(attack) / alone]
        while shares[-1] <= IOPS_SHARE_MIN and len(shares) < RUNS_MAX:
            shares.append(self.iops_beside(attack) / alone)
        self.assertGreater(shares[-1], IOPS_SHARE_MIN, shares)
        program.await_condition(lambda: self.open_files() <= files, "what the bad client left")
        self.assertEqual(self.target.end().status, 0)

    def iops_beside(self, attack: Callable[[raw_client], None]) -> float:
        load = self.perf()
        while load.process.poll() is None:
            client = raw_client(self.folder / "bad.sock")
            attack(client)
            client.close()
        return self.iops(load)

    def iops(self, load: program.started) -> float:
        got = json.loads(load.finish().out)
        self.assertEqual(got["errors"], 0)
        return got["iops"]

    def perf(self) -> program.started:
        return self.start("perf", self.at("good.sock"), "--rw", "randrw", "--depth", 4, "--verify",
                          "--time", 1, "--warmup", 0, "--json")

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.target.process.pid}/fd"))

    def shrink(self, client: raw_client) -> None:
        """The queues' memory is gone when the controller wants to read a command."""
        os.ftruncate(client.memory, 2 * PAGE)
        self.assertEqual(client.map(client.memory, 0, 2 * PAGE), 0)
        client.enable_controller()
        os.ftruncate(client.memory, 0)
        client.send(10, struct.pack("<QII", 0x1000, BAR0, 4) + struct.pack("<I", 1))
        with self.assertRaises(ConnectionError):
            while True:
                client.request(REGION_READ, struct.pack("<QII", 0x1C, BAR0, 4))

    def send_wrong_descriptors(self, client: raw_client) -> None:
        ours, theirs = os.pipe()
        folder = os.open(self.folder, os.O_RDONLY)
        for wrong in (ours, theirs, folder, client.socket.fileno()):
            self.assertNotEqual(client.map(wrong, 0, PAGE), 0)
        for each in (ours, theirs, folder):
            os.close(each)

    def never_read(self, client: raw_client) -> None:
        client.socket.settimeout(0.5)
        try:
            while True:
                client.send(REGION_READ, struct.pack("<QII", 0, BAR0, PAGE))
        except (TimeoutError, ConnectionError):
            pass

    def map_without_end(self, client: raw_client) -> None:
        os.ftruncate(client.memory, PAGE)
        burst = 100
        refused = 0
        end = time.monotonic() + program.RUN_SECONDS_MAX
        for first in range(0, 100_000, burst):
            for number in range(first, first + burst):
                client.send(DMA_MAP, map_payload(number * PAGE, PAGE), (client.memory,))
            refused += sum(client.receive()[0] != 0 for _ in range(burst))
            self.assertLess(time.monotonic(), end)
        self.assertGreater(refused, 0)
