"""Certificates of our own."""

import subprocess
from pathlib import Path

import pytest


def openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, and server.pem with server.key for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificates")
    subject = ("-nodes", "-newkey", "rsa:2048", "-days", "2")
    openssl(
        "req", "-x509", *subject, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test ca",
        "-addext", "keyUsage=critical,keyCertSign", cwd=folder,
    )  # fmt: skip
    openssl(
        "req", *subject, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1",
        cwd=folder,
    )  # fmt: skip
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out",
        "server.pem", "-days", "2", "-extfile", "san", "-CAcreateserial", cwd=folder,
    )  # fmt: skip
    for key in folder.glob("*.key"):
        key.chmod(0o644)
    return folder
