"""Which package may import which: the arrows of docs/architecture.md, read from every file's imports."""

import ast
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("sim2real", "randomization", "hardware", "pipelines")
SIMULATION = {"pybullet", "pybullet_data", "gymnasium"}

ALLOWED = {
    "sim2real": {"numpy", "scipy", "pyarrow", "numba", "av", "tomli_w"},
    "sim2real/simulation": SIMULATION | {"mujoco"},
    "sim2real/policies": {"onnxruntime", "cv2"},
    "randomization": {"sim2real", "numpy", "scipy", "pyarrow", "tqdm", "tomli_w"},
    "hardware/ros2": {"cyclonedds"},
    "hardware/fleet": {"cryptography", "zenoh"},
    "hardware": {"sim2real", "numpy", "scipy", "pyarrow", "numba", "serial", "cv2", "tomli_w"},
}
"""Top-level packages from outside and of our own that each package (and room, besides) may import. `pipelines` may
import everything."""

Graph = dict[str, set[str]]


def modules(root: Path) -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package in OURS:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(module, names taken from it) of all imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            yield node.module or "", tuple(alias.name for alias in node.names)


def imported(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports."""
    return {module.split(".")[0] for module, _ in imports(path)}


def graph(found: dict[str, Path]) -> Graph:
    """Which module of ours imports which, those for type checkers alone included."""
    arrows: Graph = {}
    for name, path in found.items():
        arrows[name] = set()
        for module, names in imports(path):
            inner = {f"{module}.{each}" for each in names} & found.keys()
            arrows[name] |= inner
            if module in found and len(inner) < max(len(names), 1):
                arrows[name].add(module)
        arrows[name].discard(name)
    return arrows


def rooms(arrows: Graph, package: str) -> Graph:
    """The arrows among the direct children of a package: its files, and its rooms each as a whole."""
    depth = len(package.split(".")) if package else 0

    def child(module: str) -> str | None:
        if package and not module.startswith(package + "."):
            return None
        return ".".join(module.split(".")[: depth + 1])

    between: Graph = {}
    for source, targets in arrows.items():
        for target in targets:
            a, b = child(source), child(target)
            if a and b and a != b:
                between.setdefault(a, set()).add(b)
    return between


def circles(arrows: Graph) -> list[list[str]]:
    """One circle through each node that lies on one, shortest first."""
    found: dict[frozenset[str], list[str]] = {}
    for start in arrows:
        paths = [[start]]
        seen: set[str] = set()
        while paths:
            path = paths.pop(0)
            for following in sorted(arrows.get(path[-1], ())):
                if following == start:
                    found.setdefault(frozenset(path), path)
                    paths = []
                    break
                if following not in seen:
                    seen.add(following)
                    paths.append([*path, following])
    return sorted(found.values(), key=len)


MODULES = modules(ROOT)
ARROWS = graph(MODULES)
PARENTS = sorted({"", *(name.rpartition(".")[0] for name in MODULES)})


def in_rooms(names: Iterable[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in names]


@pytest.mark.parametrize("relative", in_rooms(MODULES.values()))
def test_a_file_imports_only_what_its_package_may(relative: str) -> None:
    package, *inner = Path(relative).parts
    if package == "pipelines":
        return
    allowed = ALLOWED[package] | ALLOWED.get("/".join([package, *inner[:1]]), set()) | {package}
    forbidden = imported(ROOT / relative) - allowed - set(sys.stdlib_module_names)
    assert not forbidden, f"{relative} must not import {sorted(forbidden)}"


def test_the_compiler_is_taken_from_one_place() -> None:
    """Its cache must have been named before it is imported."""
    users = {name for name, path in MODULES.items() if "numba" in imported(path)}
    assert users == {"sim2real.compiled"}


def test_processes_are_started_in_one_way() -> None:
    """Python's own `spawn` runs the caller's script again: see `sim2real/spawning.py`."""
    own = ROOT / "sim2real" / "spawning.py"
    for path in modules(ROOT).values():
        if path != own:
            source = path.read_text(encoding="utf-8")
            assert "get_context(" not in source and "multiprocessing.Process" not in source, path


@pytest.mark.parametrize("package", PARENTS, ids=lambda package: package or "top")
def test_rooms_of_one_floor_import_each_other_in_one_direction(package: str) -> None:
    assert not circles(rooms(ARROWS, package))


def test_files_import_each_other_in_one_direction() -> None:
    assert not circles(ARROWS)


def test_the_check_sees_forbidden_imports_and_circles(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("def f():\n    import torch.nn\n    from lightning import pytorch\n")
    assert imported(file) == {"torch", "lightning"}
    for path, text in {
        "hardware/a/x.py": "from hardware.b import y\n",
        "hardware/b/y.py": "def f():\n    import hardware.c.z\n",
        "hardware/c/z.py": "from hardware.a.w import W\n",
        "hardware/a/w.py": "W = 1\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    arrows = graph(modules(tmp_path))
    assert not circles(arrows)  # no file leads back to itself
    assert [sorted(circle) for circle in circles(rooms(arrows, "hardware"))] == [
        ["hardware.a", "hardware.b", "hardware.c"]
    ]
    assert not circles(rooms(arrows, ""))


@pytest.mark.parametrize("package", OURS)
def test_no_public_name_is_that_of_a_module(package: str) -> None:
    # Importing the module would put it in the name's place.
    names = import_module(package).__all__
    here = Path(import_module(package).__file__ or "").parent
    modules = {path.stem for path in here.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert not modules & set(names)
