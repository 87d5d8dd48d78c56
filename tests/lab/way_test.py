#!/usr/bin/python3
"""Verdicts over the ways to a device: each is shown both ways."""

import sys
import unittest

sys.dont_write_bytecode = True

import guest  # noqa: E402
import judge_way  # noqa: E402
import vfio_cases  # noqa: E402

WHERE = next(where for where in vfio_cases.BEST if where.kernel.name == "6.12")


def text(name: str, *lines: str) -> str:
    return "".join(f"{line}\n" for line in (f"begin {name}", *lines, f"end {name}"))


class copies(unittest.TestCase):
    QUEUE, DATA = 4 << 30, 0x7e01 << 32

    def passes(self, places: list[int], copied: int = 0, ios: int = 3) -> bool:
        def session(queue: int, data: list[int]) -> str:
            return "".join([f"pci_nvme_mmio_asqaddr wrote MMIO, address={queue:#x}\n",
                            f"pci_nvme_mmio_asqaddr_hi wrote MMIO, new_address={queue:#x}\n",
                            *[f"pci_nvme_map_prp trans_len 4096 len 4096 prp1 {place:#x} prp2 0x0\n"
                              for place in data]])

        said = f"served reads={ios} writes=0 bytes_read=9 payload_bytes_copied={copied}"
        report = guest.parse_report(text("target", "client came", said))
        kernels = session(0xfffff000, [0xffffe000] * 9)
        report.trace = kernels + session(self.QUEUE, places) + kernels
        return judge_way.nothing_is_copied(report, WHERE).passed

    def test_data_goes_past_the_memory_of_the_target(self) -> None:
        admin, data = [self.QUEUE + 4096] * 4, [self.DATA] * 3
        self.assertTrue(self.passes(admin + data))
        self.assertFalse(self.passes(admin + [self.QUEUE + 8192] * 3))  # through a bounce buffer
        self.assertFalse(self.passes([self.QUEUE + 4096] * 100 + data))
        self.assertFalse(self.passes(admin + data, copied=4096))
        self.assertFalse(self.passes(admin + data, ios=0))
        self.assertFalse(self.passes(admin + data[:2]))


if __name__ == "__main__":
    unittest.main()
