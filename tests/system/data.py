"""Data that goes through a target arrives, and stays, byte for byte.

Method: one process serves, another copies; files are compared after the server has ended.
"""

import os

import program

MIB = 1 << 20


class data(program.program_case):
    def test_an_image_copied_out_is_equal(self) -> None:
        image = self.random_file("disk.img", 16 * MIB)
        out = self.folder / "out.img"
        self.serve("a.sock", f"file:{image}")
        self.succeed("copy", self.at("a.sock"), out)
        self.assertEqual(out.read_bytes(), image.read_bytes())

    def test_data_copied_in_is_in_the_file_after_sigterm(self) -> None:
        image = self.folder / "disk.img"
        image.write_bytes(bytes(64 * MIB))
        source = self.random_file("source", 64 * MIB)
        target = self.serve("a.sock", f"file:{image}")
        self.succeed("copy", source, self.at("a.sock"))
        self.assertEqual(target.end().status, 0)
        self.assertEqual(image.read_bytes(), source.read_bytes())

    def test_a_file_that_one_may_only_read_is_read(self) -> None:
        image = self.random_file("disk.img", 1 * MIB)
        image.chmod(0o444)
        out = self.folder / "out.img"
        humble = ("setpriv", "--bounding-set=-all") if os.geteuid() == 0 else ()
        for words in (["copy", f"file:{image}", out], ["identify", f"file:{image}"],
                      ["perf", f"file:{image}", "--time", "0.1", "--warmup", "0"]):
            self.assertEqual(program.run(*words, under=humble).status, 0, words)
        self.assertEqual(out.read_bytes(), image.read_bytes())

    def test_a_longer_file_is_cut_to_what_was_copied(self) -> None:
        source = self.random_file("source", 1 * MIB + 100)
        out = self.random_file("out", 2 * MIB)
        self.succeed("copy", source, out)
        self.assertEqual(out.read_bytes(), source.read_bytes())

    def test_disks_of_other_blocks_are_copied(self) -> None:
        source = self.random_file("source", 1 * MIB + 512)
        self.serve("a.sock", "ram:4M?block_size=4096")
        self.succeed("copy", f"file:{source}", self.at("a.sock"))
        done = self.succeed("copy", self.at("a.sock"), "-")
        self.assertEqual(done.out[: source.stat().st_size], source.read_bytes())

    def test_large_blocks_are_copied(self) -> None:
        image = self.random_file("disk.img", 8 * MIB)
        out = self.folder / "out.img"
        self.serve("a.sock", f"file:{image}?block_size=4096")
        self.succeed("copy", self.at("a.sock"), out)
        self.assertEqual(out.read_bytes(), image.read_bytes())

    def test_every_namespace_is_its_own_disk(self) -> None:
        images = [self.random_file(f"disk{n}.img", n * MIB) for n in (1, 2)]
        self.serve("a.sock", *[f"file:{image}" for image in images])
        for number, image in enumerate(images, 1):
            done = self.succeed("copy", f"{self.at('a.sock')}?ns={number}", "-")
            self.assertEqual(done.out, image.read_bytes())

    def test_streams_are_copied(self) -> None:
        source = self.random_file("source", 3 * MIB)
        self.serve("a.sock", "ram:4M")
        self.succeed("copy", "-", self.at("a.sock"), feed=source.read_bytes())
        done = self.succeed("copy", self.at("a.sock"), "-")
        self.assertEqual(done.out[: 3 * MIB], source.read_bytes())

    def test_a_target_serves_another_targets_disk_without_a_copy(self) -> None:
        image = self.random_file("disk.img", 4 * MIB)
        out = self.folder / "out.img"
        inner = self.serve("inner.sock", f"file:{image}")
        outer = self.serve("outer.sock", self.at("inner.sock"))
        self.succeed("copy", self.at("outer.sock"), out)
        self.assertEqual(out.read_bytes(), image.read_bytes())
        done = outer.end()
        self.assertEqual(done.status, 0)
        self.assertIn("payload_bytes_copied=0", done.err)
        self.assertEqual(inner.end().status, 0)
