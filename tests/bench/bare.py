"""The bare references, as a program of its own: what the kernel and the least Python give without any agent.

    python3 -I -S bare.py receive FILE     recv and write into FILE, until the sender ends
    python3 -I -S bare.py send FILE…       sendfile of all FILEs
    python3 -I -S bare.py answer           accept, read, answer `pong`, close

It prints its port and serves one connection after the other until it is killed. It imports nothing of the tests, so
that it starts bare.
"""

from __future__ import annotations

import os
import socket
import sys

CHUNK_BYTES = 1 << 18
PONG = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npong"


def receive(connection: socket.socket, paths: list[str]) -> None:
    buffer = bytearray(CHUNK_BYTES)
    view = memoryview(buffer)
    file = os.open(paths[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    while True:
        count = connection.recv_into(buffer)
        if not count:
            break
        os.write(file, view[:count])
    os.close(file)
    connection.sendall(b"ok")
    os.unlink(paths[0])


def send(connection: socket.socket, paths: list[str]) -> None:
    connection.recv(CHUNK_BYTES)
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        offset, size = 0, os.fstat(file).st_size
        while offset < size:
            offset += os.sendfile(connection.fileno(), file, offset, size - offset)
        os.close(file)


def answer(connection: socket.socket, paths: list[str]) -> None:
    connection.recv(CHUNK_BYTES)
    connection.sendall(PONG)


def main(words: list[str]) -> None:
    serve = {"receive": receive, "send": send, "answer": answer}[words[0]]
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        serve(connection, words[1:])
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1:])
