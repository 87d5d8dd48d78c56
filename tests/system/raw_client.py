"""A vfio-user client without manners: says what it is told to, and checks nothing."""

import array
import os
import socket
import struct
from pathlib import Path

SECONDS_MAX = 10.0
VERSION, DMA_MAP, REGION_WRITE, REGION_READ = 1, 2, 10, 9  # @spec vfio-user 0.1
READABLE, WRITABLE = 1, 2
BAR0, CONFIG = 0, 7
HEADER = struct.Struct("<HHIII")  # id, command, size, flags, errno
PAGE = 4096


class raw_client:
    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(SECONDS_MAX)
        self.socket.connect(str(path))
        self.memory = os.memfd_create("guest", 0)
        self.request(VERSION, struct.pack("<HH", 0, 1) + b'{"capabilities":{}}\0')

    def close(self) -> None:
        self.socket.close()
        os.close(self.memory)

    def send(self, command: int, payload: bytes, descriptors: tuple[int, ...] = ()) -> None:
        message = HEADER.pack(1, command, HEADER.size + len(payload), 0, 0) + payload
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        sent = self.socket.sendmsg([message], rights if descriptors else [])
        self.socket.sendall(message[sent:])

    def receive(self) -> tuple[int, bytes]:
        """The errno of the next reply, and what it carries. @error ConnectionError, when it ends"""
        _, _, size, _, error = HEADER.unpack(self._exactly(HEADER.size))
        return error, self._exactly(size - HEADER.size)

    def request(self, command: int, payload: bytes,
                descriptors: tuple[int, ...] = ()) -> tuple[int, bytes]:
        self.send(command, payload, descriptors)
        return self.receive()

    def map(self, descriptor: int, address: int, size: int) -> int:
        """@return errno"""
        return self.request(DMA_MAP, map_payload(address, size), (descriptor,))[0]

    def write(self, region: int, offset: int, value: bytes) -> int:
        """@return errno"""
        where = struct.pack("<QII", offset, region, len(value))
        return self.request(REGION_WRITE, where + value)[0]

    def enable_controller(self) -> None:
        """With admin queues of 64 entries in the first two pages, which are mapped at 0."""
        self.write(CONFIG, 4, struct.pack("<H", 6))  # memory space, bus master
        self.write(BAR0, 0x24, struct.pack("<I", 63 | 63 << 16))  # AQA
        self.write(BAR0, 0x28, struct.pack("<Q", 0))  # ASQ
        self.write(BAR0, 0x30, struct.pack("<Q", PAGE))  # ACQ
        self.write(BAR0, 0x14, struct.pack("<I", 4 << 20 | 6 << 16 | 1))  # CC

    def _exactly(self, count: int) -> bytes:
        pieces = b""
        while len(pieces) < count:
            piece = self.socket.recv(count - len(pieces))
            if not piece:
                raise ConnectionResetError("the server has closed the connection")
            pieces += piece
        return pieces


def map_payload(address: int, size: int) -> bytes:
    return struct.pack("<IIQQQ", 32, READABLE | WRITABLE, 0, address, size)
