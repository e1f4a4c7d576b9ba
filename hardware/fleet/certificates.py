"""Certificates of a fleet: its own small authority, and one certificate a robot, whose common name is the robot's.

P-256 keys throughout, which every TLS library speaks. A robot's folder holds `robot.crt`, `robot.key`, `ca.crt` and
`publisher.pub`, the key of whoever signs policies.
"""

import datetime
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware.fleet.extra import extra
from hardware.fleet.signing import SERIALIZATION, write_secret
from sim2real.errors import UserError
from sim2real.files import write_text
from sim2real.text import printable

AUTHORITY_DAYS = 3650
ROBOT_DAYS = 365
"""How long certificates are good for, unless told otherwise."""

HUB = "hub"
"""The common name of the hub's certificate; no robot may have it."""


@dataclass(frozen=True)
class Identity:
    """One robot's folder, checked: its name is the certificate's."""

    name: str
    folder: Path
    fingerprint: str
    """SHA-256 of the certificate, hex."""
    expires: float
    """Seconds since 1970."""

    @property
    def certificate(self) -> Path:
        return self.folder / "robot.crt"

    @property
    def key(self) -> Path:
        return self.folder / "robot.key"

    @property
    def authority(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def publisher(self) -> Path:
        return self.folder / "publisher.pub"

    @classmethod
    def read(cls, folder: str | Path, now: float | None = None) -> "Identity":
        """Raises UserError that says why a hub would refuse it: expired, of another authority, of another key."""
        folder = Path(folder)
        x509 = extra("cryptography.x509", "cryptography")
        serialization = extra(SERIALIZATION, "cryptography")
        missing = [
            name
            for name in ("robot.crt", "robot.key", "ca.crt", "publisher.pub")
            if not (folder / name).is_file()
        ]
        if missing:
            raise UserError(
                f"{folder} is no robot's folder: it lacks {', '.join(missing)}; `sim2real fleet enroll NAME` makes one"
            )
        try:
            certificate = x509.load_pem_x509_certificate((folder / "robot.crt").read_bytes())
            authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
            key = serialization.load_pem_private_key((folder / "robot.key").read_bytes(), None)
            name = common_name(certificate)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"cannot read the certificate in {folder}: {error}") from None
        if certificate.public_key() != key.public_key():
            raise UserError(
                f"the key in {folder} is not that of the certificate of '{printable(name)}' there"
            )
        try:
            certificate.verify_directly_issued_by(authority)
        except Exception:
            # Its exceptions share no base class.
            raise UserError(
                f"the certificate of '{printable(name)}' in {folder} is not of the authority in {folder / 'ca.crt'}: "
                "enroll the robot at the hub that it is to talk to"
            ) from None
        expires = certificate.not_valid_after_utc
        here = (
            datetime.datetime.now(datetime.UTC)
            if now is None
            else datetime.datetime.fromtimestamp(now, datetime.UTC)
        )
        if here > expires:
            raise UserError(
                f"the certificate of '{printable(name)}' in {folder} expired on {expires:%Y-%m-%d %H:%M} UTC: enroll "
                "the robot again (and see that this computer's clock is right)"
            )
        if here < certificate.not_valid_before_utc:
            raise UserError(
                f"the certificate of '{printable(name)}' in {folder} is good from "
                f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on: this computer's clock is wrong"
            )
        return cls(name, folder, fingerprint(certificate), expires.timestamp())


