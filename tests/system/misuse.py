"""Misuse is answered at once: one line that names the object and a remedy.

Exit status 2 means that the words were wrong, 1 that the machine or a peer refused.
"""

import os
import socket
import threading
from pathlib import Path

import program

ANSWER_SECONDS_MAX = 20.0  # 2 are promised: machines that test are busy, and sanitizers slow


class misuse(program.program_case):
    def refused(self, words: list[object], status: int, name: str,
                under: tuple[str, ...] = ()) -> None:
        """The answer is `status` and one line on stderr that contains `name` and a remedy."""
        done = program.run(*words, under=under)
        self.assertEqual(done.status, status, done.err)
        self.assertEqual(done.err.count("\n"), 1, f"not one line: {done.err!r}")
        self.assertIn(name, done.err)
        self.assertIn("; ", done.err, "no remedy")
        self.assertEqual(done.out, b"")
        self.assertLess(done.seconds, ANSWER_SECONDS_MAX)

    def listener(self, answer: bytes | None) -> str:
        """A socket of something else. @param answer what it says; None: it never speaks"""
        path = self.folder / "other.sock"
        server = socket.socket(socket.AF_UNIX)
        self.addCleanup(server.close)
        server.bind(str(path))
        server.listen()

        def speak() -> None:
            try:
                peer, _ = server.accept()
            except OSError:
                return  # closed before anybody came
            self.addCleanup(peer.close)
            if answer is not None:
                peer.recv(4096)
                peer.sendall(answer)
                peer.shutdown(socket.SHUT_WR)

        threading.Thread(target=speak, daemon=True).start()
        return f"vfio-user:{path}"

    def sized_file(self, size: int, mode: int = 0o644) -> Path:
        path = self.random_file(f"file-{size}", size)
        path.chmod(mode)
        return path

    # Words.

    def test_no_words(self) -> None:
        self.refused([], 2, "subcommand")

    def test_an_unknown_command(self) -> None:
        self.refused(["fly"], 2, "fly")

    def test_an_unknown_option(self) -> None:
        self.refused(["perf", "null:1M", "--faster"], 2, "--faster")

    def test_perf_without_an_address(self) -> None:
        self.refused(["perf"], 2, "address")

    def test_copy_without_a_destination(self) -> None:
        self.refused(["copy", "null:1M"], 2, "to")

    def test_a_target_without_a_namespace(self) -> None:
        self.refused(["target", "--listen", self.at("a.sock")], 2, "--namespace")

    def test_an_address_without_a_scheme(self) -> None:
        self.refused(["identify", "disk"], 2, "disk")

    def test_an_address_without_a_target(self) -> None:
        self.refused(["identify", "ram:"], 2, "ram:")

    def test_an_address_with_a_bad_size(self) -> None:
        self.refused(["identify", "ram:12q"], 2, "ram:12q")

    def test_an_address_with_an_unknown_option(self) -> None:
        self.refused(["identify", "ram:1M?colour=red"], 2, "colour")

    def test_an_unknown_scheme(self) -> None:
        self.refused(["identify", "scsi:disk"], 2, "scsi")

    def test_listening_on_no_socket(self) -> None:
        self.refused(["target", "--listen", "ram:1M", "--namespace", "ram:1M"], 2, "ram:1M")

    def test_listening_with_options(self) -> None:
        words = ["target", "--listen", self.at("a.sock?ns=1"), "--namespace", "ram:1M"]
        self.refused([*words], 2, "a.sock?ns=1")

    def test_an_unknown_workload(self) -> None:
        self.refused(["perf", "null:1M", "--rw", "sideways"], 2, "sideways")

    def test_a_depth_of_nothing(self) -> None:
        self.refused(["perf", "null:1M", "--depth", "0"], 2, "depth")

    def test_an_unknown_way_of_polling(self) -> None:
        self.refused(["perf", "null:1M", "--poll", "lazy"], 2, "--poll")

    def test_mapped_doorbells_that_nobody_would_see(self) -> None:
        words = ["target", "--listen", self.at("a.sock"), "--namespace", "null:1M"]
        self.refused([*words, "--doorbells", "mapped"], 2, "--poll busy")

    def test_no_device_to_bind(self) -> None:
        self.refused(["bind"], 2, "device")
        self.refused(["unbind", "--dry-run"], 2, "device")

    def test_a_bad_pci_address(self) -> None:
        for word in ("nvme0", "0000:01:00", "0000:01:00.8", "pci:01.0", "/sys/bus/pci"):
            self.refused(["bind", word], 2, word)
            self.refused(["unbind", "--dry-run", "00:00.0", word], 2, word)

    # Devices.

    def test_a_pci_device_that_is_not_there(self) -> None:
        for word in ("ffffffff:ff:1f.7", "pci:ffffffff:ff:1f.7"):
            self.refused(["bind", word], 1, "pci:ffffffff:ff:1f.7")
            self.refused(["unbind", "--dry-run", word], 1, "pci:ffffffff:ff:1f.7")

    # Sockets.

    def test_a_socket_that_is_not_there(self) -> None:
        self.refused(["identify", self.at("none.sock")], 1, "none.sock")

    def test_a_socket_nobody_serves(self) -> None:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(self.folder / "left.sock"))
        self.refused(["identify", self.at("left.sock")], 1, "left.sock")

    def test_a_socket_of_something_else(self) -> None:
        address = self.listener(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.refused(["identify", address], 1, "other.sock")

    def test_a_socket_that_closes(self) -> None:
        self.refused(["identify", self.listener(b"")], 1, "other.sock")

    def test_a_socket_that_stays_silent(self) -> None:
        self.refused(["identify", self.listener(None)], 1, "other.sock")

    def test_a_socket_path_that_is_too_long(self) -> None:
        self.refused(["identify", self.at("x" * 120)], 1, "xxx")

    def test_a_socket_already_served(self) -> None:
        self.serve("a.sock", "null:1M")
        words = ["target", "--listen", self.at("a.sock"), "--namespace", "null:1M"]
        self.refused([*words], 1, "a.sock")
        self.succeed("identify", self.at("a.sock"))  # and the first one still serves

    def test_listening_where_a_file_is(self) -> None:
        path = self.sized_file(4096)
        before = path.read_bytes()
        words = ["target", "--listen", f"vfio-user:{path}", "--namespace", "null:1M"]
        self.refused([*words], 1, path.name)
        self.assertEqual(path.read_bytes(), before)

    def test_listening_in_a_missing_folder(self) -> None:
        words = ["target", "--listen", self.at("none/a.sock"), "--namespace", "null:1M"]
        self.refused([*words], 1, "none/a.sock")

    # Files.

    def test_a_file_that_is_not_there(self) -> None:
        self.refused(["identify", f"file:{self.folder}/none.img"], 1, "none.img")

    def test_a_folder_as_a_file(self) -> None:
        self.refused(["identify", f"file:{self.folder}"], 1, str(self.folder))

    def test_a_file_that_cannot_be_read(self) -> None:
        path = self.sized_file(4096, mode=0)
        humble = ("setpriv", "--bounding-set=-all") if os.geteuid() == 0 else ()
        self.refused(["identify", f"file:{path}"], 1, path.name, under=humble)

    def test_a_file_smaller_than_a_block(self) -> None:
        path = self.sized_file(100)
        self.refused(["identify", f"file:{path}"], 1, path.name)

    def test_a_file_that_ends_inside_a_block(self) -> None:
        path = self.sized_file(1000)
        self.refused(["identify", f"file:{path}"], 1, path.name)

    def test_a_file_that_ends_inside_a_large_block(self) -> None:
        path = self.sized_file(8192 + 512)
        self.refused(["identify", f"file:{path}?block_size=4096"], 1, path.name)

    def test_a_namespace_that_cannot_be_opened(self) -> None:
        words = ["target", "--listen", self.at("a.sock")]
        self.refused([*words, "--namespace", f"file:{self.folder}/none.img"], 1, "none.img")
        self.assertFalse((self.folder / "a.sock").exists())

    def test_a_destination_that_is_too_small(self) -> None:
        path = self.sized_file(4096)
        before = path.read_bytes()
        self.refused(["copy", "ram:1M", f"file:{path}"], 1, path.name)
        self.assertEqual(path.read_bytes(), before)

    def test_a_file_copied_onto_itself(self) -> None:
        path = self.sized_file(4096)
        before = path.read_bytes()
        link = self.folder / "link"
        link.hardlink_to(path)
        for source, target in ((path, path), (f"file:{path}", path), (path, link)):
            self.refused(["copy", source, target], 1, str(target))
            self.assertEqual(path.read_bytes(), before)

    # Limits.

    def test_a_core_that_does_not_exist(self) -> None:
        self.refused(["perf", "null:1M", "--cores", "999"], 1, "999")
        self.refused(["perf", "null:1M", "--cores", "9999"], 1, "9999")

    def test_a_depth_over_the_queue(self) -> None:
        self.serve("a.sock", "null:1M")
        self.refused(["perf", self.at("a.sock"), "--depth", "60000"], 1, "60000")
        self.refused(["perf", self.at("a.sock"), "--depth", "999999"], 1, "999999")

    def test_more_to_verify_than_can_be_remembered(self) -> None:
        self.refused(["perf", "null:4000T", "--verify"], 1, "null:4000T")

    def test_a_floor_between_three_cores(self) -> None:
        self.refused(["floor", "--cores", "0-2"], 1, "two cores")

    def test_more_memory_than_there_is(self) -> None:
        self.refused(["perf", "ram:4000G", "--time", "1"], 1, "ram:4000G")
