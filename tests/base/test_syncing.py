"""Files that get to the disk beside the work: none is forgotten, none too many wait, and a failure is heard."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from robustkit.base import files, syncing
from robustkit.base.syncing import Syncing


def opened(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_WRONLY)


def test_every_file_is_synced_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(syncing.os, "fsync", seen.append)
    one = Syncing()
    handles = [opened(tmp_path / str(i)) for i in range(100)]
    for handle in handles:
        one.take(handle)
    one.wait()
    assert sorted(seen) == sorted(handles)
    for handle in handles:
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(handle)


def test_a_disk_that_is_slow_makes_the_writer_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    disk, taken = threading.Event(), []
    monkeypatch.setattr(syncing.os, "fsync", lambda _: disk.wait(60))
    one = Syncing(threads=2, most=3)

    def write() -> None:
        for i in range(5):
            one.take(opened(tmp_path / str(i)))
            taken.append(i)

    writer = threading.Thread(target=write)
    writer.start()
    writer.join(0.3)
    assert taken == [0, 1, 2]
    disk.set()
    writer.join(60)
    one.wait()
    assert taken == [0, 1, 2, 3, 4]


def test_a_failure_is_raised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    one = Syncing()
    with monkeypatch.context() as broken:
        broken.setattr(syncing.os, "fsync", full)
        heard = []
        for step in (lambda: one.take(opened(tmp_path / "a")), one.wait):  # whichever comes first
            try:
                step()
            except OSError as error:
                heard.append(error.errno)
        assert heard == [errno.ENOSPC]
    one.take(opened(tmp_path / "b"))
    one.wait()


def test_a_file_beside_the_work_has_its_name_at_once_and_is_on_the_disk_before_the_next_that_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk, order, sync = threading.Event(), [], os.fsync

    def slow(handle: int) -> None:
        beside = threading.current_thread().name.startswith("sync")
        if beside:
            disk.wait(60)
        sync(handle)
        order.append("beside" if beside else "whole")

    monkeypatch.setattr(files, "SYNCING", Syncing())
    monkeypatch.setattr(syncing.os, "fsync", slow)
    files.write_json(tmp_path / "beside.json", [1], beside=True)
    assert (tmp_path / "beside.json").read_text() == "[\n 1\n]\n"
    later = threading.Thread(target=files.write_json, args=(tmp_path / "results.json", [2]))
    later.start()
    later.join(0.3)
    assert not (tmp_path / "results.json").exists()
    disk.set()
    later.join(60)
    assert (tmp_path / "results.json").read_text() == "[\n 2\n]\n"
    assert sorted(order) == ["beside", "whole"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted where Linux lists them")
def test_nothing_stays_open_where_a_file_cannot_get_its_name(tmp_path: Path):
    (tmp_path / "taken" / "by a folder").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(OSError, match="taken"):
            files.write_json(tmp_path / "taken", 1, beside=True)
    assert len(os.listdir("/proc/self/fd")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_writes_too(tmp_path: Path):
    """It has none of its parent's threads, and would wait for them for ever."""

    def write(name: str, content: bytes, **how: bool) -> None:
        files.write_atomic(tmp_path / name, lambda stream: stream.write(content), **how)

    write("parent", b"1", beside=True)
    write("before", b"2")  # the threads are there
    pid = os.fork()
    if pid == 0:
        try:
            write("beside", b"3", beside=True)
            write("child", b"4")
        finally:
            os._exit(0)
    deadline = time.monotonic() + 30
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail("it waits for ever")
        time.sleep(0.01)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "parent": b"1", "before": b"2", "beside": b"3", "child": b"4",
    }  # fmt: skip
