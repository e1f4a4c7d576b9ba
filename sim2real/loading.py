"""Finding a user's own classes by "module:Name"."""

import importlib
import sys
from pathlib import Path
from typing import Any

from sim2real.errors import UserError
from sim2real.files import file_hash


def load_attribute(spec: str, what: str) -> Any:
    """The object that "package.module:Name" names; `what` says in messages what is looked for ("task").

    Modules are found as Python finds them, and in the current directory. Raises UserError when the text has
    another form, the module is missing or fails while it is imported, or it has no such name.
    """
    module_name, _, name = spec.partition(":")
    if not module_name or not name.isidentifier():
        raise UserError(f"'{spec}' does not name a {what}; write it as my.module:MyClass")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        # The console script does not look in the current directory by itself; a user's file lies there.
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            raise UserError(
                f"the module '{missing}' of {what} '{spec}' was not found; "
                f"it must be importable from {here} or be installed"
            ) from None
        raise UserError(
            f"{what} '{spec}': importing {module_name} needs '{missing}', which is missing"
        ) from None
    except Exception as error:  # whatever the user's module raises
        raise UserError(
            f"{what} '{spec}': importing {module_name} failed with {type(error).__name__}: {error}"
        ) from error
    finally:
        if added and here in sys.path:
            sys.path.remove(here)
    if not hasattr(module, name):
        public = [key for key, value in vars(module).items() if isinstance(value, type) and key[0] != "_"]
        raise UserError(
            f"the module '{module_name}' has no '{name}'; its classes are {', '.join(public) or 'none'}"
        )
    return getattr(module, name)


def instantiate(spec: str, what: str, needs: tuple[str, ...], **takes: Any) -> Any:
    """An instance of the class (or the result of the factory) that "module:Name" names.

    `takes` is what it is called with, in this order, under whatever names; `needs` are attributes that the result
    must have. Raises UserError when it cannot be made or lacks some.
    """
    factory = load_attribute(spec, what)
    if not callable(factory):
        raise UserError(f"{what} '{spec}' is a {type(factory).__name__}; a class is needed")
    try:
        result = factory(*takes.values())
    except UserError:
        raise
    except Exception as error:
        given = ", ".join(takes)
        raise UserError(
            f"{what} '{spec}' could not be made: {type(error).__name__}: {error} (it is called with ({given}))"
        ) from error
    missing = [name for name in needs if not hasattr(result, name)]
    if missing:
        raise UserError(f"{what} '{spec}' lacks {', '.join(missing)}; a {what} needs {', '.join(needs)}")
    return result


def source_identity(spec: str, what: str) -> dict[str, str]:
    """The hash of the file that a user's "module:Class" is written in, as JSON; nothing for other names."""
    spec = spec.partition("[")[0]  # a task's name may go on with its objects
    if ":" not in spec:
        return {}
    import inspect

    try:
        source = inspect.getsourcefile(load_attribute(spec, what))
    except TypeError:
        return {}
    return {"source": file_hash(source)} if source else {}
