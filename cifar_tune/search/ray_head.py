"""The head of a Ray cluster: found by its address, and asked whether it answers."""

from __future__ import annotations

import os
import socket

from cifar_tune.errors import ResourceError

KNOCK_SECONDS = 4.0  # Ray itself tries a dead address, or a server of another kind, for minutes
# gRPC is HTTP/2 (RFC 9113): each side begins with a frame of settings, the client after a greeting.
SETTINGS, FRAME_HEAD = b"\x04", 9  # a frame's type, in the fourth of its first nine bytes
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + SETTINGS + b"\0" * 5


def head_of(address: str) -> str:
    """HOST:PORT of the cluster's head; `auto`: as RAY_ADDRESS has it, else the one that runs here.

    Raises:
        ResourceError: there is none, or RAY_ADDRESS is no such address.
    """
    from ray._private import services

    try:
        head: str = services.canonicalize_bootstrap_address_or_die(address)
    except (ConnectionError, ValueError):
        head = ""
    if not head:
        raise ResourceError(
            f"--address is {address}, and no Ray cluster is found here; start one (ray start"
            " --head), give HOST:PORT of its head, or leave --address out"
        )
    if "://" in head:
        raise ResourceError(
            f"RAY_ADDRESS is {head}, which is not HOST:PORT; through ray:// the driver would not be"
            " on the cluster: give the command there, or submit it (ray job submit)"
        )
    return head


def knock(head: str) -> None:
    """Make sure that Ray answers there, or at least a server of its protocol.

    Raises:
        ResourceError: nobody answers, or something else.
    """
    host, _, port = head.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS) as server:
            if os.environ.get("RAY_USE_TLS") == "1":
                return
            server.sendall(GREETING)
            answer = server.recv(FRAME_HEAD)
    except (OSError, ValueError) as error:
        raise ResourceError(
            f"no Ray cluster answers at {head}: {first_line(error)}; start it, or give another"
            " --address (auto takes RAY_ADDRESS, if that is set)"
        ) from None
    if answer[3:4] != SETTINGS:
        raise ResourceError(
            f"what answers at {head} is no Ray head; give the port that `ray start --head` names,"
            " 6379 unless told otherwise (8265 is the dashboard's)"
        )


def first_line(error: BaseException) -> str:
    """The first line of what an error says, else its name."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def last_line(text: str) -> str:
    """The last line of what Ray tells that is not empty, if there is one."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
