#!/usr/bin/python3
"""Verdicts over guests in which our program drives a controller: each is shown both ways."""

import json
import sys
import unittest

sys.dont_write_bytecode = True

import guest  # noqa: E402
import io_cases  # noqa: E402
import judge_io  # noqa: E402
import vfio_cases  # noqa: E402


class rows(unittest.TestCase):
    def test_our_kernel_has_a_row_for_each_combination(self) -> None:
        titles = [case.title for case in io_cases.CASES]
        for transport in ("group", "cdev"):
            for bits in (39, 48):
                for remapping in ("plain", "remapping"):
                    for pages in ("", "/huge"):
                        self.assertIn(f"io/own/{transport}/{bits}/{remapping}{pages}", titles)

    def test_the_lane_has_our_kernel_by_both_transports_and_debians_by_groups(self) -> None:
        usual = [(case.where.kernel.name, case.where.transport) for case in io_cases.CASES
                 if case.name == "io" and case.where and case.always]
        self.assertEqual(usual, [("own", "group"), ("own", "cdev"), ("6.12", "group")])


class io_verdicts(unittest.TestCase):
    GROUP = next(where for where in vfio_cases.PLACES if where.kernel.name == "6.12")

    def test_a_run_must_have_moved_what_it_verified_in_pages_of_its_place(self) -> None:
        runs = ((1, 512), (2, 4096))
        good = {"ios": 2048, "errors": 0, "verify_mismatches": 0, "page_bytes": 4096}

        def report_of(**changed: int) -> guest.boot_report:
            return guest.parse_report("".join(
                f"begin perf {namespace}:{size}\n"
                f"{json.dumps(good | {'block_size': size} | changed)}\n"
                f"end perf {namespace}:{size}\n" for namespace, size in runs))

        told = judge_io.runs_are_right(report_of(), self.GROUP, runs)
        self.assertTrue(told.passed)
        self.assertEqual(told.figures, {"MiB": 9})
        for changed in ({"ios": 0}, {"errors": 1}, {"verify_mismatches": 1},
                        {"page_bytes": 2 << 20}):
            self.assertFalse(
                judge_io.runs_are_right(report_of(**changed), self.GROUP, runs).passed)
        with self.assertRaises(LookupError):
            judge_io.runs_are_right(report_of(), self.GROUP, (*runs, (1, 1024)))

    def test_a_queue_that_never_interrupted_is_named_by_its_run(self) -> None:
        line = " {0}: {1} 5  IR-PCI-MSIX-0000:00:04.0  {0}-edge  vfio-msix[{0}](0000:00:04.0)\n"

        def report_of(second: str) -> guest.boot_report:
            return guest.parse_report("".join(
                f"begin interrupts {namespace}:{size}\n{line.format(0, 1)}{line.format(1, 2)}"
                f"{second}end interrupts {namespace}:{size}\n"
                for namespace, size in judge_io.RUNS))

        told = judge_io.queues_interrupt(report_of(line.format(2, 3)), self.GROUP)
        self.assertTrue(told.passed)
        self.assertEqual(told.figures, {"irqs": 21 * len(judge_io.RUNS)})
        for second in ("", line.format(2, 0).replace(" 5 ", " 0 "), line.format(3, 3)):
            told = judge_io.queues_interrupt(report_of(second), self.GROUP)
            self.assertFalse(told.passed)
            self.assertIn("1:512", told.detail)

    def test_what_was_pinned_must_have_been_let_go_by_everybody(self) -> None:
        for text, passed in (("pins 9 9\npinning \n", True), ("pins 9 8\npinning \n", False),
                             ("pins 0 0\npinning \n", False),
                             ("pins 9 9\npinning /proc/7/status\n", False)):
            told = judge_io.nothing_is_pinned(guest.parse_report(text), self.GROUP)
            self.assertEqual(told.passed, passed, text)

    def test_a_call_off_the_lists_is_a_fault_and_so_is_a_log_that_nobody_read(self) -> None:
        for text, passed in (("refused_calls 0\n", True), ("refused_calls 1\n", False),
                             ("", False)):
            told = judge_io.calls_stay_on_lists(guest.parse_report(text), self.GROUP)
            self.assertEqual(told.passed, passed, text)

    def test_a_file_system_is_clean_by_the_exit_status_of_its_checker(self) -> None:
        self.assertTrue(judge_io.file_system_is_clean("0 image: 20/4096 files").passed)
        self.assertFalse(judge_io.file_system_is_clean("4 image: 20/4096 files").passed)
        self.assertFalse(judge_io.file_system_is_clean("").passed)


if __name__ == "__main__":
    unittest.main()
