"""`runnel-tasks`: what the tasks of a process wait for, in gdb, from a core file too.

Load it by `source runtime/gdb_tasks.py`; the program must have debug information, as
`--buildtype=debugoptimized` gives. For each core its reactor is taken from its thread, its frames
from the reactor; tasks that await each other are told from the inside out.
"""

from collections import Counter

import gdb

HEADER_BYTES = 16  # slab and size class in front of a frame
PROMISE_OFFSET = 16  # behind the addresses of resume and destroy
CLASS_BYTES = 64
WAITS_FOR_CHILD = "a task that it awaits"  # promise.h has it, and gdb no constants


def word_at(address: int) -> int:
    pointer = gdb.Value(address).cast(gdb.lookup_type("unsigned long").pointer())
    return int(pointer.dereference())


def reactors() -> list[gdb.Value]:
    """Of the threads that are inside a turn; the others have none."""
    found = []
    for thread in sorted(gdb.selected_inferior().threads(), key=lambda each: each.num):
        thread.switch()
        current = gdb.parse_and_eval("'runnel::detail::current_reactor'")
        if int(current) != 0:
            found.append(current.dereference())
    return found


def promises(slab: gdb.Value) -> list[gdb.Value]:
    """Of the frames in use. A free one has a link where its slab's address was."""
    at, end = word_at(int(slab["arena_"].address)), int(slab["unused_"])
    used = []
    while at < end:
        if word_at(at) == int(slab.address):
            promise = gdb.Value(at + HEADER_BYTES + PROMISE_OFFSET)
            used.append(promise.cast(gdb.lookup_type("runnel::promise_base").pointer()))
        at += word_at(at + 8) * CLASS_BYTES
    return used


def function_of(promise: gdb.Value) -> str:
    """The coroutine, by the address where it goes on."""
    resume = word_at(int(promise) - PROMISE_OFFSET)
    return gdb.execute(f"info symbol {resume}", to_string=True).partition(" in section")[0].strip()


def describe(spawned: gdb.Value) -> str:
    """A spawned task and those that it awaits, which may be in its own frame: compilers do that."""
    chain = [spawned]
    while chain[-1]["waits_for"].string() == WAITS_FOR_CHILD:
        chain.append(chain[-1]["awaits"])
    lines = [f"{spawned['name'].string()}: waits for {chain[-1]['waits_for'].string()}"]
    lines += [f"           in {function_of(task)}" for task in reversed(chain)]
    return "\n".join(lines)


class TasksCommand(gdb.Command):
    """What the tasks of each core wait for."""

    def __init__(self) -> None:
        super().__init__("runnel-tasks", gdb.COMMAND_STACK)

    def invoke(self, _arguments: str, _from_terminal: bool) -> None:
        selected = gdb.selected_thread()
        for reactor in reactors():
            self.tell(reactor)
        selected.switch()

    @staticmethod
    def tell(reactor: gdb.Value) -> None:
        used = promises(reactor["frames_"])
        waiting = Counter(describe(promise) for promise in used
                          if promise["started"] and int(promise["parent"]) == 0)
        print(f"core {int(reactor['options_']['core'])}: {len(used)} frames")
        for text, count in waiting.items():
            print(f"{count:8} x {text}")


TasksCommand()
