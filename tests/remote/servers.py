"""Servers on the loopback interface: OpenSSH's for SFTP, moto's for S3, an emulator of Google's storage; and a network
between that misbehaves."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") or ""
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server")
SFTP_SERVER = next((path for path in SFTP_SERVERS if Path(path).is_file()), "")

CONFIGURATION = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp {server}
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until somebody listens at `port`."""
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert process.poll() is None, "the server ended before it listened"
        time.sleep(0.02)


@contextmanager
def killed(command: list[str], port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, which is killed at the end."""
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    try:
        wait_for(port, process)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def sftp(folder: Path, home: Path) -> Iterator[int]:
    """OpenSSH's server with keys of its own; `home`/.ssh gets the user's key and the host's. Yields its port."""
    port = free_port()
    for name in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(folder / name)], check=True
        )
    (home / ".ssh").mkdir(mode=0o700)
    shutil.copy(folder / "user_key", home / ".ssh" / "id_ed25519")
    host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:* {host_key}\n")
    (folder / "sshd_config").write_text(CONFIGURATION.format(port=port, folder=folder, server=SFTP_SERVER))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with killed([SSHD, "-D", "-f", str(folder / "sshd_config")], port):
        yield port


S3_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def s3(port: int) -> Iterator[str]:
    """moto's S3 at a port. Yields the name of a bucket that is there."""
    with killed([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        # What `mb` of any client sends; moto looks at no signature.
        answer = urlopen(Request(f"http://127.0.0.1:{port}/results", method="PUT"))
        assert answer.status == 200
        yield "results"


@contextmanager
def gs(port: int) -> Iterator[str]:
    """gcp-storage-emulator at a port. Yields the name of a bucket that is there."""
    emulator = ["gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"]
    with killed([sys.executable, "-m", *emulator, "--default-bucket", "results"], port):
        yield "results"


def user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


@dataclass
class Network:
    """A way to a server that can be made slow, cut or dead. Listens at `port`."""

    to: int
    port: int = 0
    seconds: float = 0.0
    """How long each piece is held back."""
    left: int | None = None
    """Bytes that still pass before all connections are cut."""
    dead: bool = False
    """Accepts connections and passes nothing."""
    passed: int = 0
    connections: list[socket.socket] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        self.threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self.threads[-1].start()

    def cut(self) -> None:
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(16_384):
                while self.dead:
                    time.sleep(0.05)
                time.sleep(self.seconds)
                self.passed += len(content)
                if self.left is not None:
                    self.left -= len(content)
                    if self.left < 0:
                        self.cut()
                        return
                target.sendall(content)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                if self.left is not None and self.left < 0:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.to))
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += [near, far]
                for ends in ((near, far), (far, near)):
                    self.start(self.pump, *ends)


@contextmanager
def network(to: int) -> Iterator[Network]:
    """A `Network` in front of the server at port `to`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Network(to=to, port=int(listening.getsockname()[1]))
        made.start(made.serve, listening)
        try:
            yield made
        finally:
            made.dead = False
            listening.shutdown(socket.SHUT_RDWR)
            made.cut()
            for thread in made.threads:
                thread.join()
            for connection in made.connections:
                connection.close()
