#!/usr/bin/python3
"""Verdicts over what `runnel doctor` says: each is shown both ways."""

import copy
import json
import lzma
import sys
import unittest
from typing import Any

sys.dont_write_bytecode = True

import bpftool  # noqa: E402
import debian  # noqa: E402
import doctor_cases  # noqa: E402
import guest  # noqa: E402
import judge_doctor  # noqa: E402
import vfio_cases  # noqa: E402

WHERE = next(where for where in vfio_cases.BEST if where.kernel.name == "6.12")


def check_of(name: str, **changed: str) -> dict[str, str]:
    return {"id": name, "status": "ok", "cause": "it is there", "remedy": ""} | changed


def diagnosis(checks: list[dict[str, str]], **others: Any) -> str:
    return json.dumps({"checks": checks, "interfaces": [], "devices": [], "structures": []}
                      | others)


def reported(text: str, *facts: str) -> guest.boot_report:
    return guest.parse_report("\n".join([*facts, "begin doctor", text, "end doctor", ""]))


class rows(unittest.TestCase):
    def test_the_lane_has_what_is_quick_and_each_kernel_has_a_row(self) -> None:
        rows = {case.title: case for case in doctor_cases.CASES}
        for title in ("doctor/6.12/group/39/plain", "structures/6.12/group/48/remapping"):
            self.assertTrue(rows[title].always, title)
        for kernel in ("5.10", "6.1", "6.18", "7.2"):
            for name in ("doctor", "iommu", "structures"):
                self.assertFalse(rows[f"{name}/{kernel}/group/48/remapping"].always)
        self.assertIn("doctor/own/cdev/48/remapping", rows)
        self.assertNotIn("structures/own/cdev/48/remapping", rows)

    def test_each_cause_is_of_a_check_that_there_is(self) -> None:
        for where in doctor_cases.of_each_kernel(vfio_cases.EXTREMES):
            for cause in (*doctor_cases.mended_in(where), *doctor_cases.told_in(where)):
                self.assertIn(cause.id, judge_doctor.IDS)


class causes(unittest.TestCase):
    WANTED = judge_doctor.cause("memlock", "failed", ("64 KiB", "`ulimit"))
    TOLD = "said failed memlock 64 KiB may be locked; remedy: `ulimit -S -l 65536`"

    def passes(self, *facts: str) -> bool:
        report = reported("", *facts)
        return judge_doctor.is_mended(report, WHERE, self.WANTED).passed

    def test_a_cause_is_told_and_later_it_is_ok(self) -> None:
        self.assertTrue(self.passes(self.TOLD, "said ok memlock 65536 KiB may be locked"))
        self.assertTrue(self.passes("said ok cpuset all", self.TOLD, self.TOLD,
                                    "said ok memlock x"))
        self.assertFalse(self.passes())
        self.assertFalse(self.passes(self.TOLD))
        self.assertFalse(self.passes(self.TOLD, "said ok cpuset all"))
        self.assertFalse(self.passes("said ok memlock x", self.TOLD))
        for wrong in (self.TOLD.replace("failed", "warning"), self.TOLD.replace("`ulimit", "it"),
                      self.TOLD.replace("memlock", "hugepages")):
            self.assertFalse(self.passes(wrong, "said ok memlock x"), wrong)

    def test_what_no_command_mends_is_told_at_the_end(self) -> None:
        wanted = judge_doctor.cause("iommufd", "warning", ("no /dev/iommu", "CONFIG_IOMMUFD"))
        good = check_of("iommufd", status="warning", cause="there is no /dev/iommu",
                        remedy="a kernel with CONFIG_IOMMUFD")
        for told, passed in (([good], True), ([], False), ([good | {"status": "ok"}], False),
                             ([good | {"remedy": "none"}], False), ([good, good], False)):
            report = reported(diagnosis(told))
            self.assertEqual(judge_doctor.is_told(report, WHERE, wanted).passed, passed, told)

    def test_the_rest_is_ok_and_so_is_the_exit_status(self) -> None:
        good = [check_of(name) for name in judge_doctor.IDS - {"iommufd"}]
        warned = check_of("iommufd", status="warning", remedy="a kernel")
        failed = check_of("iommufd", status="warning")
        cases = (([*good, warned], "0", True), ([*good, warned], "1", False),
                 ([*good, check_of("iommufd")], "0", False), ([*good, failed], "0", False),
                 ([*good[1:], warned], "0", False))
        for told, status, passed in cases:
            report = reported(diagnosis(told), f"status {status}")
            found = judge_doctor.rest_is_well(report, WHERE, ("iommufd",))
            self.assertEqual(found.passed, passed, found.detail)


