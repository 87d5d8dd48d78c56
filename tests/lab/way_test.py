#!/usr/bin/python3
"""Verdicts over the ways to a device: each is shown both ways."""

import json
import sys
import unittest

sys.dont_write_bytecode = True

import guest  # noqa: E402
import judge_way  # noqa: E402
import vfio_cases  # noqa: E402
import way_cases  # noqa: E402

WHERE = next(where for where in vfio_cases.BEST if where.kernel.name == "6.12")


def text(name: str, *lines: str) -> str:
    return "".join(f"{line}\n" for line in (f"begin {name}", *lines, f"end {name}"))


class rows(unittest.TestCase):
    def test_the_lane_has_the_refusals_and_other_ways_are_left_to_hands(self) -> None:
        rows = {case.title: case for case in way_cases.CASES}
        for title in ("unguarded/own/noiommu/0/plain/huge", "io/own/compat/39/plain",
                      "io/own/compat/48/remapping/huge"):
            self.assertFalse(rows[title].always)
        for title in ("refuse-bind/6.12/group", "refuse-open/6.12/group", "refuse-open/own/cdev",
                      "idle/own/cdev"):
            self.assertTrue(rows[f"{title}/48/remapping"].always)


class refusals(unittest.TestCase):
    STATE = "nvme (null) unknown"
    LINE = "runnel: bind pci:0000:00:04.0: in use; nvme0n1 is swapped to; `swapoff` first"

    def passes(self, *lines: str) -> bool:
        wanted = judge_way.refusal("swap", ("0000:00:04.0", "nvme0n1", "`swapoff`"))
        report = guest.parse_report(text("refusal swap", *lines))
        return judge_way.is_refused(report, WHERE, wanted).passed

    def test_a_refusal_is_one_line_with_object_and_remedy(self) -> None:
        self.assertTrue(self.passes("1", self.STATE, self.STATE, self.LINE))
        wrong: tuple[tuple[str, ...], ...] = (
            (), (self.LINE, self.LINE), ("runnel: note: hm", self.LINE),
            (self.LINE.replace("nvme0n1", "it"),), (self.LINE.replace("`swapoff` first", "no"),))
        for lines in wrong:
            self.assertFalse(self.passes("1", self.STATE, self.STATE, *lines), lines)

    def test_a_refusal_fails_and_changes_nothing(self) -> None:
        for status in ("0", "2", "139"):
            self.assertFalse(self.passes(status, self.STATE, self.STATE, self.LINE))
        for after in ("vfio-pci (null) unknown", "nvme vfio-pci unknown", "nvme (null) 1b36:0010"):
            self.assertFalse(self.passes("1", self.STATE, after, self.LINE))

    def test_a_note_is_one_line_with_the_remedy(self) -> None:
        for lines, passed in ((["`runnel bind X`"], True), (["bind"], False), ([], False),
                              (["`runnel bind X`", "more"], False)):
            report = guest.parse_report(text("note", *lines))
            told = judge_way.remedy_is_noted(report, WHERE, ("`runnel bind X`",))
            self.assertEqual(told.passed, passed, lines)


class bindings(unittest.TestCase):
    FREE, BOUND = "e1000e (null) unknown", "vfio-pci vfio-pci 1:2 e1000e"
    TRUE = (FREE, FREE, BOUND, BOUND, BOUND, FREE, BOUND, FREE)

    def passes(self, states: tuple[str, ...], *shown: str) -> bool:
        report = guest.parse_report("".join(f"state {state}\n" for state in states)
                                    + text("shown bind", *shown) + text("shown unbind", "echo"))
        return judge_way.binding_is_true(report, WHERE, "1:2", "e1000e").passed

    def test_each_step_leaves_the_state_that_it_should(self) -> None:
        self.assertTrue(self.passes(self.TRUE, "echo"))
        self.assertFalse(self.passes(self.TRUE))
        self.assertFalse(self.passes(self.TRUE[:-1], "echo"))
        for step, state in enumerate(self.TRUE):
            other = self.BOUND if state == self.FREE else self.FREE
            wrong = (*self.TRUE[:step], other, *self.TRUE[step + 1:])
            self.assertFalse(self.passes(wrong, "echo"), step)


