#!/usr/bin/python3
"""Runs a command under a seccomp filter that refuses io_uring with EPERM, as containers do.

usage: without_io_uring.py COMMAND...
"""

import ctypes
import os
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD_NUMBER, JUMP_UNLESS_EQUAL, RETURN = 0x20, 0x15, 0x06
IO_URING_SETUP, REFUSE_BY_EPERM, ALLOW = 425, 0x00050001, 0x7FFF0000


class instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("when_true", ctypes.c_uint8),
                ("when_false", ctypes.c_uint8), ("value", ctypes.c_uint32)]


class program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("first", ctypes.POINTER(instruction))]


def main() -> None:
    code = (instruction * 4)((LOAD_NUMBER, 0, 0, 0), (JUMP_UNLESS_EQUAL, 0, 1, IO_URING_SETUP),
                             (RETURN, 0, 0, REFUSE_BY_EPERM), (RETURN, 0, 0, ALLOW))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                  (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program(4, code)), 0, 0)):
        if libc.prctl(*words) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
