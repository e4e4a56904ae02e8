"""Which executor a name stands for, read and checked before anything is started. Never imports torch, nor Ray."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from robustkit.base.errors import UserError
from robustkit.base.installing import install_command

LOCAL, INSTANCE, AUTO, CLIENT = "local", "ray", "auto", "ray://"
ACCEPTED = "local, ray, auto, HOST:PORT or ray://HOST:PORT"
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
KEPT = "~/.ray/auth_token"  # where Ray keeps the token of a user
PROBED = 4.0  # seconds in which something at an address has to answer


@dataclass(frozen=True)
class Address:
    """An executor as the user named it: ``local``, ``ray``, ``auto``, or a cluster's host and port."""

    text: str
    host: str = ""
    port: int = 0

    @property
    def remote(self) -> bool:
        """Whether pieces run in processes of Ray."""
        return self.text != LOCAL

    @property
    def joined(self) -> bool:
        """Whether a cluster is there that somebody else started."""
        return self.text not in (LOCAL, INSTANCE)

    @property
    def client(self) -> bool:
        """Whether it is the port of Ray's client server, for drivers outside the cluster."""
        return self.text.startswith(CLIENT)


def read(text: str) -> Address:
    """Read what ``--executor`` was given; a :class:`UserError` says what is accepted, or what to install."""
    if text in (LOCAL, INSTANCE, AUTO):
        address = Address(text)
    else:
        host, _, port = text.removeprefix(CLIENT).rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in host:
            # Cause: a name is written otherwise, or an address has no port.
            raise UserError(f"executor '{text}' is none of {ACCEPTED}.")
        address = Address(text, host.strip("[]"), int(port))
    if address.remote and find_spec("ray") is None:
        raise UserError(f"executor '{text}' needs Ray, which is not installed; {install_command('ray')}")
    return address


def _resolved(address: Address) -> Address:
    """Return the host and port that ``auto`` means: the environment's, else those of the cluster on this machine."""
    if address.text != AUTO:
        return address
    text = os.environ.get("RAY_ADDRESS", "")
    if not text:
        with contextlib.suppress(Exception):
            text = importlib.import_module("ray._private.utils").read_ray_address() or ""
    if not text or text in (AUTO, LOCAL, INSTANCE):
        # Cause: no cluster was started on this machine, and no RAY_ADDRESS is set.
        raise UserError(
            "executor 'auto' finds no cluster of Ray on this machine; start one (ray start --head), set RAY_ADDRESS, "
            "or write --executor ray."
        )
    try:
        return read(text)
    except UserError:
        # Cause: the variable holds something else than an address, or nothing of Ray's.
        raise UserError(
            f"executor 'auto' joins what RAY_ADDRESS says, and '{text}' is no HOST:PORT and no ray://HOST:PORT; mend "
            "it, or unset it."
        ) from None


def listening(asked: Address) -> None:
    """Raise a :class:`UserError` unless a cluster of Ray answers at an address, within seconds.

    Ray itself waits a minute or two for what is there and says nothing, or is another program.
    """
    address = _resolved(asked)
    try:
        socket.create_connection((address.host, address.port), PROBED).close()
    except OSError as error:
        # Cause: the cluster is not up, the port is another one, or a firewall stands between.
        raise UserError(
            f"nothing listens at '{address.text}' ({error.strerror or error}); start the cluster "
            "(ray start --head --port=6379), or give the address that it prints."
        ) from None
    answer = _answer(address)
    if answer in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        if asked.text == AUTO and MODE not in os.environ and os.path.isfile(os.path.expanduser(KEPT)):
            return  # for auto alone Ray shows that token by itself
        raise UserError(closed(address.text))
    if answer not in ("", "OK"):
        # Cause: the port of another program, or of another part of Ray, such as its dashboard.
        raise UserError(
            f"what listens at '{address.text}' is no {'client server' if address.client else 'cluster'} of Ray (gRPC: "
            f"{answer}); HOST:PORT is what ray start --head prints (6379), ray://HOST:PORT its client server's (10001)."
        )


def token_set() -> bool:
    """Return whether this process shows a token."""
    return os.environ.get(MODE, "").lower() == "token"


def _token() -> str:
    """Return the token that Ray would show; empty: none."""
    if not token_set():
        return ""
    path = os.environ.get(TOKEN_PATH) or os.path.expanduser(KEPT)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return os.environ.get(TOKEN) or Path(path).read_text("utf-8").strip()
    return ""


def closed(text: str) -> str:
    """Return the sentence for a cluster that wants another token than this process shows, or any."""
    left = os.path.expanduser(KEPT)
    kept = f" ('{left}' is one, which an earlier ray.init() has left)" if os.path.isfile(left) else ""
    return (
        f"the cluster at '{text}' does not let this process in; set {MODE}=token, and {TOKEN} or {TOKEN_PATH} to the "
        f"token that it was started with{kept}."
    )


def _answer(address: Address) -> str:
    """Return how a cluster answers a question of which it takes no note: ``OK`` or gRPC's code; empty: not known."""
    try:
        import grpc
    except ImportError:  # Ray without its extra "client"
        return ""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):  # Ray's own certificates are Ray's matter
        return ""
    question = "RayletDriver/ClusterInfo" if address.client else "NodeInfoGcsService/GetClusterId"
    shown = [("authorization", f"Bearer {token}")] if (token := _token()) else []
    place = f"[{address.host}]" if ":" in address.host else address.host
    with grpc.insecure_channel(f"{place}:{address.port}", [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(f"/ray.rpc.{question}")(b"", timeout=PROBED, metadata=shown)
        except grpc.RpcError as error:
            code: str = error.code().name
            return "OK" if address.client and code == "NOT_FOUND" else code  # it knows no such client, of course
    return "OK"
