"""A certificate authority for tests: nodes' certificates as TLS wants them, made in a moment.

Needs the package ``cryptography``. Not for production: the keys lie about unprotected.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from laminar.config import TlsConfig
from laminar.model import node_uri

LIFETIME: Final = datetime.timedelta(days=1)


class Authority:
    """Certifies the nodes of one cluster; its files go to ``folder``."""

    def __init__(self, folder: Path, cluster: str = "laminar", name: str = "authority") -> None:
        self.path = folder / f"{name}.pem"
        """The authority's own certificate."""
        self._folder = folder
        self._cluster = cluster
        self._name = _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._begin(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def certify(
        self, node: str, *, file: str | None = None, lifetime: datetime.timedelta = LIFETIME
    ) -> TlsConfig:
        """A certificate and a key for ``node``, as ``file`` (by default the node's name).

        A negative ``lifetime`` makes one that has expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        uri = x509.UniformResourceIdentifier(node_uri(self._cluster, node))
        certificate = (
            self._begin(_named(node[:64]), key, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .add_extension(  # tells two authorities of the same name apart
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        stem = file or node
        config = TlsConfig(
            certificate=str(self._folder / f"{stem}.pem"),
            key=str(self._folder / f"{stem}-key.pem"),
            ca=str(self.path),
        )
        Path(config.certificate).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        Path(config.key).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return config

    def _begin(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        lifetime: datetime.timedelta = LIFETIME,
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        first, last = sorted((now - LIFETIME, now + lifetime))
        if lifetime < datetime.timedelta():
            first = last - LIFETIME
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(first)
            .not_valid_after(last)
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
