"""Single servos on a bench: fit the servo model to their runs, and replay the runs with it.

A twin from a bench holds a table per kind of servo, `[bench.<servo>]`, with the model's fields by name.
"""

import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.identification.bench_logs import BenchRun, load_bench
from pipelines.identification.results import training_ranges, write_space
from pipelines.runs import described
from randomization.identification import Fit, Unknown, fit
from sim2real.errors import UserError
from sim2real.files import write_text
from sim2real.model import pendulum, servo

Array = NDArray[np.float64]

NOMINAL_P = 16.0
"""The P register that a servo's `kp` refers to."""

UNKNOWNS = (
    Unknown("kp", 3.0, 0.5, 20.0, 0.5, "log", 0.02),
    Unknown("torque_constant", 2.42, 1.0, 5.0, 0.3, "log", 0.02),
    Unknown("resistance", 4.8, 1.0, 15.0, 0.5, "log", 0.02),
    Unknown("armature", 0.03, 0.003, 0.15, 0.7, "log", 0.05),
    Unknown("coulomb", 0.08, 1e-3, 0.5, 1.5, "log", 0.05),
    Unknown("viscous", 0.06, 1e-3, 1.0, 1.2, "log", 0.05),
    Unknown("stribeck", 0.02, 1e-4, 0.5, 1.5, "log", 0.1),
    Unknown("stribeck_velocity", 0.2, 0.01, 3.0, 1.0, "log", 0.1),
    Unknown("load_motor", 0.1, 0.0, 0.5, 0.3, "linear", 0.01),
    Unknown("load_external", 0.1, 0.0, 0.5, 0.3, "linear", 0.01),
    Unknown("load_motor_stribeck", 0.05, 0.0, 0.5, 0.3, "linear", 0.01),
    Unknown("load_external_stribeck", 0.05, 0.0, 0.5, 0.3, "linear", 0.01),
    Unknown("quadratic_external", 0.02, 0.0, 0.3, 0.2, "linear", 0.01),
    Unknown("command_delay", 0.03, 0.0, 0.1, 0.05, "linear", 0.001),
    Unknown("speed", 4.7, 1.0, 12.0, 0.7, "log", 0.01),
    Unknown("acceleration", 300.0, 20.0, 5000.0, 1.5, "log", 0.05),
    Unknown("duty_limit", 0.97, 0.5, 1.0, 0.1, "linear", 0.01),
)
"""What a bench can tell: the whole friction family, the motor, the controller's profile."""


@dataclass(frozen=True, eq=False)
class BenchSet:
    """Runs end to end, as `pendulum.simulate` takes them."""

    runs: tuple[BenchRun, ...]
    starts: NDArray[np.int64]
    time: Array
    goal: Array
    enabled: Array
    position: Array
    valid: NDArray[np.bool_]

    @classmethod
    def of(cls, runs: Sequence[BenchRun]) -> "BenchSet":
        def joined(name: str) -> Array:
            return np.concatenate([np.asarray(getattr(run, name), dtype=np.float64) for run in runs])

        starts = np.concatenate([[0], np.cumsum([len(run.time) for run in runs])]).astype(np.int64)
        return cls(
            tuple(runs), starts, joined("time"), joined("goal"), joined("enabled"), joined("position"),
            np.concatenate([run.valid for run in runs]),
        )  # fmt: skip

    def simulate(self, parameters: Array) -> Array:
        """(B, F) → encoder angles (B, T) rad."""
        runs = self.runs
        return pendulum.simulate(
            parameters,
            np.array([run.p_gain / NOMINAL_P for run in runs]),
            np.array([run.voltage for run in runs]),
            np.array([pendulum.load(run.mass, run.length) for run in runs]),
            self.time,
            self.goal,
            self.enabled,
            np.array([_start(run) for run in runs]),
            self.starts,
        )

    def errors(self, simulated: Array) -> dict[str, float]:
        """RMS in degrees by run, of (T,) simulated angles, until torque is cut."""
        result = {}
        for i, run in enumerate(self.runs):
            part = slice(self.starts[i], self.starts[i + 1])
            driven = np.logical_and.accumulate(run.enabled > 0) & run.valid
            if not driven.any():
                raise UserError(
                    f"{run.name}: torque is off from the first sample, so there is nothing to replay"
                )
            error = np.rad2deg(simulated[part] - run.position)[driven]
            result[run.name] = float(np.sqrt(np.mean(error**2)))
        return result


def _start(run: BenchRun) -> float:
    """rad, where the run begins: the first samples believed, whose median no glitch moves."""
    return float(np.median(run.position[:5][run.valid[:5]]))


def parameters_of(fields: Mapping[str, float], where: str) -> Array:
    """(F,) servo parameters: the fields given; of the others, what leaves their term out."""
    parameters = np.array([field.nominal for field in servo.SERVO_FIELDS])
    for name in (
        "speed",
        "acceleration",
        "stribeck",
        "load_motor",
        "load_external",
        "dead_band",
        "offset",
        "backlash",
    ):
        parameters[servo.FIELD_INDEX[name]] = 0.0
    for name, value in fields.items():
        if name not in servo.FIELD_INDEX:
            raise UserError(
                f"{where}: there is no servo field '{name}'; known are {', '.join(servo.FIELD_INDEX)}"
            )
        parameters[servo.FIELD_INDEX[name]] = servo.checked(name, value, where)
    return parameters


