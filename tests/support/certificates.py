"""Certificates for a test, made by the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

OPENSSL = shutil.which("openssl")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path


def make_authority(folder: Path, name: str) -> Certificate:
    """An authority that signs certificates, and whom nobody trusts by himself."""
    made = _files(folder, name)
    subject = ["-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"]
    _openssl("req", "-x509", *_KEY, "-days", "2", *subject, *_out(made))
    return made


def make_certificate(folder: Path, name: str, authority: Certificate, host: str) -> Certificate:
    """A certificate for a host (``IP:127.0.0.1``, ``DNS:example.org``)."""
    made = _files(folder, name)
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={host}"]
    signer = ["-CA", str(authority.certificate), "-CAkey", str(authority.key)]
    _openssl("req", "-x509", *_KEY, "-days", "2", *subject, *signer, *_out(made))
    return made


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _files(folder: Path, name: str) -> Certificate:
    return Certificate(folder / f"{name}.crt", folder / f"{name}.key")


def _out(made: Certificate) -> list[str]:
    return ["-out", str(made.certificate), "-keyout", str(made.key)]


def _openssl(*arguments: str) -> None:
    assert OPENSSL is not None
    done = subprocess.run([OPENSSL, *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
