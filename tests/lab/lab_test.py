#!/usr/bin/python3
"""What the lab does without a guest: archives, modules, reports and verdicts.

Each test feeds a hand-made input and looks at what comes out; verdicts are shown both ways,
because a judge that always says yes would never be noticed.
"""

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True

import debian  # noqa: E402
import guest  # noqa: E402
import initramfs  # noqa: E402
import judge  # noqa: E402

MSIX_INTERRUPTS = """begin interrupts
 24:          0         14  PCI-MSIX-0000:00:01.0   0-edge      nvme0q0
 25:        108          0  PCI-MSIX-0000:00:01.0   1-edge      nvme0q1
 26:          0       2248  PCI-MSIX-0000:00:01.0   2-edge      nvme0q2
end interrupts
"""
STAT = "stat     259        0   131096     1143     2114        0   131072     1902\n"
MAPPED = "vfio_region_mmap Region vfio BAR 0 mmaps[0] [0x1000 - 0x1fff]\n"


def doorbell(offset: int) -> str:
    return f"vfio_region_write  (vfio:region0+{offset:#x}, 0x1, 4)\n"


class archives(unittest.TestCase):
    def test_every_entry_is_aligned_and_comes_after_its_parents(self) -> None:
        archive = initramfs.archive_file()
        archive.add_file("bin/tool", b"12345")
        archive.add_file("bin/other", b"")
        data = archive.finish()
        names = []
        stream = io.BytesIO(data)
        while header := stream.read(110):
            self.assertEqual(header[:6], b"070701")
            size, name_size = int(header[54:62], 16), int(header[94:102], 16)
            names.append(stream.read(name_size)[:-1].decode())
            stream.seek(-stream.tell() % 4, io.SEEK_CUR)
            stream.seek(size + -size % 4, io.SEEK_CUR)
        self.assertEqual(names, ["bin", "bin/tool", "bin/other", "TRAILER!!!"])

    def test_a_module_names_what_it_needs(self) -> None:
        module = b"\x7fELF\0license=GPL\0depends=nvme-core,nvme-auth\0name=nvme\0"
        self.assertEqual(initramfs.module_dependencies(module), ["nvme-core", "nvme-auth"])
        self.assertEqual(initramfs.module_dependencies(b"a\0depends=\0b"), [])


class reports(unittest.TestCase):
    def test_facts_and_texts_are_told_apart(self) -> None:
        report = guest.parse_report(
            "kernel 6.12\r\nvector 24 msix\r\nvector 25 msix\r\n"
            'begin id-ctrl\r\n{\r\n"end": 1}\r\nend id-ctrl\r\nfinished\r\n')
        self.assertEqual(report.fact("kernel"), "6.12")
        self.assertEqual(report.facts["vector"], ["24 msix", "25 msix"])
        self.assertEqual(json.loads(report.texts["id-ctrl"]), {"end": 1})
        self.assertIn("finished", report.facts)

    def test_a_text_cut_off_by_a_crash_is_not_reported(self) -> None:
        report = guest.parse_report("kernel 6.12\nbegin id-ctrl\n{")
        self.assertEqual(report.texts, {})
        self.assertNotIn("finished", report.facts)


