"""What came of each row: on the terminal one by one, then as a table, and as JSON."""

import sys
from dataclasses import asdict, dataclass, field
from typing import Any

import judge
from laboratory import lab_case, place


@dataclass
class result:
    case: lab_case
    seconds: float = 0.0
    verdicts: list[judge.verdict] = field(default_factory=list)
    failure: str = ""  # why the case did not come to its end
    logs: str = ""  # folder with consoles and traces, kept when the case failed

    @property
    def passed(self) -> bool:
        return not self.failure and all(verdict.passed for verdict in self.verdicts)

    @property
    def word(self) -> str:
        return "ok" if self.passed else "FAILED"


def show(outcome: result) -> None:
    print(f"{outcome.word:7}{outcome.case.title:36}{outcome.seconds:6.1f} s")
    for verdict in outcome.verdicts:
        mark = "ok" if verdict.passed else "FAILED"
        print(f"       {mark:7}{verdict.check:11}{verdict.detail}")
    if outcome.failure:
        print(f"       {outcome.failure}")
    if outcome.logs:
        print(f"       console, trace and logs: {outcome.logs}")
    sys.stdout.flush()


def table(outcomes: list[result]) -> str:
    """Kernels, transports and platforms downwards, cases across; empty without such a row."""
    cells = {(outcome.case.where, outcome.case.name): _cell(outcome) for outcome in outcomes
             if outcome.case.where}
    names = list(dict.fromkeys(name for _, name in cells))
    lines = [["kernel", "transport", "aw-bits", "remapping", "pages", *names]] if cells else []
    for where in dict.fromkeys(where for where, _ in cells):
        lines.append([*_place(where), *[cells.get((where, name), "") for name in names]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in lines)


def as_json(outcome: result) -> dict[str, Any]:
    where = outcome.case.where
    row = {"case": outcome.case.name, "title": outcome.case.title, "passed": outcome.passed,
           "seconds": outcome.seconds, "failure": outcome.failure, "logs": outcome.logs,
           "verdicts": [asdict(verdict) for verdict in outcome.verdicts]}
    if where:
        row |= {"kernel": where.kernel.name, "transport": where.transport,
                "address_bits": where.address_bits, "remapping": where.remapping,
                "huge_pages": where.huge_pages}
    return row


def _place(where: place) -> list[str]:
    return [where.kernel.name, where.transport, str(where.address_bits),
            "on" if where.remapping else "off", "2 MiB" if where.huge_pages else "4 KiB"]


def _cell(outcome: result) -> str:
    figures = [f", {figure} {unit}" for verdict in outcome.verdicts
               for unit, figure in verdict.figures.items()]
    return f"{outcome.word} {outcome.seconds:.0f} s{''.join(figures)}"
