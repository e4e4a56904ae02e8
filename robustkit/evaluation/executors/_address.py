"""Which executor a name stands for, read and checked before anything is started. Never imports torch, nor Ray."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from importlib.util import find_spec

from robustkit.base.errors import UserError
from robustkit.base.installing import install_command

LOCAL, INSTANCE, AUTO, CLIENT = "local", "ray", "auto", "ray://"
ACCEPTED = "local, ray, auto, HOST:PORT or ray://HOST:PORT"
PROBED = 5.0  # seconds in which something at an address has to answer


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


def listening(address: Address) -> None:
    """Raise a :class:`UserError` unless something answers at the address of a cluster."""
    try:
        socket.create_connection((address.host, address.port), PROBED).close()
    except OSError as error:
        # Cause: the cluster is not up, the port is another one, or a firewall stands between.
        raise UserError(
            f"nothing listens at '{address.text}' ({error.strerror or error}); start the cluster "
            "(ray start --head --port=6379), or give the address that it prints."
        ) from None
