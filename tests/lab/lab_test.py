#!/usr/bin/python3
"""What the lab does without a guest: archives, modules, reports and verdicts.

Each test feeds a hand-made input and looks at what comes out; verdicts are shown both ways,
because a judge that always says yes would never be noticed.
"""

import hashlib
import io
import json
import lzma
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True

import debian  # noqa: E402
import guest  # noqa: E402
import initramfs  # noqa: E402
import judge  # noqa: E402
import kernels  # noqa: E402
import lab  # noqa: E402
import laboratory  # noqa: E402
import monitor  # noqa: E402
import own_kernel  # noqa: E402
import results  # noqa: E402
import vfio_cases  # noqa: E402

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

    def test_modules_are_loaded_after_what_they_need_unless_it_is_built_in(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "vfio-pci.ko").write_bytes(b"\0depends=vfio-pci-core,irqbypass\0")
            (folder / "vfio-pci-core.ko.xz").write_bytes(lzma.compress(b"\0depends=vfio\0"))
            (folder / "vfio.ko").write_bytes(b"\0depends=\0")
            (folder / "modules.builtin").write_text("kernel/virt/lib/irqbypass.ko\n")
            order = initramfs.load_order(folder, ["vfio-pci", "vfio"])
            self.assertEqual(list(order), ["vfio", "vfio_pci_core", "vfio_pci"])
            self.assertEqual(order["vfio_pci_core"], b"\0depends=vfio\0")
            self.assertEqual(initramfs.load_order(folder, ["irqbypass"]), {})
            with self.assertRaisesRegex(debian.lab_error, "has no module nvme"):
                initramfs.load_order(folder, ["nvme"])


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
    def test_data_that_changed_or_was_not_read_every_time_fails(self) -> None:
        report = guest.parse_report("read abc\n")
        self.assertTrue(judge.data_is_equal(report, "abc", 64).passed)
        self.assertFalse(judge.data_is_equal(report, "abd", 64).passed)
        self.assertFalse(judge.data_is_equal(report, "abc", 64, reads=2).passed)
        self.assertFalse(judge.data_is_equal(guest.boot_report(), "abc", 64).passed)
        twice = guest.parse_report("read abc\nread abc\n")
        self.assertTrue(judge.data_is_equal(twice, "abc", 64, reads=2).passed)
        changed = guest.parse_report("read abd\nread abc\n")
        self.assertFalse(judge.data_is_equal(changed, "abc", 64, reads=2).passed)

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

    def test_msix_is_asked_of_every_queue_of_every_disk(self) -> None:
        report = guest.parse_report("vector 24 msix\n" + MSIX_INTERRUPTS)
        self.assertFalse(judge.msix_works(report, queues=3).passed)
        self.assertFalse(judge.msix_works(report, disks=2).passed)
        second = MSIX_INTERRUPTS.replace("nvme0", "nvme1").partition("\n")[2]
        both = MSIX_INTERRUPTS.removesuffix("end interrupts\n") + second
        report = guest.parse_report("vector 24 msix\n" + both)
        self.assertTrue(judge.msix_works(report, disks=2).passed)

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

    def test_trapped_and_shadowed_doorbells_differ_in_the_number_of_messages(self) -> None:
        report = guest.parse_report(STAT)  # 2373 commands
        driver = "vfio_msix_enable  (vfio)\n"
        for messages, trapped, shadowed in ((0, False, False), (100, False, True),
                                            (900, False, False), (1500, True, False)):
            report.trace = driver + doorbell(0x1008) * messages
            self.assertEqual(judge.doorbells_are_trapped(report).passed, trapped, messages)
            self.assertEqual(judge.doorbells_are_shadowed(report).passed, shadowed, messages)
            report.trace = MAPPED + report.trace
            self.assertFalse(judge.doorbells_are_trapped(report).passed)
            self.assertFalse(judge.doorbells_are_shadowed(report).passed)

    def test_a_shared_line_has_doorbells_come_as_messages(self) -> None:
        report = guest.parse_report(STAT)
        report.trace = MAPPED
        self.assertFalse(judge.doorbells_come_as_messages(report).passed)
        report.trace = MAPPED + doorbell(0x1000)
        self.assertTrue(judge.doorbells_come_as_messages(report).passed)

    def test_memory_comes_in_pages_when_they_outnumber_the_commands(self) -> None:
        report = guest.parse_report(STAT)
        whole = "vfio_user_dma_map  iova 0x0 size 0x40000000 off 0x0 flags 0x3 async_ops 1\n"
        page = "vfio_user_dma_map  iova 0xfff00000 size 0x1000 off 0x5000 flags 0x3 async_ops 0\n"
        for trace, passed in ((whole * 500, False), (whole + page * 2373, False),
                              (whole + page * 2374, True)):
            report.trace = trace
            self.assertEqual(judge.memory_comes_in_pages(report).passed, passed)

    def test_memory_is_judged_by_page_and_by_the_node_of_each_core(self) -> None:
        text = ('begin giant\n{{"page_bytes": {}, "cores": [{{"core": 1, "memory_node": {}}}]}}\n'
                "end giant\n")
        for page_bytes, node, passed in ((1 << 30, 1, True), (4096, 1, False), (1 << 30, 0, False),
                                         (1 << 30, "null", False)):
            report = guest.parse_report(text.format(page_bytes, node))
            self.assertEqual(judge.memory_is(report, "giant", 1 << 30, {1: 1}).passed, passed)

    def test_a_reboot_is_two_boots_over_one_connection(self) -> None:
        for boots, passed in ((1, False), (2, True), (3, False)):
            report = guest.parse_report("kernel 6.12\n" * boots)
            self.assertEqual(judge.booted_twice(report).passed, passed, boots)
        came = "[2026-01-01 00:00:00.000] [target] [info] /x: client came\n"
        for log, passed in (("", False), (came, True), (came * 2, False),
                            (came + came.replace("info] /x: client came", "warning] /x: bad"),
                             False)):
            self.assertEqual(judge.client_stayed(log).passed, passed, log)

    def test_a_refusal_is_the_controllers_own_and_quick(self) -> None:
        text = ("refused {}\nbegin refusal\n[ 13.2] nvme nvme0: Device not ready; aborting "
                "initialisation, CSTS={}\nend refusal\n")
        for seconds, status, passed in ((11, "0x2", True), (60, "0x2", False),
                                        (11, "0x0", False), (11, "0x1", False)):
            report = guest.parse_report(text.format(seconds, status))
            self.assertEqual(judge.controller_failed(report).passed, passed, status)
        self.assertFalse(judge.controller_failed(guest.boot_report()).passed)

    def test_the_remedy_is_told_in_one_line(self) -> None:
        line = "[target] [warning] /x: cannot enable: give QEMU memory-backend-memfd,share=on\n"
        self.assertTrue(judge.remedy_is_told("ready\n" + line).passed)
        self.assertFalse(judge.remedy_is_told(line * 2).passed)
        self.assertFalse(judge.remedy_is_told("[target] [warning] /x: no\n").passed)

    def test_identify_compares_through_padding_and_names_what_differs(self) -> None:
        controller = dict.fromkeys(judge.CONTROLLER_FIELDS, 1) | {"mn": "Runnel   "}
        space = {"nsze": 8, "ncap": 8, "flbas": 1, "lbafs": [{"ds": 9}, {"ds": 12}]}
        report = guest.parse_report(f"begin id-ctrl 0\n{json.dumps(controller)}\nend id-ctrl 0\n"
                                    f"begin id-ns 0\n{json.dumps(space)}\nend id-ns 0\n")
        ours: dict[str, Any] = {
            "controller": controller | {"mn": "Runnel"},
            "namespaces": [{"nsze": 8, "ncap": 8, "flbas": 1, "lba_bytes": 4096}]}
        self.assertTrue(judge.identify_agrees(report, ours).passed)
        ours["controller"]["mdts"] = 5
        told = judge.identify_agrees(report, ours)
        self.assertFalse(told.passed)
        self.assertIn("mdts: nvme-cli 1, runnel 5", told.detail)

    def test_a_disk_is_known_by_its_serial_number(self) -> None:
        report = guest.parse_report('begin id-ctrl 0\n{"sn": "b   "}\nend id-ctrl 0\n'
                                    'begin id-ctrl 1\n{"sn": "a   "}\nend id-ctrl 1\n')
        self.assertEqual(judge.disk_number(report, {"controller": {"sn": "a"}}), 1)
        self.assertEqual(judge.disk_number(report, {"controller": {"sn": "b"}}), 0)
        with self.assertRaisesRegex(LookupError, "serial number c"):
            judge.disk_number(report, {"controller": {"sn": "c"}})

    def test_a_copy_is_judged_by_the_bytes_from_where_the_data_was_put(self) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x" * (1 << 20) + b"rest")
            file.flush()
            digest = hashlib.sha256(b"x" * (1 << 20)).hexdigest()
            self.assertTrue(judge.copy_is_equal(Path(file.name), digest, 1).passed)
            self.assertFalse(judge.copy_is_equal(Path(file.name), digest, 2).passed)
            self.assertFalse(judge.copy_is_equal(Path(file.name), digest, 1, first_mib=1).passed)
            file.seek(0)
            file.write(b"y" * (1 << 20) + b"x" * (1 << 20))
            file.flush()
            self.assertTrue(judge.copy_is_equal(Path(file.name), digest, 1, first_mib=1).passed)