class idleness(unittest.TestCase):
    def passes(self, busy: str = "8000 7900 0", adaptive: str = "8000 120 16",
               target: str = "8000 90 0", **changed: int) -> bool:
        measured = json.dumps({"iops": 2, "errors": 0} | changed)
        report = guest.parse_report(f"busy {busy}\nadaptive {adaptive}\ntarget {target}\n"
                                    + text("perf adaptive", measured))
        return judge_way.sleeps(report, WHERE).passed

    def test_who_has_little_to_do_takes_little_and_is_woken(self) -> None:
        self.assertTrue(self.passes())
        self.assertFalse(self.passes(adaptive="8000 1700 16"))
        self.assertFalse(self.passes(target="8000 1700 0"))
        self.assertFalse(self.passes(adaptive="8000 120 7"))
        self.assertFalse(self.passes(errors=1))
        self.assertFalse(self.passes(iops=0))

    def test_the_calmest_span_counts(self) -> None:
        self.assertTrue(self.passes(adaptive="8000 7000 3\nadaptive 8000 120 16"))
        self.assertFalse(self.passes(busy="8000 7900 0\nbusy 8000 120 0"))

    def test_a_measure_that_cannot_tell_who_polls_is_worth_nothing(self) -> None:
        self.assertFalse(self.passes(busy="8000 120 0"))
        self.assertFalse(self.passes(busy="8000 7900 16"))
        with self.assertRaises(ValueError):
            self.passes(busy="")


class vectors(unittest.TestCase):
    CALLS = (("start=1 count=1",), ("start=1 count=1", "start=2 count=1"), ("start=1 count=3",))

    def passes(self, held: tuple[int, ...], calls: tuple[tuple[str, ...], ...]) -> bool:
        report = guest.parse_report("".join(
            f"vectors {cores} {count}\n" + text(f"calls {cores}", *asked, "start=0 count=0")
            for cores, count, asked in zip(judge_way.CORES, held, calls, strict=True)))
        return judge_way.vectors_grow(report, WHERE).passed

    def test_each_queue_has_one_vector_and_there_is_no_other(self) -> None:
        self.assertTrue(self.passes((1, 2, 3), self.CALLS))
        for held in ((0, 2, 3), (1, 2, 65), (3, 3, 3)):
            self.assertFalse(self.passes(held, self.CALLS), held)
        for last in (("start=0 count=65",), ("start=1 count=2",), ("start=1 count=3",) * 2, ()):
            self.assertFalse(self.passes((1, 2, 3), (*self.CALLS[:2], last)), last)


class bring_up(unittest.TestCase):
    def test_four_may_add_less_than_twice_what_one_adds(self) -> None:
        for four, passed in ((1099, True), (1100, False), (500, False)):
            facts = f"up 0 500\nup 1 800\nup 0 900\nup 4 {four}\nup 1 900\nup 4 1300\n"
            told = judge_way.four_come_up_together(guest.parse_report(facts), WHERE)
            self.assertEqual(told.passed, passed, four)
        with self.assertRaises(ValueError):
            judge_way.four_come_up_together(guest.parse_report("up 0 500\nup 1 800\n"), WHERE)


class unguarded(unittest.TestCase):
    GOOD = {"ios": 9, "errors": 0, "verify_mismatches": 0, "page_bytes": 1 << 30}

    def passes(self, changed: dict[str, int], groups: int = 0, warning: str = "no IOMMU") -> bool:
        report = guest.parse_report(f"groups {groups}\n" + text("warning", warning)
                                    + text("perf 1:4096", json.dumps(self.GOOD | changed)))
        return judge_way.nothing_guards(report, WHERE).passed

    def test_io_is_right_where_there_is_no_iommu_and_its_user_knows(self) -> None:
        self.assertTrue(self.passes({}))
        self.assertFalse(self.passes({}, groups=4))
        self.assertFalse(self.passes({}, warning="all is well"))
        for changed in ({"ios": 0}, {"errors": 1}, {"verify_mismatches": 1}, {"page_bytes": 4096}):
            self.assertFalse(self.passes(changed), changed)


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
