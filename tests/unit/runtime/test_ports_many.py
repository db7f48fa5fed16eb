"""Listeners are all found, however many there are: the kernel's tables don't fit into one read."""

from __future__ import annotations

import contextlib
import socket

from mainstay.runtime.process import ports


def test_two_hundred_listeners_are_all_found():
    with contextlib.ExitStack() as stack:
        wanted = set()
        for family, address in [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")] * 100:
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.bind((address, 0))
            listener.listen()
            wanted.add(listener.getsockname()[1])
        for found in (ports.listeners(frozenset(wanted)), ports._from_proc(frozenset(wanted))):
            assert {one.port for one in found} == wanted
            assert all(one.inode and one.address in {"127.0.0.1", "::1"} for one in found)
