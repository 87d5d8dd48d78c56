#!/usr/bin/python3
"""Verdicts over guests whose kernel gives a device to programs: each is shown both ways."""

import json
import sys
import unittest

sys.dont_write_bytecode = True

import guest  # noqa: E402
import judge_vfio  # noqa: E402
import vfio_cases  # noqa: E402


class vfio_verdicts(unittest.TestCase):
    CDEV = next(where for where in vfio_cases.PLACES if where.transport == "cdev"
                and where.address_bits == 48 and where.remapping)
    GROUP = next(where for where in vfio_cases.PLACES if where.kernel.name == "6.12")

    def test_a_platform_is_known_by_its_width_and_by_the_interrupts_in_use(self) -> None:
        text = ("kernel 6.12\niommu {:#x} {:#x}\nbegin interrupts\n 26: 1 {}PCI-MSIX nvme0q0\n"
                "end interrupts\n")
        wide, narrow, remaps = 47 << 16, 38 << 16, 8
        for bits, more, chip, passed in ((wide, remaps, "IR-", True), (wide, remaps, "", False),
                                         (narrow, remaps, "IR-", False), (wide, 0, "", False)):
            report = guest.parse_report(text.format(bits, more, chip))
            self.assertEqual(judge_vfio.platform_is(report, self.CDEV).passed, passed)
        plain = guest.parse_report(text.format(narrow, 0, ""))
        self.assertTrue(judge_vfio.platform_is(plain, self.GROUP).passed)

    def test_a_disk_must_come_back_to_the_kernel(self) -> None:
        for drivers, passed in ((("nvme", "vfio-pci", "nvme"), True), (("nvme", "vfio-pci"), False),
                                (("nvme", "nvme", "nvme"), False)):
            report = guest.parse_report("".join(f"driver {name}\n" for name in drivers))
            self.assertEqual(judge_vfio.driver_returns(report, self.GROUP).passed, passed)

    def test_a_kernel_has_exactly_the_nodes_that_are_expected_of_it(self) -> None:
        group = "node /dev/vfio/vfio\nnode /dev/vfio/5\n"
        device = "node /dev/iommu\nnode /dev/vfio/devices/vfio0\n"
        for text, by_group, by_cdev in ((group, True, False), (group + device, False, True),
                                        (device, False, False), ("", False, False)):
            report = guest.parse_report(text)
            self.assertEqual(judge_vfio.nodes_appear(report, self.GROUP).passed, by_group)
            self.assertEqual(judge_vfio.nodes_appear(report, self.CDEV).passed, by_cdev)

    def test_a_node_that_is_open_to_all_is_a_fault_and_so_is_one_closed_to_its_user(self) -> None:
        shared, own = "/dev/vfio/vfio", "/dev/vfio/5"
        after = f"open_to_user {shared}\nopen_to_user {own}\n"
        for text, passed in ((f"open_to_all {shared}\n{after}", True),
                             (f"open_to_all {own}\n{after}", False),
                             (f"open_to_user {shared}\n", False)):
            report = guest.parse_report(text)
            self.assertEqual(judge_vfio.user_is_let_in(report, self.GROUP).passed, passed)
            self.assertFalse(judge_vfio.user_is_let_in(report, self.CDEV).passed)

    def test_our_program_must_have_done_something_and_nothing_wrong(self) -> None:
        text = ('begin identify\n{{"name": "ram"}}\nend identify\n'
                'begin perf\n{{"ios": {}, "verify_mismatches": {}}}\nend perf\n')
        for ios, mismatches, passed in ((9, 0, True), (0, 0, False), (9, 1, False)):
            report = guest.parse_report(text.format(ios, mismatches))
            self.assertEqual(judge_vfio.program_runs(report, self.GROUP).passed, passed)


if __name__ == "__main__":
    unittest.main()