class Authority:
    """The fleet's own certificate authority, in a folder; made there when there is none and `create`."""

    def __init__(self, folder: Path, create: bool = False) -> None:
        x509 = extra("cryptography.x509", "cryptography")
        serialization = extra(SERIALIZATION, "cryptography")
        self.folder = folder
        if create and not (folder / "ca.crt").exists():
            key = _new_key()
            # Named by chance, so that another fleet's certificate is told to be of an unknown issuer.
            name = _name(f"sim2real fleet {secrets.token_hex(4)}")
            certificate = (
                _builder(name, name, key.public_key(), AUTHORITY_DAYS)
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .sign(key, _hash())
            )
            write_secret(folder / "ca.key", _pem(key))
            write_text(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM).decode())
        try:
            self._certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
            self._key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"cannot read the fleet's certificate authority in {folder}: {error}") from None

    def issue(
        self, name: str, days: float = ROBOT_DAYS, hosts: Iterable[str] = ()
    ) -> tuple[bytes, bytes, str]:
        """(certificate, private key, fingerprint), both PEM; `hosts` are names and addresses of a hub."""
        x509 = extra("cryptography.x509", "cryptography")
        serialization = extra(SERIALIZATION, "cryptography")
        usage = extra("cryptography.x509.oid", "cryptography").ExtendedKeyUsageOID
        key = _new_key()
        builder = _builder(_name(name), self._certificate.subject, key.public_key(), days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([usage.CLIENT_AUTH, usage.SERVER_AUTH]), critical=False
        )
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_host(host) for host in (*hosts, name)]), critical=False
        )
        certificate = builder.sign(self._key, _hash())
        return certificate.public_bytes(serialization.Encoding.PEM), _pem(key), fingerprint(certificate)

    def issue_to(self, folder: Path, name: str, publisher: str, days: float = ROBOT_DAYS) -> str:
        """Make a robot's folder; the fingerprint of its certificate. Raises UserError where there is one already."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is not empty; name another folder with --out")
        certificate, key, mark = self.issue(name, days)
        try:
            write_secret(folder / "robot.key", key)
            write_text(folder / "robot.crt", certificate.decode())
            write_text(folder / "ca.crt", (self.folder / "ca.crt").read_text())
            write_text(folder / "publisher.pub", publisher)
        except OSError as error:
            raise UserError(f"cannot write {folder}: {error}") from None
        return mark

    def hub(self, hosts: Iterable[str]) -> tuple[Path, Path]:
        """The hub's certificate and key for these names and addresses, made anew each time a hub starts."""
        certificate, key, _ = self.issue(HUB, ROBOT_DAYS, hosts)
        files = self.folder / "hub.crt", self.folder / "hub.key"
        files[1].unlink(missing_ok=True)
        write_secret(files[1], key)
        write_text(files[0], certificate.decode())
        return files


def fingerprint(certificate: Any) -> str:
    """SHA-256 of a certificate, hex."""
    hashes = extra("cryptography.hazmat.primitives.hashes", "cryptography")
    mark: bytes = certificate.fingerprint(hashes.SHA256())
    return mark.hex()


def common_name(certificate: Any) -> str:
    """Raises ValueError for a certificate without one."""
    oid = extra("cryptography.x509.oid", "cryptography").NameOID.COMMON_NAME
    names = certificate.subject.get_attributes_for_oid(oid)
    if len(names) != 1:
        raise ValueError("its subject has no common name")
    return str(names[0].value)


def _builder(subject: Any, issuer: Any, public: Any, days: float) -> Any:
    x509 = extra("cryptography.x509", "cryptography")
    now = datetime.datetime.now(datetime.UTC)
    # Clocks of robots differ a little from the hub's.
    begin = min(now, now + datetime.timedelta(days=days)) - datetime.timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(text: str) -> Any:
    x509 = extra("cryptography.x509", "cryptography")
    oid = extra("cryptography.x509.oid", "cryptography").NameOID.COMMON_NAME
    return x509.Name([x509.NameAttribute(oid, text)])


def _host(host: str) -> Any:
    x509 = extra("cryptography.x509", "cryptography")
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _new_key() -> Any:
    curves = extra("cryptography.hazmat.primitives.asymmetric.ec", "cryptography")
    return curves.generate_private_key(curves.SECP256R1())


def _pem(key: Any) -> bytes:
    ways = extra(SERIALIZATION, "cryptography")
    text: bytes = key.private_bytes(ways.Encoding.PEM, ways.PrivateFormat.PKCS8, ways.NoEncryption())
    return text


def _hash() -> Any:
    return extra("cryptography.hazmat.primitives.hashes", "cryptography").SHA256()
