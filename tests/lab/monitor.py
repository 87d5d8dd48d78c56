"""QEMU's monitor, spoken to in its machine protocol: one JSON object per line, each way."""

import json
import socket
from typing import Any

from debian import lab_error

ANSWER_DEADLINE_S = 20


class monitor:
    """A connection to the monitor of one QEMU. Events are skipped: guests see what they tell of."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(ANSWER_DEADLINE_S)
        self._lines = connection.makefile("rw", encoding="utf-8")
        self._is_ready = False

    def execute(self, command: str) -> str:
        """What came of a command, in one line: what it returned, else `ok`, or the error.

        @error lab_error: QEMU does not answer
        """
        try:
            if not self._is_ready:
                self._next()  # the greeting
                self._ask('{"execute": "qmp_capabilities"}')
                self._is_ready = True
            answer = self._ask(command)
        except OSError as error:
            raise lab_error(f"QEMU's monitor does not answer: {error}") from None
        if "error" in answer:
            return f"error: {answer['error']['desc']}"
        return " ".join(str(answer["return"] or "ok").split())

    def _ask(self, command: str) -> dict[str, Any]:
        self._lines.write(command + "\n")
        self._lines.flush()
        while "event" in (answer := self._next()):
            pass
        return answer

    def _next(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise ConnectionError("it has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer
