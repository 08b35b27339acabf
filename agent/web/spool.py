"""Receiving: an upload goes straight into one staging file, hashed by a second thread that follows it.

The write and the hash overlap on two cores (hashlib and pread(2) release the GIL), so receiving
takes one disk copy and no second pass. A spool stands in for Waitress's body buffer: `append`
is called in its loop as bytes arrive, `finish` in the worker once all of them have.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from typing import Callable, List, Optional, Union

from agent.errors import Busy, MalformedRequest, StorageFull, TooLarge
from agent.host.files import Space, free_space, remove_if_present, write_all
from agent.operations.launch import Upload
from agent.store import staging
from agent.store.layout import StoreLayout
from agent.store.limits import reserve_bytes as reserve_bytes

#: An artifact needs its own size twice: as uploaded and as unpacked.
SPACE_FACTOR = 2
_CHUNK_BYTES = 1 << 20
_SPACE_CHECK_BYTES = 64 << 20
_MINIMUM_INODES = 1000


class Body:
    """A small body in memory, in place of Waitress's buffer. TooLarge over `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._data = bytearray()

    def append(self, data: bytes) -> None:
        if len(self._data) + len(data) > self._limit_bytes:
            raise TooLarge(
                f"The body is larger than {self._limit_bytes} bytes.", "Send a smaller one.", limit_bytes=self._limit_bytes
            )
        self._data += data

    def __len__(self) -> int:
        return len(self._data)

    def getbuf(self) -> Body:
        return self

    def getfile(self) -> io.BytesIO:
        return io.BytesIO(bytes(self._data))

    def close(self) -> None:
        self._data.clear()


class Uploads:
    """The uploads under way: slots, size limit and the disk space that they will still need."""

    def __init__(self, store: StoreLayout, limit_bytes: int, slots: int = 16, space: Callable[[str], Space] = free_space) -> None:
        self.store = store
        self.limit_bytes = limit_bytes
        self._slots = slots
        self._space = space
        self._active: List[Spool] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._active)

    def require_size(self, size_bytes: int) -> None:
        """TooLarge for more than an artifact may have."""
        if size_bytes > self.limit_bytes:
            raise TooLarge(
                f"The artifact is larger than {self.limit_bytes} bytes.",
                "Make the artifact smaller, or let the project fetch what is large by itself.",
                limit_bytes=self.limit_bytes,
            )

    def require_space(self, size_bytes: int) -> None:
        """StorageFull unless an artifact of this size fits, twice, beside the uploads under way and the reserve."""
        space = self._space(self._existing())
        with self._lock:
            promised = sum(spool.promised_bytes for spool in self._active)
        needed = SPACE_FACTOR * size_bytes + promised + reserve_bytes(space)
        if space.free_bytes < needed:
            raise StorageFull(
                f"The store's disk has {space.free_bytes} bytes free; this call needs {needed} "
                f"(the artifact twice, other uploads and a reserve of {reserve_bytes(space)}).",
                free_bytes=space.free_bytes,
                needed_bytes=needed,
            )
        if space.total_inodes and space.free_inodes < _MINIMUM_INODES:
            raise StorageFull(
                f"The store's file system has {space.free_inodes} inodes left, and {_MINIMUM_INODES} are to stay free.",
                free_inodes=space.free_inodes,
            )

    def _existing(self) -> str:
        return self.store.staging if os.path.isdir(self.store.staging) else self.store.root

    def open(self, expected_bytes: Optional[int]) -> Spool:
        """A new spool in a free slot; Busy when there is none."""
        with self._lock:
            if len(self._active) >= self._slots:
                raise Busy(
                    f"{self._slots} uploads are under way, which is the limit.",
                    "Call again in a few seconds.",
                    retry_after_seconds=5,
                )
            spool = Spool(staging.new_path(self.store, ".upload"), self, expected_bytes)
            self._active.append(spool)
        return spool

    def release(self, spool: Spool) -> None:
        """Free the spool's slot; a second call does nothing."""
        with self._lock:
            if spool in self._active:
                self._active.remove(spool)


