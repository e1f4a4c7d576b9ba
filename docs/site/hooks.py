"""Pages of the documentation that are made from the code's own declarations: commands, parameters, API, README."""

import argparse
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

PUBLIC = {
    "sim2real": "What is named at the top of `sim2real` is imported when it is first used.",
    "pipelines": "The loop as functions, the same that the commands call.",
    "randomization": "Distributions, designs, sweeps: no simulator is needed for these.",
    "hardware": "Drivers, the control loop and the emulator.",
}
"""Packages whose public names get a page, with its first line."""


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages (a hook of MkDocs)."""
    from mkdocs.structure.files import File

    pages = {
        "index.md": _of_the_root("README.md"),
        "changelog.md": _of_the_root("CHANGELOG.md"),
        "reference/commands.md": _commands(),
        "reference/parameters.md": _parameters(),
        **{f"reference/{package}.md": _api(package, lead) for package, lead in PUBLIC.items()},
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def _of_the_root(name: str) -> str:
    """A page of the repository's root: links into docs/ stay links, names of other files become code."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = text.replace('src="docs/', 'src="').replace("](docs/", "](")
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)(?![\w./-]+\.(?:md|png|gif|webp|svg))[^)]*\)", r"`\1`", text)


def _commands() -> str:
    from pipelines.cli import COMMANDS, command_module

    lines = [
        "# Commands",
        "",
        "Every command has `--help`. Exit statuses: 0 done, 1 could not, 2 a mistake in the",
    ]
    lines += ["request, 130 after Ctrl-C. With `--json`, JSON alone goes to standard output.", ""]
    for name in COMMANDS:
        module = command_module(name)
        parser = argparse.ArgumentParser(prog=f"sim2real {name}", add_help=False)
        module.add_arguments(parser)
        lines += [f"## {name}", "", f"*{module.SUMMARY}*", "", _escaped(module.HELP), ""]
        rows = list(_options(parser))
        if rows:
            lines += ["| option | what it means |", "|---|---|", *rows, ""]
        lines += ["```sh", *[line.strip() for line in module.EXAMPLES.strip().splitlines()], "```", ""]
    return "\n".join(lines)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.dest}`"
        if action.nargs != 0:
            taken = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest)
            taken = " ".join(taken) if isinstance(taken, tuple) else taken
            names += f" `{taken}`" if action.option_strings else ""
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        yield f"| {names} | {_escaped(text)} |"


def _parameters() -> str:
    from pipelines.sweeps.plan import all_parameters
    from sim2real.tasks.registry import task_names

    lines = [
        "# Parameters",
        "",
        "What a draw may set, for the robot `so101`: nominal value and default range.",
    ]
    lines += ["`sim2real parameters --robot R` lists those of another robot.", ""]
    world = all_parameters("so101")
    tables = {"The world": world}
    for task in task_names():
        mine = all_parameters("so101", task)
        tables[f"The task {task}"] = {name: value for name, value in mine.items() if name not in world}
    for title, parameters in tables.items():
        lines += [
            f"## {title}",
            "",
            "| name | nominal | range | unit | what it is |",
            "|---|---|---|---|---|",
        ]
        for p in parameters.values():
            span = "fixed" if p.low == p.high else f"{p.low:g} … {p.high:g}"
            unit = "" if p.unit == "1" else p.unit
            lines.append(f"| `{p.name}` | {p.nominal:g} | {span} | {unit} | {_escaped(p.description)} |")
        lines.append("")
    return "\n".join(lines)


def _api(package: str, lead: str) -> str:
    """Every public name of a package, documented where it is defined."""
    module = import_module(package)
    lines = [f"# `{package}`", "", lead, ""]
    for name in sorted(getattr(module, "__all__", ()), key=str.lower):
        found = getattr(module, name)
        home = getattr(found, "__module__", None)
        if isinstance(home, str) and home.split(".")[0] in PUBLIC:
            lines += [f"::: {home}.{getattr(found, '__qualname__', name)}", ""]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
