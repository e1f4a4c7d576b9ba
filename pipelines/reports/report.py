"""`report.html` for any run directory: self-contained, readable offline."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.page import Section, page
from sim2real import __version__
from sim2real.errors import UserError
from sim2real.files import PAGE, require_own_file, write_text


def write_report(directories: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write one page about the given run directories and return its path.

    Without `out` it goes to `report.html` in the directory, or beside the directories when there are several.
    Raises UserError for a directory that is missing or holds no run.
    """
    folders = [Path(d) for d in directories]
    if not folders:
        raise UserError("name at least one run directory")
    runs = [_Run(folder) for folder in folders]
    if out is None:
        out = folders[0] / "report.html" if len(folders) == 1 else folders[0].resolve().parent / "report.html"
    out = Path(out)
    sections: list[Section] = []
    if len(runs) > 1:
        sections += _overview(runs, folders)
    for run in runs:
        made = run.sections()
        if len(runs) > 1:
            made.insert(0, _divider(run))
        made[-1].facts(run.facts())
        sections += made
    title = runs[0].title if len(runs) == 1 else "From simulation to the arm"
    lead = runs[0].lead if len(runs) == 1 else ", ".join(run.name for run in runs)
    footer = f"Written by sim2real {__version__} on {time.strftime('%Y-%m-%d %H:%M')}."
    text = page(title, lead, sections, footer)
    require_own_file(out, PAGE)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, text)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from None
    return out


