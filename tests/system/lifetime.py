"""Targets and clients come, go and die without harm to the other side."""

import signal

import program


class lifetime(program.program_case):
    def test_the_first_line_is_the_only_one(self) -> None:
        target = self.serve("a.sock", "null:1M")
        done = target.end()
        self.assertEqual(done.status, 0)
        self.assertEqual(done.out.count(b"\n"), 1)

    def test_an_idle_target_ends_on_sigterm_and_sigint(self) -> None:
        for how in (signal.SIGTERM, signal.SIGINT):
            self.assertEqual(self.serve("a.sock", "null:1M").end(how).status, 0)
            self.assertFalse((self.folder / "a.sock").exists(), "it left its socket behind")

    def test_a_target_ends_under_load(self) -> None:
        target = self.serve("a.sock", "ram:16M")
        load = self.load_on(target)
        self.assertEqual(target.end().status, 0)
        load.process.wait(timeout=program.END_SECONDS_MAX)
        self.assertEqual(load.process.returncode, 1)
        self.assertEqual(load.errors().count("\n"), 1, load.errors())

    def test_clients_come_one_after_another(self) -> None:
        self.serve("a.sock", "ram:1M")
        for _ in range(5):
            self.succeed("identify", self.at("a.sock"))

    def test_a_client_that_is_killed_leaves_room_for_the_next(self) -> None:
        target = self.serve("a.sock", "ram:16M")
        load = self.load_on(target)
        load.end(signal.SIGKILL)
        self.succeed("identify", self.at("a.sock"))
        self.assertEqual(target.end().status, 0)

    def test_tasks_are_told_on_sigusr1(self) -> None:
        target = self.serve("a.sock", "ram:16M")
        load = self.load_on(target)
        self.await_tasks(load, r"core \d+: .*\n +32 x perf worker, 0 deep: waits for a read\n")
        self.await_tasks(target, r"core \d+: \d+ frames")
        load.end(signal.SIGKILL)
        self.assertEqual(target.end().status, 0)