class monitors(unittest.TestCase):
    def test_an_answer_is_one_line_and_events_between_are_skipped(self) -> None:
        ours, theirs = socket.socketpair()
        asked = []

        def be_qemu() -> None:
            with theirs, theirs.makefile("rw") as lines:
                lines.write('{"QMP": {}}\n')
                lines.flush()
                for answers in (['{"return": {}}'],
                                ['{"event": "DEVICE_DELETED"}', '{"return": {}}'],
                                ['{"error": {"class": "GenericError", "desc": "no such bus"}}'],
                                ['{"return": "OK id: disk\\r\\n"}']):
                    asked.append(json.loads(lines.readline())["execute"])
                    lines.write("".join(f"{answer}\n" for answer in answers))
                    lines.flush()

        qemu = threading.Thread(target=be_qemu)
        qemu.start()
        with ours:
            client = monitor.monitor(ours)
            answers = [client.execute(f'{{"execute": "{name}"}}') for name in "abc"]
            qemu.join()
            with self.assertRaisesRegex(debian.lab_error, "monitor does not answer"):
                client.execute('{"execute": "d"}')
        self.assertEqual(asked, ["qmp_capabilities", "a", "b", "c"])
        self.assertEqual(answers, ["ok", "error: no such bus", "OK id: disk"])