def try_report(directory: str | Path | None) -> Path | None:
    """Write a run's own report at its end; a report that fails is said on standard error, not the run's failure.

    None stands for a run that has written nothing, of which there is no report.
    """
    if directory is None:
        return None
    try:
        return write_report([directory])
    except Exception as error:  # whatever it is, the results are safe and matter more
        print(f"no report was written: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def _sweep(folder: Path) -> list[Section]:
    from pipelines.reports import sweep as report_sweep

    return report_sweep.sections(folder)


def _training(folder: Path) -> list[Section]:
    from pipelines.reports import training as report_training

    return report_training.sections(folder)


def _arm(folder: Path) -> list[Section]:
    from pipelines.reports import arm as report_arm

    return report_arm.sections(folder)


def _identification(folder: Path) -> list[Section]:
    from pipelines.reports import identification as report_identify

    return report_identify.sections(folder)


def _ranges(folder: Path) -> list[Section]:
    from pipelines.reports import ranges

    return ranges.sections(folder)


def _cost(folder: Path) -> list[Section]:
    from pipelines.reports import cost

    return cost.sections(folder)


def _benchmark(folder: Path) -> list[Section]:
    from pipelines.reports import benchmark

    return benchmark.sections(folder)


def _transfer(folder: Path) -> list[Section]:
    from pipelines.reports import transfer

    return transfer.sections(folder)


def _federation(folder: Path) -> list[Section]:
    from pipelines.reports import federation

    return federation.sections(folder)


def _fleet(folder: Path) -> list[Section]:
    from pipelines.reports import fleet

    return fleet.sections(folder)


def _dataset(folder: Path) -> list[Section]:
    from pipelines.reports import arm as report_arm

    return [report_arm.dataset(folder)]


_KINDS: dict[str, tuple[str, Callable[[Path], list[Section]]]] = {
    "sweep": ("Sweep", _sweep),
    "benchmark": ("Benchmark", _benchmark),
    "ranges": ("Ranges", _ranges),
    "transfer": ("Transfer", _transfer),
    "pretrain": ("Pretraining", _training),
    "finetune": ("Fine-tuning", _training),
    "identify": ("Identification", _identification),
    "record": ("Recording", _arm),
    "excite": ("Excitation", _arm),
    "deploy": ("Deployment", _arm),
    "cost": ("What it costs and brings", _cost),
    "federate simulate": ("Learning together", _federation),
    "fleet simulate": ("A simulated fleet", _fleet),
}
"""What can be reported, by the command that wrote the directory: title and maker of its sections."""


class _Run:
    """One run directory: what kind it is, and its part of a page."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"there is no directory {folder}")
        self.folder, self.name = folder, folder.resolve().name
        self.config: Mapping[str, Any] = {}
        path = folder / "config.json"
        if path.exists():
            from sim2real.files import read_json

            self.config = read_json(path)
        self.command = str(self.config.get("command", ""))
        if self.command in _KINDS:
            kind, self._make = _KINDS[self.command]
        elif (folder / "meta" / "info.json").exists():
            kind, self._make = "Data set", _dataset
        else:
            made_by = f"was made by '{self.command}'" if self.command else "has no config.json"
            raise UserError(
                f"{folder} {made_by}; reports are made of LeRobot data sets and of the directories (--out) of "
                f"{', '.join(_KINDS)}"
            )
        self.title = f"{kind}: {self._subject()}"
        self.lead = (
            f"{folder}, made {str(self.config.get('created', 'at an unknown time')).replace('T', ' ')[:16]}"
        )

    def _subject(self) -> str:
        settings = self.config.get("settings", {}) | self.config.get("sweep", {})
        parts = [str(settings[key]) for key in ("task", "robot") if settings.get(key)]
        parts += [Path(str(settings[key])).name for key in ("data", "bench") if settings.get(key)]
        parts += [str(settings["title"])] if settings.get("title") else []
        policy = self.config.get("policy")
        return ", ".join([*parts, *([f"policy {policy}"] if policy else [])]) or self.name

    def sections(self) -> list[Section]:
        return self._make(self.folder)

    def facts(self) -> dict[str, Any]:
        """Command line, seed and versions: enough to make the run again."""
        import shlex

        words = [str(word) for word in self.config.get("arguments", [])]
        versions = self.config.get("versions", {})
        facts: dict[str, Any] = {"command": f"sim2real {shlex.join(words)}" if words else self.command}
        for key in ("seed", "created", "workers"):
            if self.config.get(key) is not None:
                facts[key] = self.config[key]
        facts["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
        return facts


def _divider(run: _Run) -> Section:
    section = Section(run.title, anchor=run.name, link=run.name, opens=True)
    section.text(run.lead, "lead")
    return section


def _overview(runs: Sequence[_Run], folders: Sequence[Path]) -> list[Section]:
    """What stands above several runs: their headline figures in one table, and paired comparisons of sweeps."""
    section = Section("Results")
    section.table([{"run": run.name, "what": run.title} | _headline(run.folder) for run in runs])
    sections = [section]
    sweeps = [run for run in runs if run.command == "sweep"]
    if len(sweeps) > 1:
        from pipelines.reports.sweep import comparison

        for other in sweeps[1:]:
            try:
                sections.append(comparison(sweeps[0].folder, other.folder))
            except UserError:
                continue  # other draws: nothing to pair
    return sections


def _headline(folder: Path) -> dict[str, str]:
    """The figure a run stands for, with interval and number of episodes, from whichever result file it has."""
    for name in ("summary.json", "result.json", "metrics.json", "identify.json"):
        if not (folder / name).exists():
            continue
        content = json.loads((folder / name).read_text())
        if "mean_before_deg" in content:
            change = f"{content['mean_before_deg']:.2f}° → {content['mean_deg']:.2f}° from the arm"
            return {"result": change, "95 % interval": "", "of": f"{len(content['episodes'])} episodes"}
        rated = content.get("evaluation") or content.get("simulation", {}).get("after") or content
        if rated.get("success_rate") is None:
            continue
        low, high = rated["wilson_95"] if "wilson_95" in rated else rated["interval_95"]
        return {
            "result": f"{rated['success_rate']:.1%} success",
            "95 % interval": f"{low:.1%} – {high:.1%}",
            "of": next(f"{rated[name]} {name}" for name in ("draws", "episodes", "trials") if name in rated),
        }
    return {"result": "", "95 % interval": "", "of": ""}