class Spool:
    """One upload being received. `close` removes what `finish` has not handed over."""

    def __init__(self, path: str, uploads: Uploads, expected_bytes: Optional[int]) -> None:
        self.path = path
        self.size_bytes = 0
        self.started = time.monotonic()
        self._uploads = uploads
        self._expected_bytes = expected_bytes
        self._next_check = _SPACE_CHECK_BYTES
        self._open = True
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._follower: Optional[_Follower] = None

    @property
    def promised_bytes(self) -> int:
        """Bytes of disk that this upload will still take."""
        return max(0, SPACE_FACTOR * (self._expected_bytes or self.size_bytes) - self.size_bytes)

    def append(self, data: Union[bytes, bytearray, memoryview]) -> None:
        """Write the bytes. TooLarge over the limit, StorageFull near the disk's end, OSError from the disk itself."""
        if not self._open:
            raise ValueError("the spool is closed")  # its descriptor's number may be another file's by now
        size = self.size_bytes + len(data)
        self._uploads.require_size(size)
        if self._expected_bytes is None and size > self._next_check:
            # a chunked upload does not say how much is to come, so its space is looked at again and again
            self._uploads.require_space(_SPACE_CHECK_BYTES)
            self._next_check = size + _SPACE_CHECK_BYTES
        write_all(self._fd, data)  # type: ignore[arg-type]
        self.size_bytes = size
        if self._follower is None and size > _CHUNK_BYTES:
            self._follower = _Follower(self._fd)
        if self._follower is not None:
            self._follower.grow(size)

    def __len__(self) -> int:
        return self.size_bytes

    def __bool__(self) -> bool:
        return True

    def getbuf(self) -> Spool:
        return self

    def getfile(self) -> Spool:
        """What a handler finds as `wsgi.input`."""
        return self

    def finish(self) -> Upload:
        """Hand over the file with its digest. MalformedRequest when it is empty, OSError when it can't be read."""
        if not self.size_bytes:
            raise MalformedRequest("artifact: it is empty.", "Send the artifact's bytes, as multipart or as the raw body.")
        if self._follower is None:
            digest = hashlib.sha256(os.pread(self._fd, self.size_bytes, 0)).hexdigest()
        else:
            digest = self._follower.finish()
        self._open = False
        os.close(self._fd)
        self._uploads.release(self)
        return Upload(self.path, digest, self.size_bytes)

    def close(self) -> None:
        """Stop, remove the file and free the slot; after `finish` or a first `close` this does nothing."""
        if not self._open:
            return
        self._open = False
        remove_if_present(self.path)
        os.close(self._fd)
        if self._follower is not None:
            self._follower.abandon()
        self._uploads.release(self)


class _Follower:
    """A thread that hashes a growing file through a descriptor of its own, which it closes at its end."""

    def __init__(self, fd: int) -> None:
        self._digest = hashlib.sha256()
        self._size = 0
        self._ended = self._abandoned = False
        self._error: Optional[OSError] = None
        self._changed = threading.Condition()
        self._fd = os.dup(fd)
        self._thread = threading.Thread(target=self._run, name="digest", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads
            os.close(self._fd)
            raise

    def grow(self, size: int) -> None:
        with self._changed:
            self._size = size
            self._changed.notify()

    def finish(self) -> str:
        """The digest of everything, once the rest has been hashed; OSError if it could not be read."""
        self._end(abandoned=False)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._digest.hexdigest()

    def abandon(self) -> None:
        """Let the thread end by itself, so that the loop never waits for the disk."""
        self._end(abandoned=True)

    def _end(self, abandoned: bool) -> None:
        with self._changed:
            self._ended, self._abandoned = True, abandoned
            self._changed.notify()

    def _run(self) -> None:
        hashed = 0
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._ended or self._size > hashed)  # noqa: B023
                    size = self._size
                    if self._abandoned or (self._ended and size == hashed):
                        return
                while hashed < size and not self._abandoned:
                    data = os.pread(self._fd, min(_CHUNK_BYTES, size - hashed), hashed)
                    if not data:
                        raise OSError(f"the staging file lost bytes after {hashed}")
                    self._digest.update(data)
                    hashed += len(data)
        except OSError as error:
            self._error = error
        finally:
            os.close(self._fd)