class verdicts(unittest.TestCase):
    def test_data_that_changed_fails(self) -> None:
        report = guest.parse_report("read abc\n")
        self.assertTrue(judge.data_is_equal(report, "abc", 64).passed)
        self.assertFalse(judge.data_is_equal(report, "abd", 64).passed)
        self.assertFalse(judge.data_is_equal(guest.boot_report(), "abc", 64).passed)

    def test_msix_needs_every_vector_and_an_interrupt_on_every_queue(self) -> None:
        vectors = "vector 24 msix\nvector 25 msix\nvector 26 msix\n"
        self.assertTrue(judge.msix_works(guest.parse_report(vectors + MSIX_INTERRUPTS)).passed)
        for broken in (
            MSIX_INTERRUPTS,  # no vector
            vectors + "vector 27 msi\n" + MSIX_INTERRUPTS,
            vectors + MSIX_INTERRUPTS.replace("2248", "0"),
            vectors + MSIX_INTERRUPTS.replace("nvme0q2", "nvme0q3"),
        ):
            self.assertFalse(judge.msix_works(guest.parse_report(broken)).passed)

    def test_intx_needs_one_shared_line_that_interrupted(self) -> None:
        line = "begin interrupts\n 22: 5 {} IO-APIC 22-fasteoi nvme0q0, nvme0q1\nend interrupts\n"
        self.assertTrue(judge.intx_works(guest.parse_report(line.format(3))).passed)
        self.assertFalse(judge.intx_works(guest.parse_report(MSIX_INTERRUPTS)).passed)
        self.assertFalse(
            judge.intx_works(guest.parse_report("vector 24 msix\n" + line.format(3))).passed)

    def test_a_doorbell_message_counts_only_once_the_driver_has_msix(self) -> None:
        report = guest.parse_report(STAT)
        firmware = MAPPED + doorbell(0x1000) + "vfio_msix_enable  (vfio)\n"
        for trace, passed in (
            (firmware + doorbell(0x14), True),  # a register, not a doorbell
            (firmware + doorbell(0x1040), False),
            (firmware.replace(MAPPED, ""), False),
            (MAPPED, False),  # the driver never came
        ):
            report.trace = trace
            self.assertEqual(judge.doorbells_are_mapped(report).passed, passed, trace)
        report.trace = firmware
        self.assertTrue(judge.doorbells_are_trapped(report).passed)
        report.trace = MAPPED
        self.assertFalse(judge.doorbells_are_trapped(report).passed)

    def test_identify_compares_through_padding_and_names_what_differs(self) -> None:
        controller = dict.fromkeys(judge.CONTROLLER_FIELDS, 1) | {"mn": "Runnel   "}
        space = {"nsze": 8, "ncap": 8, "flbas": 1, "lbafs": [{"ds": 9}, {"ds": 12}]}
        report = guest.parse_report(f"begin id-ctrl\n{json.dumps(controller)}\nend id-ctrl\n"
                                    f"begin id-ns\n{json.dumps(space)}\nend id-ns\n")
        ours = {"controller": controller | {"mn": "Runnel"},
                "namespaces": [{"nsze": 8, "ncap": 8, "flbas": 1, "lba_bytes": 4096}]}
        self.assertTrue(judge.identify_agrees(report, ours).passed)
        ours["controller"]["mdts"] = 5
        told = judge.identify_agrees(report, ours)
        self.assertFalse(told.passed)
        self.assertIn("mdts: nvme-cli 1, runnel 5", told.detail)

    def test_a_copy_is_judged_by_its_first_bytes(self) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x" * (1 << 20) + b"rest")
            file.flush()
            digest = hashlib.sha256(b"x" * (1 << 20)).hexdigest()
            self.assertTrue(judge.copy_is_equal(Path(file.name), digest, 1).passed)
            self.assertFalse(judge.copy_is_equal(Path(file.name), digest, 2).passed)


class trees(unittest.TestCase):
    def test_a_failed_command_becomes_one_line(self) -> None:
        with self.assertRaisesRegex(debian.lab_error, "^`false` failed: no output$"):
            debian.run(["false"])
        with self.assertRaisesRegex(debian.lab_error, "is not here"):
            debian.run(["no-such-program"])

    def test_the_lab_lists_its_cases_without_a_cache(self) -> None:
        lab = Path(__file__).with_name("lab.py")
        done = subprocess.run([sys.executable, str(lab), "--list"], check=True, text=True,
                              capture_output=True, env={"XDG_CACHE_HOME": "/nonexistent"})
        self.assertIn("vfio-user", done.stdout)


if __name__ == "__main__":
    unittest.main()
