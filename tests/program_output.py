"""What a program under way has printed. Job: that alone; standard library only."""

from __future__ import annotations

import os
import subprocess

__all__ = ('printed_line',)


def printed_line(process: subprocess.Popen[str]) -> str:
    """The next line that a program printed, and nothing behind it: ``communicate`` would miss what is read ahead here.

    With its line feed, or '' at the end.
    """
    assert process.stdout is not None
    line = b''
    while not line.endswith(b'\n') and (byte := os.read(process.stdout.fileno(), 1)):
        line += byte
    return line.decode()
