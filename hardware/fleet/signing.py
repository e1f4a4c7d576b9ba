"""Who published a policy: an ed25519 signature over what its file is (RFC 8032).

A *manifest* is one JSON object in one spelling (`canonical`): the SHA-256 and size of the file, its task and robot, its
name, when it was made. Whoever has the publisher's private key can sign one; robots hold the public key and load
nothing else.
"""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hardware.fleet.extra import extra
from sim2real.errors import Sim2RealError, UserError

ED25519 = "cryptography.hazmat.primitives.asymmetric.ed25519"
SERIALIZATION = "cryptography.hazmat.primitives.serialization"


class SignatureError(Sim2RealError):
    """What is offered is not what its publisher signed."""


@dataclass(frozen=True)
class Manifest:
    """What is signed of a policy. `digest`: SHA-256 of the file, hex; `size`: bytes; `created`: seconds since 1970."""

    digest: str
    size: int
    task: str
    robot: str
    name: str
    created: float

    def __post_init__(self) -> None:
        if len(self.digest) != 64 or set(self.digest) - set("0123456789abcdef"):
            raise ValueError("digest must be 64 hexadecimal digits")
        if not isinstance(self.size, int) or self.size < 1:
            raise ValueError("size must be a positive whole number")

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Manifest":
        """Raises ValueError for anything else than what `to_json` makes."""
        kinds = {"digest": str, "size": int, "task": str, "robot": str, "name": str, "created": (int, float)}
        if set(raw) != set(kinds):
            raise ValueError(f"a manifest has the keys {', '.join(kinds)}")
        for key, kind in kinds.items():
            if not isinstance(raw[key], kind) or isinstance(raw[key], bool):  # type: ignore[arg-type]
                raise ValueError(f"{key} of a manifest is of the wrong kind")
        return cls(**raw)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def check_content(self, content: bytes) -> None:
        """Raise SignatureError unless this is the file that was signed."""
        found = hashlib.sha256(content).hexdigest()
        if found != self.digest or len(content) != self.size:
            raise SignatureError(
                f"policy {self.digest[:12]} is {self.size} bytes, what came is {len(content)} bytes with the digest "
                f"{found[:12]}"
            )


def canonical(raw: Mapping[str, Any]) -> bytes:
    """The one spelling of a JSON object that is signed and hashed: sorted keys, no spaces."""
    return json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


class Signer:
    """A private key. `Signer.at(path)` reads it."""

    def __init__(self, key: Any) -> None:
        self._key = key

    @classmethod
    def at(cls, path: Path, create: bool = False) -> "Signer":
        """The key in a PEM file, made there when `create` and there is none; nobody else may read it.

        Raises UserError for a file that is no ed25519 key.
        """
        private = extra(ED25519, "cryptography").Ed25519PrivateKey
        ways = extra(SERIALIZATION, "cryptography")
        if create and not path.exists():
            content = private.generate().private_bytes(
                ways.Encoding.PEM, ways.PrivateFormat.PKCS8, ways.NoEncryption()
            )
            write_secret(path, content)
        try:
            key = ways.load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"cannot read the publisher's key {path}: {error}") from None
        if not isinstance(key, private):
            raise UserError(f"{path} is no ed25519 key")
        return cls(key)

    def sign(self, manifest: Manifest) -> str:
        """Base64 of the signature."""
        return base64.b64encode(self._key.sign(canonical(manifest.to_json()))).decode()

    @property
    def public(self) -> str:
        """The public key as PEM."""
        ways = extra(SERIALIZATION, "cryptography")
        text: bytes = self._key.public_key().public_bytes(
            ways.Encoding.PEM, ways.PublicFormat.SubjectPublicKeyInfo
        )
        return text.decode()


class Verifier:
    """A publisher's public key, from PEM. Raises UserError for text that is none."""

    def __init__(self, pem: str, where: str = "the publisher's key") -> None:
        ways = extra(SERIALIZATION, "cryptography")
        try:
            self._key = ways.load_pem_public_key(pem.encode())
        except ValueError as error:
            raise UserError(f"cannot read {where}: {error}") from None
        if not isinstance(self._key, extra(ED25519, "cryptography").Ed25519PublicKey):
            raise UserError(f"{where} is no ed25519 key")

    def check(self, manifest: Manifest, signature: str) -> None:
        """Raise SignatureError unless the owner of the key signed this manifest."""
        invalid = extra("cryptography.exceptions", "cryptography").InvalidSignature
        try:
            self._key.verify(base64.b64decode(signature, validate=True), canonical(manifest.to_json()))
        except (invalid, ValueError):
            raise SignatureError(
                f"the signature of policy {manifest.digest[:12]} is not its publisher's: it is not loaded"
            ) from None


def write_secret(path: Path, content: bytes) -> None:
    """A new file that nobody else may read. Raises OSError, also where one is there already."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
