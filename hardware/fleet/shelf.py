"""The policies that a robot has: each was checked before it got here, and is checked again before it is run."""

import json
from pathlib import Path

from hardware.fleet.messages import Offer, Refused
from hardware.fleet.signing import SignatureError, Verifier
from sim2real.errors import UserError
from sim2real.files import write_bytes, write_json


class Shelf:
    """In a folder. `publisher`: PEM of the key whose signature policies must bear."""

    def __init__(self, folder: Path, publisher: str) -> None:
        self.folder = folder
        self._verifier = Verifier(publisher, "the publisher's key")
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        return self.folder / f"{digest}.onnx"

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def check(self, offer: Offer) -> None:
        """Raise SignatureError or UserError unless this may be loaded: signed by the publisher, for a task that ships
        with the package. Nothing of the file is needed for it."""
        from sim2real.tasks.registry import name_from_outside, split

        self._verifier.check(offer.manifest, offer.signature)
        name_from_outside(split(offer.manifest.task)[0], f"policy {offer.manifest.digest[:12]}")

    def put(self, offer: Offer, content: bytes) -> Path:
        """Keep a file that is what was signed. Raises SignatureError, UserError, OSError."""
        self.check(offer)
        offer.manifest.check_content(content)
        path = self.path(offer.manifest.digest)
        write_bytes(path, content)
        write_json(path.with_suffix(".json"), offer.to_json())
        return path

    def offer(self, digest: str) -> Offer:
        """What was offered with it. Raises SignatureError where that cannot be read."""
        try:
            return Offer.from_json(json.loads(self.path(digest).with_suffix(".json").read_text()))
        except (OSError, ValueError, Refused) as error:
            raise SignatureError(f"policy {digest[:12]} cannot be read: {error}") from None

    def take(self, digest: str) -> Path:
        """Its file, checked once more. Raises SignatureError for one that has changed on the disk or is not there."""
        path = self.path(digest)
        offer = self.offer(digest)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SignatureError(f"policy {digest[:12]} cannot be read: {error}") from None
        try:
            self.check(offer)
        except UserError as error:
            raise SignatureError(str(error)) from None
        if offer.manifest.digest != digest:
            raise SignatureError(f"{path} says that it is policy {offer.manifest.digest[:12]}")
        offer.manifest.check_content(content)
        return path
