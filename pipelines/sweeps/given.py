"""Tasks and policies that a caller hands over as objects."""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sim2real.errors import UserError
from sim2real.policies.protocol import Policy
from sim2real.task import Task


@dataclass(frozen=True)
class Given:
    """None where task or policy have a name.

    Pickled by value: a worker process knows neither the notebook nor the script that defines a class.
    """

    task: Task | None = None
    policy: Policy | None = None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self.task is None and self.policy is None:
            return Given, ()
        return _unpacked, (_packed((self.task, self.policy)),)

    def identity(self) -> dict[str, str]:
        """What decides how the objects behave, by content; nothing for what has a name.

        What cannot be pickled has no content to compare: it is never equal to what another run had.
        """
        found = {}
        for name, part in (("task_object", self.task), ("policy_object", self.policy)):
            if part is not None:
                try:
                    found[name] = hashlib.sha256(_packed(part)).hexdigest()
                except UserError:
                    found[name] = uuid.uuid4().hex
        return found


def _packed(thing: object) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(thing))
    except Exception as error:
        # Whatever an object of the user's raises.
        what = type(thing[1] or thing[0] if isinstance(thing, tuple) else thing).__name__
        raise UserError(
            f"the {what} cannot be sent to worker processes ({type(error).__name__}: {error}); run it here with "
            "workers=0, or give it as 'my_module:MyClass', which each of them makes for itself"
        ) from None


def _unpacked(data: bytes) -> Given:
    import cloudpickle

    return Given(*cloudpickle.loads(data))