class packages(unittest.TestCase):
    def test_the_newest_kernel_of_a_series_is_taken_and_no_other_build_of_it(self) -> None:
        names = ["linux-image-6.12.9+deb12-amd64", "linux-image-6.12.90+deb12-amd64",
                 "linux-image-6.12.90+deb12.1-amd64", "linux-image-6.12.95+deb12-rt-amd64",
                 "linux-image-6.12.95+deb12-amd64-unsigned", "linux-image-6.1.0-50-amd64",
                 "linux-image-6.1.0-9-amd64", "linux-modules-6.12.90+deb12.1-amd64",
                 "linux-modules-6.12.9+deb12-amd64", "linux-base-6.12.90+deb12.1-amd64"]
        self.assertEqual(debian.newest(names, kernels.package_names("6.12")), [names[2], names[7]])
        self.assertEqual(debian.newest(names, kernels.package_names("6.1")), [names[5]])
        with self.assertRaisesRegex(debian.lab_error, "no package linux-"):
            debian.newest(names, kernels.package_names("5.10"))

    def test_an_option_that_the_kernel_did_not_take_is_named(self) -> None:
        wanted = "# why\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_C=y\n"
        self.assertEqual(own_kernel.refused_options(wanted, "CONFIG_A=y\n# CONFIG_C is not set\n"),
                         ["CONFIG_B=m", "CONFIG_C=y"])


