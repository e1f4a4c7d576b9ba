"""Which package may import which: the arrows of docs/architecture.md, read from every file's imports."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"sim2real", "hardware", "randomization", "pipelines"}
LEARNING = {"torch", "lightning", "onnx", "onnxscript", "safetensors", "tensorboard"}

ALLOWED = {
    "sim2real": {"numpy", "scipy", "pyarrow", "numba", "av", "tomli_w"},
    "sim2real/simulation": {"pybullet", "pybullet_data", "gymnasium"},
    "randomization": {"sim2real", "numpy", "scipy", "pyarrow", "tqdm", "tomli_w"},
    "hardware": {"sim2real", "numpy", "scipy", "pyarrow", "serial", "cv2", "onnxruntime", "tomli_w"},
    "pipelines": None,  # may import everything
}


def imported(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            names.add((node.module or "").split(".")[0])
    return names


FILES = [path for package in sorted(OURS) for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_package_may(path: Path) -> None:
    relative = path.relative_to(ROOT)
    package = relative.parts[0]
    allowed = ALLOWED[package]
    if allowed is None:
        return
    allowed = set(allowed) | {package}
    if relative.parts[:2] == ("sim2real", "simulation"):
        allowed |= ALLOWED["sim2real/simulation"] or set()
    forbidden = imported(path) - allowed - set(sys.stdlib_module_names)
    assert not forbidden, f"{relative} must not import {sorted(forbidden)}"


def test_the_check_sees_forbidden_imports(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("def f():\n    import torch.nn\n    from lightning import pytorch\n")
    assert imported(file) == {"torch", "lightning"}
    assert not {"torch"} & (ALLOWED["hardware"] or set())
