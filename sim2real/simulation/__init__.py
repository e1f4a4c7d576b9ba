"""The PyBullet side: world, sensing, rendering, rollouts, the Gymnasium environment."""

import os
import sys


def _import_pybullet() -> None:
    """Import pybullet without the build date that its C code writes to standard error, in every process again."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, AttributeError):
        return  # no standard error to keep clean
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import pybullet  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)


_import_pybullet()