class places(unittest.TestCase):
    def test_every_transport_of_every_kernel_is_tried_on_every_platform(self) -> None:
        rows = [str(where) for where in vfio_cases.PLACES]
        self.assertEqual(len(rows), len(set(rows)))
        self.assertEqual(len(rows), 8 * sum(len(one.transports) for one in kernels.KERNELS))
        self.assertIn("own/cdev/39/plain", rows)
        self.assertIn("own/cdev/39/plain/huge", rows)

    def test_the_lane_runs_some_rows_and_others_are_for_who_names_them(self) -> None:
        def rows(*words: str) -> list[str]:
            return [case.title for case in lab.choose(lab.word_parser().parse_args(words))]

        self.assertEqual(rows("vfio", "--only", "bed"),
                         ["bed/6.12/group/39/plain", "bed/6.12/group/48/remapping"])
        self.assertEqual(rows("vfio", "--only", "unbind"),
                         ["unbind/own/cdev/48/remapping"])
        self.assertEqual(len(rows("vfio", "--only", "bed", "--all")), 28)
        self.assertEqual(rows("--only", "bed/own/cdev/48/*"),
                         ["bed/own/cdev/48/plain", "bed/own/cdev/48/remapping"])
        self.assertEqual(rows("--kernel", "5.10", "--only", "plug"),
                         ["plug/5.10/group/48/remapping"])

    def test_the_table_has_a_line_for_each_place_and_a_column_for_each_case(self) -> None:
        where = vfio_cases.PLACES[-1]
        bed = replace(vfio_cases.CASES[0], where=where)
        other = replace(bed, where=replace(where, remapping=False))
        plug = replace(bed, name="plug")
        moved = [judge.verdict("perf", True, "", {"MiB": 5})]
        lines = results.table([results.result(bed, 7.6, moved), results.result(plug, failure="x"),
                               results.result(other, 3.0)]).splitlines()
        self.assertEqual([line.split() for line in lines],
                         [["kernel", "transport", "aw-bits", "remapping", "pages", "bed", "plug"],
                          ["7.2", "group", "48", "on", "2", "MiB", "ok", "8", "s,", "5", "MiB",
                           "FAILED", "0", "s"],
                          ["7.2", "group", "48", "off", "2", "MiB", "ok", "3", "s"]])
        self.assertEqual(results.table([results.result(replace(bed, where=None))]), "")


class runs(unittest.TestCase):
    def test_a_case_that_breaks_is_a_row_that_failed(self) -> None:
        def broken(_lab: laboratory.laboratory, _folder: Path) -> list[judge.verdict]:
            raise BrokenPipeError("it has ended")

        outcome = lab.run(laboratory.lab_case("bed", "vfio", "", broken),
                          laboratory.laboratory(Path("runnel"), Path("suite"), Path("cache")))
        self.assertFalse(outcome.passed)
        self.assertEqual(outcome.failure, "BrokenPipeError: it has ended")


class trees(unittest.TestCase):
    def test_a_failed_command_becomes_one_line(self) -> None:
        with self.assertRaisesRegex(debian.lab_error, "^`false` failed: no output$"):
            debian.run(["false"])
        with self.assertRaisesRegex(debian.lab_error, "is not here"):
            debian.run(["no-such-program"])
        with self.assertRaisesRegex(debian.lab_error, "failed: a.c:1:2: error: no b$"):
            debian.run(["sh", "-c", "echo CC a.o; echo a.c:1:2: error: no b >&2; echo 2; false"])

    def test_the_lab_lists_its_cases_without_a_cache(self) -> None:
        lab = Path(__file__).with_name("lab.py")
        done = subprocess.run([sys.executable, str(lab), "--list"], check=True, text=True,
                              capture_output=True, env={"XDG_CACHE_HOME": "/nonexistent"})
        self.assertIn("vfio-user", done.stdout)


if __name__ == "__main__":
    unittest.main()
