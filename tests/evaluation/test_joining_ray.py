"""Clusters that cannot be joined: a sentence within seconds, before anything is done."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from in_process import invoke
from ray_cluster import ROOT, RayNodes, environment, until

from robustkit.base.errors import UserError
from robustkit.evaluation.executors import _address, _cluster, _guard, check
from robustkit.evaluation.executors._address import Address, listening, read
from robustkit.evaluation.executors.ray import Ray

JOIN = """
import sys
from robustkit.base.errors import UserError
from robustkit.evaluation.executors._address import read
from robustkit.evaluation.executors._cluster import Cluster
try:
    cluster = Cluster(read(sys.argv[1]))
    print(len(cluster.ray.nodes()), "nodes")
    cluster.close()
except UserError as error:
    print(error)
"""


@pytest.fixture
def silent() -> Iterator[int]:
    """A port at which something listens that never says a word."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(8)
        yield held.getsockname()[1]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_where_nothing_listens_a_sentence_says_so(scheme: str, tmp_path: Path):
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{taken.getsockname()[1]}"  # bound, but nobody listens
        began = time.monotonic()
        code, _, said = invoke("evaluate", "--out", tmp_path / "out", "--executor", address)
    assert code == 2
    assert f"robustkit: nothing listens at '{address}' (Connection refused); start the cluster" in said
    assert time.monotonic() < began + 10
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_what_listens_and_is_no_cluster_is_told_within_ten_seconds(scheme: str, silent: int):
    pytest.importorskip("grpc")
    pytest.importorskip("ray")
    began = time.monotonic()
    with pytest.raises(UserError, match=f"what listens at '{scheme}127.0.0.1:{silent}' is no .* of Ray .gRPC: "):
        check(f"{scheme}127.0.0.1:{silent}")
    assert time.monotonic() < began + 10


def test_one_port_of_ray_is_not_the_other(ray_nodes: RayNodes):
    with pytest.raises(UserError, match="is no cluster of Ray .gRPC: UNIMPLEMENTED.; HOST:PORT is what ray start"):
        listening(read(ray_nodes.client.removeprefix("ray://")))
    with pytest.raises(UserError, match="is no client server of Ray .gRPC: UNIMPLEMENTED"):
        listening(read(f"ray://{ray_nodes.address}"))
    listening(read(ray_nodes.address))
    listening(read(ray_nodes.client))


def test_auto_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, said = invoke("evaluate", "--n", "8", "--out", tmp_path / "out", "--executor", "auto")
    assert code == 2
    assert "executor 'auto' finds no cluster of Ray on this machine; start one (ray start --head)" in said
    assert not (tmp_path / "out").exists()


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(_address, "find_spec", lambda name: None)
    for executor in ("ray", "auto", "host:6379", "ray://host:10001"):
        code, _, said = invoke("evaluate", "--out", tmp_path / "out", "--executor", executor)
        assert code == 2
        assert f"robustkit: executor '{executor}' needs Ray, which is not installed; " in said
        assert "pip install" in said
        assert "[ray]" in said.replace("'", "")
        assert len(said.strip().splitlines()) == 1


def test_an_installed_ray_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="Ray is installed and cannot be imported .import of ray halted.*pip install"):
        _cluster.Cluster(Address("ray"))
    assert _cluster._held == []


def test_a_cluster_with_a_token_says_what_to_set_and_lets_in_who_has_it(tmp_path: Path):
    pytest.importorskip("ray")
    token = secrets.token_hex(32)
    with RayNodes(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token) as nodes:
        home = nodes.folder / "driver"
        (home / ".ray").mkdir(parents=True)

        def joining(address: str = nodes.address, **more: str) -> str:
            words = [sys.executable, "-c", JOIN, address]
            env = environment(home, **more)
            return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=True).stdout

        with pytest.MonkeyPatch.context() as patch:
            for name in (name for name in os.environ if name.startswith("RAY_AUTH")):
                patch.delenv(name)
            patch.setenv("HOME", str(home))
            closed = f"the cluster at '{nodes.address}' does not let this process in; set RAY_AUTH_MODE=token, and "
            with pytest.raises(UserError) as none:
                listening(read(nodes.address))
            assert str(none.value).startswith(closed)
            assert "auth_token" not in str(none.value)
            (home / ".ray" / "auth_token").write_text(token)  # as an earlier ray.init() leaves it
            with pytest.raises(UserError, match="auth_token' is one, which an earlier ray.init.. has left"):
                listening(read(nodes.address))
        assert joining(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64).startswith(closed)
        assert joining(RAY_AUTH_MODE="token") == "1 nodes\n"
        assert joining("auto", RAY_TMPDIR=str(nodes.folder)) == "1 nodes\n"  # where Ray takes it by itself
        assert [path.name for path in (home / ".ray").iterdir()] == ["auth_token"]


