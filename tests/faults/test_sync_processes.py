"""`turnlog.sync` in a notebook, under gunicorn and Celery with prefork, and in children of a process with threads.

The programs are those of `docs/how-to/sync.md`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

import servers
import turnlog.sync
from run_page import blocks
from sql_places import emptied_mariadb, emptied_postgresql
from turnlog import user

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "sync.md").read_text(encoding="utf-8")
BLOCKS = list(blocks(PAGE))
FILES = {block.remark.removeprefix("file: "): block.body for block in BLOCKS if block.remark.startswith("file: ")}
CELLS = [block.body for block in BLOCKS if "cells of a notebook" in block.remark]

forks = pytest.mark.only_where(hasattr(os, "fork"), "forks", "this system cannot fork")


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_notebook_remembers(tmp_path: Path) -> None:
    cells: list[dict[str, object]] = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "outputs": [], "execution_count": None, "source": body}
        for n, body in enumerate(CELLS)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "chat.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    done = run(tmp_path, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", "done.ipynb", "chat.ipynb")
    assert done.returncode == 0, done.stderr
    outputs = [
        "".join(output["text"])
        for cell in json.loads((tmp_path / "done.ipynb").read_text(encoding="utf-8"))["cells"]
        for output in cell["outputs"]
    ]
    assert outputs[-1] == "Your name is Alice.\n"


def post(port: int, path: str, text: str) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, text.encode())
    answer = connection.getresponse()
    assert answer.status == 200
    body = answer.read().decode()
    connection.close()
    return body


@forks
def test_flask_under_gunicorn_remembers_in_each_worker(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(FILES["app.py"], encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        options = ["--preload", "--workers", "2", "--access-logfile", "-", "--access-logformat", "served by %(p)s"]
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options, "--bind", f"fd://{listener.fileno()}", "app:app"],
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path)},
            pass_fds=[listener.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        with ThreadPoolExecutor(4) as threads:
            names = [f"/s{number}" for number in range(20)]
            list(threads.map(lambda name: post(port, name, "My name is Alice"), names))
            answers = list(threads.map(lambda name: post(port, name, "What is my name?"), names))
            answers += threads.map(lambda name: post(port, f"{name}/stream", "What is my name?"), names)
    finally:
        server.send_signal(signal.SIGTERM)
        log = server.communicate(timeout=30)[0]
    assert answers == ["Your name is Alice."] * 40
    assert server.returncode == 0, log
    assert "Traceback" not in log
    assert len(set(re.findall(r"served by <(\d+)>", log))) == 2, log


CELERY = """
from celery.contrib.testing.worker import start_worker
from tasks import answer, celery

celery.conf.broker_transport_options = {"polling_interval": 0.01}
with start_worker(celery, pool="prefork", concurrency=2, perform_ping_check=False, loglevel="INFO"):
    for number, text in enumerate(("My name is Alice", "What is my name?")):
        results = [answer.delay(name, text, f"{number}") for name in "abcdef"]
        answers = [result.get(timeout=30, interval=0.01) for result in results]
print(answers)
"""


@forks
def test_celery_tasks_in_a_prefork_pool_remember(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(FILES["tasks.py"], encoding="utf-8")
    (tmp_path / "main.py").write_text(CELERY, encoding="utf-8")
    done = run(tmp_path, "main.py")
    assert done.stdout.splitlines()[-1:] == [str(["Your name is Alice."] * 6)], done.stderr
    assert "ForkPoolWorker" in done.stderr


def emptied_redis() -> str:
    url = servers.redis()
    servers.ask_redis(url, "FLUSHDB")
    return url


@forks
@pytest.mark.parametrize(
    "url",
    [lambda: "sqlite:///chat.db", emptied_postgresql, emptied_mariadb, emptied_redis],
    ids=lambda url: url.__name__,
)
def test_children_of_a_process_with_threads_use_its_store(
    url: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads of the parent append while it forks; each child appends with the inherited store."""
    monkeypatch.chdir(tmp_path)
    store, ended, written = turnlog.sync.open_store(url()), threading.Event(), [0, 0]
    store.open()

    def write(thread: int) -> None:
        while not ended.is_set():
            store.append("shared", [user(f"{thread}")])
            written[thread] += 1

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(2)]
    for one in threads:
        one.start()
    try:
        for number in range(8):
            pid = os.fork()
            if not pid:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(30)  # ends a child that waits forever
                code = 1
                try:
                    store.append("children", [user(f"{number}")])
                    code = 0
                except BaseException:  # noqa: BLE001 - shown by the parent's test
                    traceback.print_exc()
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        ended.set()
        for one in threads:
            one.join()
    assert [message.text for message in store.load("children")] == [f"{number}" for number in range(8)]
    assert store.info("shared").turns == sum(written)
    store.close()
