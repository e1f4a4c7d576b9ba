"""The whole loop on the emulated arm, as a sequence of the other commands."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.runs import unused
from sim2real.errors import Sim2RealError, UserError


@dataclass(frozen=True)
class Amounts:
    """How much of everything; the defaults keep the demo within ten minutes on two cores."""

    draws: int = 128
    evaluate: int = 100
    reach_minutes: float = 1.0
    lift_minutes: float = 2.5
    reach_episodes: int = 2
    lift_episodes: int = 4
    recorded: int = 5
    simulated: int = 60


QUICK = Amounts(
    draws=16,
    evaluate=10,
    reach_minutes=0.3,
    lift_minutes=0.3,
    reach_episodes=1,
    lift_episodes=1,
    recorded=2,
    simulated=6,
)


def run_demo(out: str | Path, *, seed: int = 0, quick: bool = False) -> int:
    """Run every step below `out`, print a table, write `out/report.html`; returns the exit status.

    Where an earlier demo has written to `out`, `out_2` and so on is taken. Raises Sim2RealError naming the step that
    could not be done; what earlier steps wrote stays.
    """
    from hardware.emulator.launch import start_emulator

    out, amounts, begin = Path(out), QUICK if quick else Amounts(), time.monotonic()
    if (out / "sweep").exists():
        print(f"{out} holds an earlier demo", end="; ", file=sys.stderr)
        out = Path(unused(str(out)))
        print(f"this one goes to {out}", file=sys.stderr, flush=True)
    for name in ("demo.json", "table.txt", "report.html"):
        if (out / name).exists() and not (out / "sweep" / "config.json").exists():
            raise UserError(f"--out {out} holds {name}, which no demo has made: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    demo = _Demo(out, seed)
    space = out / "twin" / "space.toml"

    expert = ("--policy", "expert", "--sees", "sensors")
    demo.step("sweep", "--task", "lift", *expert, "--draws", amounts.draws)
    demo.step("pretrain-reach", "--task", "reach", "--max-minutes", amounts.reach_minutes)
    demo.step("pretrain-lift", "--task", "lift", "--max-minutes", amounts.lift_minutes)
    reach, lift = (out / f"pretrain-{task}" / "policy.onnx" for task in ("reach", "lift"))
    for task, policy in (("reach", reach), ("lift", lift)):
        demo.ask(
            f"evaluate-{task}", "--policy", policy, "--task", task, "--draws", amounts.evaluate, seeded=1
        )

    with start_emulator("so101", seed=seed) as arm:
        flags = [
            *("--port", arm.port, "--calibration", arm.calibration, "--cameras", arm.cameras_file),
            *(flag for name, source in arm.sources.items() for flag in ("--camera", f"{name}={source}")),
            *("--before-episode", arm.before_episode, "--success", arm.success_command),
        ]
        demo.step("deploy-reach", "--policy", reach, *flags, "--episodes", amounts.reach_episodes)
        demo.step("deploy-lift-before", "--policy", lift, *flags, "--episodes", amounts.lift_episodes)
        demo.step("record", "--task", "lift", *flags, "--episodes", amounts.recorded)
        recorded: tuple[Any, ...] = ("--data", out / "record")
        demo.ask("replay-before", *recorded)
        demo.step("identify", *recorded, name="twin", json=False)
        demo.ask("replay-after", *recorded, "--twin", out / "twin" / "twin.toml")
        tuning = ("--space", space, "--simulated", amounts.simulated)
        demo.step("finetune", "--policy", lift, *recorded, *tuning, json=False)
        tuned = out / "finetune" / "policy.onnx"
        demo.step("deploy-lift-after", "--policy", tuned, *flags, "--episodes", amounts.lift_episodes)

    table = _table(demo.results, time.monotonic() - begin)
    (out / "demo.json").write_text(json.dumps(demo.results, indent=2))
    (out / "table.txt").write_text(table)
    demo.command("report", *(out / name for name in demo.directories), "--out", out / "report.html")
    print(table)
    print(f"report: {out / 'report.html'}")
    return 0


class _Demo:
    """Runs commands as a user would and keeps their JSON answers."""

    def __init__(self, out: Path, seed: int) -> None:
        self.out, self.seed = out, seed
        self.results: dict[str, Any] = {}
        self.directories: list[str] = []

    def step(self, label: str, *arguments: Any, name: str | None = None, json: bool = True) -> None:
        """A command with a run directory of its own; `label` is the command's name, with a suffix or not."""
        name = name or label
        command = label.split("-")[0]
        extra: list[Any] = ["--json"] if json and command in ("sweep", "deploy") else []
        if command not in ("replay", "identify", "report"):
            extra += ["--seed", self.seed]
        if command in ("deploy", "record"):
            extra += ["--yes"]
        answer = self.command(command, *arguments, *extra, "--out", self.out / name)
        self.directories.append(name)
        if "--json" in extra:
            self.results[name] = _json(answer, command)

    def ask(self, label: str, *arguments: Any, seeded: int | None = None) -> None:
        """A command whose JSON answer is all that it leaves."""
        command = label.split("-")[0]
        seed = [] if seeded is None else ["--seed", self.seed + seeded]
        self.results[label] = _json(self.command(command, *arguments, *seed, "--json"), command)

    def command(self, command: str, *arguments: Any) -> str:
        words = [str(word) for word in (command, *arguments)]
        print(f"\n$ sim2real {shlex.join(words)}", file=sys.stderr, flush=True)
        result = subprocess.run(
            [sys.executable, "-m", "pipelines", *words], stdout=subprocess.PIPE, text=True, check=False
        )
        if result.returncode == 130:
            raise KeyboardInterrupt
        if result.returncode != 0:
            raise Sim2RealError(
                f"the step '{words[0]}' ended with status {result.returncode}; its message is above, "
                f"and the command to repeat it is: sim2real {shlex.join(words)}"
            )
        return result.stdout


def _json(text: str, command: str) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        raise Sim2RealError(f"'{command} --json' did not answer in JSON but: {text[:200]!r}") from None
    assert isinstance(answer, dict)
    return answer


def _table(results: dict[str, Any], seconds: float) -> str:
    rows: list[tuple[str, str]] = []
    labels: Sequence[tuple[str, str]] = (
        ("sweep", "lift, expert, randomized simulation"),
        ("evaluate-reach", "reach, policy, randomized simulation"),
        ("evaluate-lift", "lift, policy, randomized simulation"),
        ("deploy-reach", "reach, policy, emulated arm"),
        ("deploy-lift-before", "lift, policy, emulated arm"),
        ("deploy-lift-after", "lift, fine-tuned policy, emulated arm"),
    )
    for key, label in labels:
        answer = results[key]
        total = answer.get("draws", answer.get("episodes"))
        rate, (low, high) = answer["success_rate"], answer["wilson_95"]
        shown = "unknown" if rate is None else f"{rate:6.1%}  [{low:.0%}, {high:.0%}]"
        rows.append((label, f"{answer['successes']:>4} of {total:<4} {shown}"))
    before, after = results["replay-before"]["mean_deg"], results["replay-after"]["mean_deg"]
    rows.append(("gap between simulation and arm", f"{before:.2f}° nominal → {after:.2f}° identified"))
    period = results["deploy-lift-after"]["period_error_ms"]
    rows.append(
        (
            "100 Hz loop, period error",
            f"p50 {period['p50']:.2f}, p99 {period['p99']:.2f}, max {period['max']:.1f} ms",
        )
    )
    rows.append(("the whole loop took", f"{seconds / 60:.1f} minutes"))
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:{width}}  {value}" for label, value in rows) + "\n"