class ways(unittest.TestCase):
    def passes(self, works: list[str], why: str = "so") -> bool:
        told = [{"name": name, "works": name in works, "why": why}
                for name in ("cdev", "group", *judge_doctor.SOFT_WAYS)]
        report = reported(diagnosis([], interfaces=told))
        return judge_doctor.ways_are(report, WHERE, ("group",)).passed

    def test_those_that_work_are_the_transport_and_those_without_a_device(self) -> None:
        soft = judge_doctor.SOFT_WAYS
        self.assertTrue(self.passes(["group", *soft]))
        self.assertFalse(self.passes(["cdev", "group", *soft]))
        self.assertFalse(self.passes(soft))
        self.assertFalse(self.passes(["group", *soft[1:]]))
        self.assertFalse(self.passes(["group", *soft], why=""))

    def test_a_device_comes_by_the_transport_or_is_to_be_bound(self) -> None:
        def passes(first: str, second: str, why: str) -> bool:
            told = [{"address": "A", "transport": first, "why": "best"},
                    {"address": "B", "transport": second, "why": why}]
            report = reported(diagnosis([], devices=told))
            return judge_doctor.devices_are(report, WHERE, "A", "B").passed

        self.assertTrue(passes("group", "none", "nvme has it; `runnel bind B`"))
        self.assertFalse(passes("cdev", "none", "nvme has it; `runnel bind B`"))
        self.assertFalse(passes("group", "group", "nvme has it; `runnel bind B`"))
        self.assertFalse(passes("group", "none", "nvme has it"))


class structures(unittest.TestCase):
    TYPES = [{"kind": "STRUCT", "name": name, "size": 16, "members": [
        {"name": "kvm", "bits_offset": 0}, {"name": "open", "bits_offset": 64, "bitfield_size": 1},
        {"name": "(anon)", "bits_offset": 96}]}
        for name in ("vfio_device", "a", "b", "c", "d")] + [{"kind": "PTR", "name": "(anon)"}]
    TEXT = "".join(f"struct {name} {{\n\tstruct kvm___2 *kvm;\n\tu8 open: 1;\n\tunion {{\n"
                   "\t\tint one;\n\t};\n};\n\n" for name in ("vfio_device", "a", "b", "c", "d"))
    SAID = [{"name": name, "kernel": "6.12", "source": "btf", "bytes": 16, "from": "/sys",
             "why": None, "fields": [
                 {"name": "kvm", "declaration": "struct kvm *kvm", "offset_bits": 0, "bits": None},
                 {"name": "open", "declaration": "u8 open: 1", "offset_bits": 64, "bits": 1},
                 {"name": "", "declaration": "union { int one; }", "offset_bits": 96,
                  "bits": None}]}
            for name in ("vfio_device", "a", "b", "c", "d")]

    def passes(self, *path: Any, to: Any = None) -> bool:
        """@param path  to what is changed in what our program said"""
        said: Any = copy.deepcopy(self.SAID)
        if path:
            place = said
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = to
        return judge_doctor.structures_agree(said, bpftool.parse(self.TYPES, self.TEXT)).passed

    def test_size_places_and_types_are_those_of_bpftool(self) -> None:
        self.assertTrue(self.passes())
        for path, wrong in (((0, "bytes"), 24), ((1, "source"), "table"), ((2, "name"), "e"),
                            ((3, "fields", 0, "offset_bits"), 8), ((4, "fields", 1, "bits"), 2),
                            ((0, "fields", 1, "declaration"), "u8 open"),
                            ((0, "fields", 0, "name"), "kvm2"), ((0, "fields"), [])):
            self.assertFalse(self.passes(*path, to=wrong), path)
        self.assertFalse(judge_doctor.structures_agree([], {}).passed)

    def test_a_kernel_that_tells_nothing_has_the_table_of_its_nearest(self) -> None:
        def passes(**changed: Any) -> bool:
            said = [one | {"source": "table", "from": "5.19", "why": "no BTF"}
                    for one in self.SAID]
            said[0] |= changed
            return judge_doctor.structures_are_known_only(said, "5.19").passed

        self.assertTrue(passes())
        for wrong in ({"source": "btf"}, {"from": "5.8"}, {"why": None}, {"fields": []}):
            self.assertFalse(passes(**wrong), wrong)

    def test_a_kernel_is_found_in_a_boot_image(self) -> None:
        kernel = bpftool.ELF + b"kernel" * 1000
        decoy = lzma.compress(b"initial memory")
        image = b"code" + bpftool.XZ + decoy + lzma.compress(kernel) + b"rest"
        self.assertEqual(bpftool.unpack_kernel(image), kernel)
        with self.assertRaisesRegex(debian.lab_error, "no kernel in a boot image"):
            bpftool.unpack_kernel(b"code" + decoy)


if __name__ == "__main__":
    unittest.main()
