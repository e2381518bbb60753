"""A fast program `turnlog` for tests: each command is a fork of a process that has already imported turnlog.

`with commands_in(FOLDER):` writes a program `turnlog` into a folder.  The program sends its arguments, variables,
working directory, and standard input, output and error to the process, and exits with the exit code of the fork.  It
starts in a tenth of the time of the real command.

python quick_turnlog.py FOLDER   serve the program, after a line on standard output, until standard input ends
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import signal
import socket
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import NoReturn

from quick_plugins import remember_plugins

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({place!r})
    said = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode("utf-8", "surrogateescape")
    socket.send_fds(server, [len(said).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(said)
    sys.exit(server.recv(1)[0])
"""


@contextmanager
def commands_in(folder: Path) -> Iterator[None]:
    """Serve the program `turnlog` in a folder, from a fork of this process.

    The path of the folder must be short, because it contains a Unix socket.
    """
    place, program = folder / "socket", folder / "turnlog"
    program.write_text(CLIENT.format(python=sys.executable, place=str(place)), encoding="utf-8")
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        listening.listen()
        pid = os.fork()
        if not pid:
            _serve(listening)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def _serve(listening: socket.socket) -> NoReturn:
    _import_commands()
    remember_plugins()
    gc.freeze()  # else the first collection of each fork would copy all memory
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps the forks
    while True:
        client, _ = listening.accept()
        if not os.fork():
            listening.close()
            _run(client)
        client.close()


def _import_commands() -> None:
    """Import the modules of all commands and of the usual store."""
    import_module("turnlog_sql.sqlite")
    for module in iter_modules(import_module("turnlog_cli").__path__, "turnlog_cli."):
        import_module(module.name)
    for entry in entry_points(group="turnlog.commands"):
        entry.load()


def _run(client: socket.socket) -> NoReturn:
    import turnlog_cli

    size, given, _, _ = socket.recv_fds(client, 4, 3)
    said = b""
    while len(said) < int.from_bytes(size, "big"):
        said += client.recv(1 << 16)
    arguments, variables, folder = json.loads(said.decode("utf-8", "surrogateescape"))
    _open(given)
    os.environ.clear()
    os.environ.update(variables)
    sys.path += [place for place in variables.get("PYTHONPATH", "").split(os.pathsep) if place not in sys.path]
    os.chdir(folder)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.argv[1:] = arguments
    code = 1
    try:
        code = turnlog_cli.main()
        sys.stdout.flush()
    finally:
        client.send(bytes([code]))
        os._exit(code)


def _open(given: list[int]) -> None:
    """Open these descriptors as standard input, output and error, as a new process does."""
    for number, descriptor in enumerate(given):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    if os.isatty(0):
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C interrupts this process


if __name__ == "__main__":
    with commands_in(Path(sys.argv[1])):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