def test_an_instance_lies_in_a_short_folder_wherever_others_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    made = Path(_cluster._short_folder())
    made.rmdir()
    assert len(str(made / "session_2026-11-29_09-05-40_868011_4194304" / "sockets" / "plasma_store")) <= 103


def test_on_windows_it_lies_where_temporary_files_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path))
        patched.setattr(os, "name", "nt")
        made = _cluster._short_folder()
    assert Path(made).parent == tmp_path


def test_a_piece_that_no_node_has_room_for_is_refused_and_not_waited_for(
    ray_nodes: RayNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(ray_nodes.folder))
    code, _, said = invoke(
        "evaluate", "--n", "8", "--out", tmp_path / "out", "--executor", ray_nodes.address, "--task-cpus", "64"
    )
    assert code == 2
    assert "has room for a piece of work of 64 CPUs and 0 GPUs (at most 1 and 0); lower --task-cpus" in said


@pytest.mark.parametrize("text", ["foo", "foo:bar"])
def test_a_variable_that_holds_no_address_is_named(text: str, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", text)
    with pytest.raises(UserError, match=f"joins what RAY_ADDRESS says, and '{text}' is no HOST:PORT"):
        check("auto")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ray client connection timeout", "cannot be joined: ray client connection timeout"),
        (
            "Initialization failure from server:\nTraceback (most recent call last):\n  File 'proxier.py'\n"
            "RuntimeError: Starting Ray client server failed. See ray_client_server_1.err for detailed logs.\n",
            "cannot be joined: RuntimeError: Starting Ray client server failed. See ray_client_server_1.err for "
            "detailed logs.",
        ),
        ("Authentication failed: no token", "does not let this process in; set RAY_AUTH_MODE=token"),
    ],
)
def test_a_token_is_asked_for_only_where_it_is_missing(error: str, said: str, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("grpc")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert said in _cluster._sentence("ray://far:10001", ConnectionError(error))


@pytest.mark.parametrize("affinity", [True, False])  # macOS and Windows do not say which cores a process may use
def test_a_piece_larger_than_this_machine_is_refused_before_ray_starts(affinity: bool, monkeypatch: pytest.MonkeyPatch):
    ray = pytest.importorskip("ray")
    if not affinity:
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
    for size, said in (({"cpus": 4096}, "4096 CPUs and 0 GPUs"), ({"gpus": 4096.0}, "1 CPUs and 4096 GPUs")):
        with pytest.raises(UserError, match=f"no node of executor 'ray' has room for a piece of work of {said}"):
            Ray(torch.device("cpu"), read("ray"), **size).open()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_what_is_left_of_an_instance_is_ended_and_nothing_else(tmp_path: Path):
    asleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    left = subprocess.Popen(asleep, env={**os.environ, _guard.MARK: str(tmp_path / "rk")})
    other = subprocess.Popen(asleep, env={**os.environ, _guard.MARK: str(tmp_path / "rk-of-others")})
    (tmp_path / "rk").mkdir()
    with (tmp_path / "rk" / "log").open("w"):  # as this process holds Ray's logs
        _guard.end(str(tmp_path / "rk"))
    assert left.wait(10) == -signal.SIGKILL
    assert other.poll() is None
    assert not (tmp_path / "rk").exists()
    other.kill()
    other.wait()


LEAVING = """
import sys, time
sys.path.insert(0, sys.argv[2])
from robustkit.evaluation.executors import _guard
guard = _guard.start(sys.argv[1])
log = open(sys.argv[1] + "/log", "w")
guard.stdin.close()  # as the interpreter does when it ends
time.sleep(_guard.GRACE + 1.0)
print(guard.poll(), flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_a_driver_that_takes_its_time_to_leave_is_not_ended_with_its_instance(tmp_path: Path):
    folder = tmp_path / "rk"
    folder.mkdir()
    words = [sys.executable, "-c", LEAVING, str(folder), str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "None\n", done.stderr
    assert until(lambda: not folder.exists(), 20)