def fit_servo(runs: Sequence[BenchRun], say: Callable[[str], None] | None = None) -> Fit:
    """Fit one kind of servo to its runs, free swings after a cut of torque included."""
    bench = BenchSet.of(runs)
    base = parameters_of({}, "bench")
    columns = [servo.FIELD_INDEX[unknown.name] for unknown in UNKNOWNS]

    def residuals(values: Array) -> Array:
        parameters = np.repeat(base[None], len(values), axis=0)
        parameters[:, columns] = values
        error = np.rad2deg(bench.simulate(parameters) - bench.position)
        error[:, ~bench.valid] = np.nan
        return error[:, :, None]

    return fit(
        residuals,
        UNKNOWNS,
        bench.starts,
        iterations=25,
        rounds=2,
        noise_floor=0.05,
        most_inflation=10.0,
        progress=say,
    )


def identify_bench(
    folder: str | Path, out: str | Path, word: str | None = None, say: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Fit every kind of servo in a bench folder; write twin.toml, space.toml, identify.json. Returns the summary."""
    import json

    import tomli_w

    tell = say or (lambda _: None)
    began = time.perf_counter()
    kinds: dict[str, list[BenchRun]] = {}
    for run in _chosen(folder, word):
        kinds.setdefault(run.servo, []).append(run)
    summary: dict[str, Any] = {"bench": str(folder), "servos": {}}
    twin: dict[str, Any] = {"parameters": {}, "bench": {}, "uncertainty": {}}
    space: dict[str, Any] = {}
    for kind, runs in kinds.items():
        tell(f"{kind}: {len(runs)} runs")
        found = fit_servo(runs, tell)
        fields = {name: float(value) for name, value in zip(found.names, found.values)}
        bench = BenchSet.of(runs)
        errors = bench.errors(bench.simulate(parameters_of(fields, kind)[None])[0])
        mean = float(np.mean(list(errors.values())))
        tell(f"{kind}: {mean:.3f}° mean over the runs")
        twin["bench"][kind] = fields
        slope = [fields[u.name] if u.scale == "log" else 1.0 for u in found.unknowns]
        for unknown, deviation in zip(found.unknowns, found.deviation * slope):
            twin["uncertainty"][f"bench.{kind}.{unknown.name}"] = float(deviation)
        if not space:
            # Ranges for an arm of such servos; of several kinds, the first.
            space = {f"servo.*.{name}": bounds for name, bounds in training_ranges(found).items()}
        summary["servos"][kind] = {"mean_deg": mean, "runs": errors, "parameters": fields}
    summary["mean_deg"] = float(np.mean([entry["mean_deg"] for entry in summary["servos"].values()]))
    summary["seconds"] = round(time.perf_counter() - began, 1)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    write_text(target / "twin.toml", tomli_w.dumps(twin))
    write_space(target / "space.toml", space)
    config = described("identify", settings={"bench": str(folder), "runs": word})
    write_text(target / "config.json", json.dumps(config, indent=2) + "\n")
    write_text(target / "identify.json", json.dumps(summary, indent=2) + "\n")
    return summary


def replay_bench(folder: str | Path, twin: str | Path | None, word: str | None = None) -> dict[str, Any]:
    """Replay bench runs open loop until torque is cut: {"mean_deg", "runs": {file: degrees}}.

    Without a twin, with the nominal servo. Raises UserError when the twin has no table for a kind of servo.
    """
    tables: Mapping[str, Any] = {}
    if twin is not None:
        path = Path(twin)
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8")).get("bench", {})
        except FileNotFoundError:
            raise UserError(
                f"the twin file {path} does not exist; `sim2real identify --bench` writes one"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is not a twin file: {error}") from None
    nominal = {field.name: field.nominal for field in servo.SERVO_FIELDS}
    errors: dict[str, float] = {}
    for run in _chosen(folder, word):
        if twin is not None and run.servo not in tables:
            raise UserError(
                f"{twin} has no table [bench.{run.servo}]; it has {', '.join(tables) or 'none'}; "
                "fit this kind of servo with `sim2real identify --bench`, or select runs with --runs"
            )
        bench = BenchSet.of([run])
        parameters = parameters_of(tables.get(run.servo, nominal), str(twin))
        errors |= bench.errors(bench.simulate(parameters[None])[0])
    return {"mean_deg": float(np.mean(list(errors.values()))), "runs": errors}


def _chosen(folder: str | Path, word: str | None) -> list[BenchRun]:
    runs = load_bench(folder)
    chosen = [run for run in runs if word is None or word in run.name]
    if not chosen:
        raise UserError(
            f"no run in {folder} has '{word}' in its name; there are {', '.join(r.name for r in runs)}"
        )
    return chosen
