"""Sweeps: a rollout for every draw, kept safe on disk as it goes.

A sweep lives in a directory: `config.json` (what it is), `parts/` (rows as they come, each file written whole
or not at all) and `results.parquet` (all rows in the order of the draws; parts are merged into it at the end,
also after Ctrl-C). Running the same sweep in the same directory does only what is missing; with more draws it
is enlarged; anything else is refused, naming the difference. The results do not depend on the number of
workers, except for the column `wall_seconds`.

The columns are `index`, `seed`, `success`, `failure` (empty for a success), whatever else the rollout
returned (`stage`, `seconds`, …), `wall_seconds`, and one column per parameter of the draw.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from randomization.progress import progress_bar
from randomization.workers import POLICY_FAULT, Factory, Outcome, Row, run_draws
from sim2real.errors import Sim2RealError, UserError
from sim2real.files import read_json, write_text
from sim2real.identity import differences
from sim2real.parameters import Draw
from sim2real.statistics import wilson_interval

if TYPE_CHECKING:
    import pyarrow as pa

Engine = Callable[[Factory, Sequence[Draw], int], Iterator[Outcome]]

_FLUSH_ROWS = 64
_FLUSH_SECONDS = 5.0
HOPELESS = 10
"""This many errors before the first rollout that returned end the sweep: it is broken, not unlucky."""


class SweepStore:
    """The directory of a sweep: its configuration and its rows."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.config_path = self.directory / "config.json"
        self.results_path = self.directory / "results.parquet"
        self._parts = self.directory / "parts"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory; raises UserError when another sweep is writing to it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.directory / ".lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(
                    f"another sweep is writing to {self.directory}; wait or use another --out"
                ) from None
            yield

    def check(self, identity: Mapping[str, Any], draws: int, enlargeable: bool) -> None:
        """Refuse to continue a different sweep. `identity` is what rows depend on, as JSON types.

        Raises UserError naming each difference; also when rows exist that a smaller or larger number of
        draws of this design would not contain.
        """
        if not self.config_path.exists():
            if self.results_path.exists():
                raise UserError(f"{self.results_path} exists without config.json; use another --out")
            return
        there = read_json(self.config_path)
        if "sweep" not in there:
            raise UserError(f"{self.directory} holds another kind of run; use another --out")
        found = list(differences(there["sweep"], json.loads(json.dumps(identity))))
        if not enlargeable and there.get("draws") != draws:
            found.append(f"draws: {there.get('draws')} there, {draws} here (this design cannot grow)")
        if found:
            shown = "; ".join(found[:4]) + ("; …" if len(found) > 4 else "")
            raise UserError(
                f"{self.directory} holds a different sweep ({shown}); use another --out, or the same settings "
                "to continue it"
            )

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace config.json."""
        write_text(self.config_path, json.dumps(config, indent=2) + "\n")

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows as one new part."""
        import pyarrow as pa

        if rows:
            self._parts.mkdir(exist_ok=True)
            number = max((int(p.stem) for p in self._parts.glob("*.parquet")), default=0) + 1
            # The first row alone would decide the columns otherwise, and an error's row lacks some.
            names = list(dict.fromkeys(name for row in rows for name in row))
            columns = {name: [row.get(name) for row in rows] for name in names}
            _write_table(pa.table(columns), self._parts / f"{number:06d}.parquet")

    def read(self) -> "pa.Table":
        """All rows so far in the order of the draws, each draw once. Raises UserError when there are none."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        files = [self.results_path] if self.results_path.exists() else []
        files += sorted(self._parts.glob("*.parquet"))
        if not files:
            raise UserError(f"{self.directory} holds no sweep results (results.parquet is missing)")
        try:
            tables = [pq.read_table(f) for f in files]
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"cannot read the results in {self.directory}: {error}") from None
        table = pa.concat_tables(tables, promote_options="permissive")
        # A crash between merging and removing the parts leaves rows twice.
        order = pc.sort_indices(table, sort_keys=[("index", "ascending")])
        index = pc.take(table["index"], order).to_numpy()
        first = [True, *(index[1:] != index[:-1])] if len(index) else []
        return table.take(order.filter(pa.array(first, pa.bool_())))

    def done(self) -> set[int]:
        """Indices of the draws that have a row."""
        try:
            return set(self.read()["index"].to_pylist())
        except UserError:
            if self.results_path.exists() or self._parts.exists():
                raise
            return set()

    def merge(self) -> None:
        """Move the parts into results.parquet."""
        parts = list(self._parts.glob("*.parquet"))
        if parts:
            _write_table(self.read(), self.results_path)
            for part in parts:
                part.unlink()
        with contextlib.suppress(OSError):
            self._parts.rmdir()


def run_sweep(
    factory: Factory,
    draws: Sequence[Draw],
    directory: str | Path,
    *,
    identity: Mapping[str, Any],
    about: Mapping[str, Any] | None = None,
    enlargeable: bool = True,
    workers: int = 1,
    engine: Engine | None = None,
    progress: bool = True,
) -> "pa.Table":
    """Run the rollout on every draw that has no row in `directory` yet; returns the table of all draws.

    `factory` is picklable and makes `rollout(draw) -> row` in a worker; a row holds plain scalars and at
    least `success: bool`. `identity` is everything that decides the rows (JSON types), `about` further facts
    for config.json. `workers=0` runs in this process. Ctrl-C (KeyboardInterrupt) and errors leave all rows
    so far in results.parquet.
    """
    if not draws:
        raise UserError("a sweep needs at least one draw")
    store = SweepStore(directory)
    with store.locked():
        store.check(identity, len(draws), enlargeable)
        done = store.done()
        count = max([len(draws), *(i + 1 for i in done)])
        store.write_config({**(about or {}), "draws": count, "sweep": dict(identity)})
        todo = [draw for draw in draws if draw.index not in done]
        try:
            _run(store, _outcomes(factory, todo, workers, engine), len(draws), len(todo), progress)
        finally:
            store.merge()
        wanted = {draw.index for draw in draws}
        table = store.read()
        import pyarrow as pa

        return table.filter(pa.array([i in wanted for i in table["index"].to_pylist()]))


def summarize(table: "pa.Table", confidence: float = 0.95) -> dict[str, Any]:
    """Counts, success rate with its Wilson interval, and the stages, failures and policy's faults that occurred."""
    import numpy as np

    draws = table.num_rows
    successes = int(np.count_nonzero(table["success"].to_numpy()))
    low, high = wilson_interval(successes, draws, confidence)
    summary: dict[str, Any] = {
        "draws": draws,
        "successes": successes,
        "success_rate": successes / draws if draws else None,
        "wilson_95": [low, high],
        "errors": sum(text.startswith("error: ") for text in table["failure"].to_pylist()),
    }
    for name in ("failure", "stage"):
        if name in table.column_names:
            summary[f"{name}s"] = _counts([v for v in table[name].to_pylist() if v])
    if POLICY_FAULT in table.column_names:
        summary["policy_faults"] = _counts([v for v in table[POLICY_FAULT].to_pylist() if v])
    if "seconds" in table.column_names:
        seconds = table["seconds"].to_numpy(zero_copy_only=False).astype(float)
        won = seconds[table["success"].to_numpy(zero_copy_only=False)]
        summary["median_seconds_to_success"] = float(np.median(won)) if len(won) else None
    return summary


