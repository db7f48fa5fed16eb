"""What is kept of an attempt: its outputs, and the record of how it ended. Written by the shim, in bytes."""

import errno
import posix
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mainstay.runtime.process import fence
else:
    import fence

RETRY_SECONDS = 0.5  # to write the record on a full disk
OUTPUT_BYTES = 900 * 1024


def read_outputs(path: bytes, uid: int | None) -> tuple[bytes | None, str]:
    """What the program left at OUTPUTS_PATH, or why it can't be taken. Never what a link leads to.

    With a `uid` the file must be that user's: a hard link could lead to what only we may read.
    """
    flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK
    try:
        fd = posix.open(path, flags)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return None, "the outputs are not a regular file"
        return None, f"the outputs can't be read: {fence.reason(error)}"
    try:
        seen = posix.fstat(fd)
        if seen.st_mode & 0o170000 != 0o100000:
            return None, "the outputs are not a regular file"
        if uid is not None and seen.st_uid != uid:
            return None, "the outputs belong to another user"
        found = b""
        while len(found) <= OUTPUT_BYTES and (chunk := posix.read(fd, OUTPUT_BYTES + 1)):
            found += chunk
    except OSError as error:
        return None, f"the outputs can't be read: {fence.reason(error)}"
    finally:
        posix.close(fd)
    if len(found) > OUTPUT_BYTES:
        return None, f"the outputs are larger than {OUTPUT_BYTES // 1024} KiB"
    return found, ""


def write_exit(attempt: bytes, record: "fence.Record", outputs: bytes | None) -> None:
    """Put `exit` on disk, whole; on a full disk as often as it takes. Gives up if the unit was removed."""
    lines = b"".join(key + b"=" + value + b"\n" for key, value in record.items())
    content = lines + b"end=\n" + (outputs or b"")
    temp = attempt + b"/exit.tmp"
    while True:
        try:
            fd = posix.open(temp, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
            try:
                written = 0
                while written < len(content):
                    written += posix.write(fd, content[written:])
                posix.fsync(fd)
            finally:
                posix.close(fd)
            posix.rename(temp, attempt + b"/exit")
            sync(attempt)
            return
        except OSError:
            if not fence.exists(attempt):
                return
            time.sleep(RETRY_SECONDS)


def sync(directory: bytes) -> None:
    """Make names in a directory survive a power cut."""
    fd = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        posix.fsync(fd)
    finally:
        posix.close(fd)
