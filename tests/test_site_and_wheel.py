"""The documentation builds without anything from elsewhere, and the wheel works where only it is installed."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_the_site_is_complete_and_asks_nobody(tmp_path: Path) -> None:
    run(
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--quiet",
        "--site-dir",
        tmp_path,
        cwd=ROOT,
        PYTHONPATH=str(ROOT),
    )
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert {
        "index.html",
        "first-sweep.html",
        "reference/commands.html",
        "reference/parameters.html",
    } <= pages.keys()
    # Colours of code put tags between the words.
    assert "sim2real sweep --task" in re.sub(r"<[^>]*>", "", pages["reference/commands.html"])
    assert "servo.elbow_flex.kp" in pages["reference/parameters.html"]
    assert "Robot.load" in pages["reference/sim2real.html"] or "load" in pages["reference/sim2real.html"]
    for name, text in pages.items():
        fetched = re.findall(r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=\"(https?://[^\"]+)", text)
        fetched += re.findall(
            r"<link\b[^>]*\brel=\"(?:stylesheet|preconnect|icon)\"[^>]*\bhref=\"(https?://[^\"]+)", text
        )
        assert not fetched, f"{name} loads {fetched}"
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?https?:", sheet.read_text()), sheet


@pytest.mark.slow
def test_the_wheel_works_where_only_it_is_installed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    run("git", "clone", "--quiet", ROOT, source, cwd=tmp_path)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(
        *pip,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tmp_path / "wheels",
        source,
        cwd=tmp_path,
    )
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    venv.create(tmp_path / "fresh", with_pip=False, symlinks=True)
    python = tmp_path / "fresh" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    # Its dependencies are those of this environment: a path alone, so that what makes our own tree importable is not.
    purelib = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    ).stdout.strip()
    (Path(purelib) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = run(python, "-c", "import pipelines; print(pipelines.__file__)", cwd=tmp_path).stdout
    assert where.startswith(purelib), where
    command = tmp_path / "fresh" / "bin" / "sim2real"
    assert purelib in run(command, "doctor", cwd=tmp_path).stdout
    run(command, "sweep", "--task", "reach", "--draws", "2", "--workers", "0", "--out", "swept", cwd=tmp_path)
    assert (tmp_path / "swept" / "report.html").exists()