def hopeless(count: int, last: Outcome) -> Sim2RealError:
    """What ends a run of which nothing has come but errors."""
    return Sim2RealError(
        f"the first {count} episodes all ended in an error, the last one: {last.error}\n{last.detail}".rstrip()
    )


def draws_to_halve(successes: int, draws: int) -> int:
    """How many more draws bring the 95 % interval to half its width, if the rate stays what it is."""
    low, high = wilson_interval(successes, draws)
    target = (high - low) / 2
    rate = successes / draws if draws else 0.5
    more_low, more_high = draws, max(16 * draws, 64)
    while more_high - more_low > 1:
        middle = (more_low + more_high) // 2
        a, b = wilson_interval(round(rate * middle), middle)
        more_low, more_high = (more_low, middle) if b - a <= target else (middle, more_high)
    return more_high - draws


def row_to_draw(row: Mapping[str, Any], parameters: Sequence[str]) -> Draw:
    """The draw of one row of results: replaying it gives the same episode."""
    values = {name: row[name] for name in parameters if row.get(name) is not None}
    return Draw(index=int(row["index"]), seed=int(row["seed"]), values=values)


def _outcomes(
    factory: Factory, draws: Sequence[Draw], workers: int, engine: Engine | None
) -> Iterator[Outcome]:
    if not draws:
        return iter(())
    if engine is not None:
        return engine(factory, draws, workers)
    return run_draws(factory, draws, workers)


def _run(store: SweepStore, outcomes: Iterator[Outcome], total: int, todo: int, progress: bool) -> None:
    pending: list[Row] = []
    flushed = time.monotonic()
    returned = errors = successes = 0
    bar = progress_bar(total, "sweep", "draw", shown=progress, initial=total - todo, leave=True)
    try:
        for outcome in outcomes:
            row = _row(outcome)
            pending.append(row)
            returned, errors = returned + (not outcome.error), errors + bool(outcome.error)
            successes += row["success"]
            if not returned and errors >= min(HOPELESS, todo):
                raise hopeless(errors, outcome)
            bar.update()
            bar.set_postfix_str(f"success {successes / (returned + errors):.1%}", refresh=False)
            due = len(pending) >= _FLUSH_ROWS or time.monotonic() - flushed > _FLUSH_SECONDS
            # Nothing is kept of a sweep that turns out to be hopeless, so that it can be mended and repeated.
            if due and returned:
                store.append(pending)
                pending, flushed = [], time.monotonic()
        todo -= returned + errors
        if todo:
            raise Sim2RealError(f"{todo} draws came back without a result")
    finally:
        bar.close()
        if hasattr(outcomes, "close"):
            outcomes.close()
        if returned:
            store.append(pending)


def _row(outcome: Outcome) -> Row:
    draw = outcome.draw
    head: Row = {"index": draw.index, "seed": draw.seed}
    if outcome.error:
        body: Row = {"success": False, "failure": f"error: {outcome.error}", "wall_seconds": None}
        body |= outcome.row
    else:
        body = dict(outcome.row)
        body["success"] = bool(body["success"])
        body["failure"] = "" if body["success"] else str(body.get("failure") or "failed")
    clash = (set(head) | set(body)) & set(draw.values)
    if clash:
        raise Sim2RealError(f"the rollout returns columns named like parameters: {sorted(clash)}")
    return head | body | dict(draw.values)


def _write_table(table: "pa.Table", path: Path) -> None:
    import pyarrow.parquet as pq

    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(table, temporary)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def _counts(values: Sequence[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
