"""`Space`: which parameters vary, and how. Bound to a simulation's parameters it gives reproducible draws.

A space file is TOML:

    base = "default"                      # parameters not listed: "default" ranges, "nominal", or "task"

    [parameters]
    "servo.*.coulomb" = {distribution = "loguniform", low = 0.02, high = 0.1}
    "link.*.mass"     = {distribution = "uniform", low = 0.9, high = 1.1, mode = "scale"}
    "servo.*.voltage" = {distribution = "normal", mean = 0.0, std = 0.3, mode = "add", shared = true}
    "object.cube.friction" = [0.3, 1.2]        # short for uniform
    "world.gravity"   = 9.81              # fixed

    [[correlated]]                        # Gaussian copula: the ranks of these co-vary
    parameters = ["servo.elbow_flex.kp", "servo.elbow_flex.viscous"]
    matrix = [[1.0, 0.6], [0.6, 1.0]]

Wildcards are those of a shell (`*`, `?`, `[ab]`); where several entries match, the last one holds. `mode`
says what the drawn number does to the nominal value: replace it (`set`), multiply (`scale`), add to it (`add`).
With `shared = true` all matching parameters get the same drawn number: joints that share a supply co-vary.
`base = "task"` varies only a task's initial conditions (`task.*`) besides what is listed.
"""

import difflib
import fnmatch
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from randomization.designs import Design, load_design
from randomization.distributions import TINY, Constant, Distribution, LogUniform, Uniform, from_toml
from sim2real import old_names
from sim2real.errors import UserError
from sim2real.parameters import Draw, Parameter

Array = NDArray[np.float64]
Mode = Literal["set", "scale", "add"]
Base = Literal["default", "nominal", "task"]


@dataclass(frozen=True)
class Variation:
    """How one entry of a space varies: a distribution, its mode, and whether all matches share the number."""

    distribution: Distribution
    mode: Mode = "set"
    shared: bool = False

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise UserError(f"unknown mode '{self.mode}'; allowed are {', '.join(get_args(Mode))}")

    def apply(self, drawn: float, nominal: float) -> float:
        """The absolute parameter value for a drawn number."""
        if self.mode == "scale":
            return nominal * drawn
        return nominal + drawn if self.mode == "add" else drawn

    def to_toml(self) -> dict[str, Any]:
        """The table that `from_toml` reads back."""
        table = self.distribution.to_toml()
        if self.mode != "set":
            table["mode"] = self.mode
        if self.shared:
            table["shared"] = True
        return table

    @classmethod
    def from_toml(cls, raw: object, where: str) -> "Variation":
        """From an entry under [parameters]; raises UserError naming `where`."""
        if not isinstance(raw, Mapping):
            return cls(from_toml(raw, where))
        table = dict(raw)
        mode, shared = table.pop("mode", "set"), table.pop("shared", False)
        if mode not in get_args(Mode):
            raise UserError(f"{where}: unknown mode {mode!r}; allowed are {', '.join(get_args(Mode))}")
        if not isinstance(shared, bool):
            raise UserError(f"{where}: shared must be true or false, got {shared!r}")
        return cls(from_toml(table, where), mode, shared)


@dataclass(frozen=True)
class Correlation:
    """A Gaussian copula over some parameters: `matrix` (k, k) correlates their normal scores.

    For normal distributions these are the correlations of the values themselves. Raises UserError unless the
    matrix is symmetric and positive definite with ones on the diagonal.
    """

    parameters: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))
        object.__setattr__(self, "matrix", tuple(tuple(float(v) for v in row) for row in self.matrix))
        k, m = len(self.parameters), self.matrix
        where = f"correlated {list(self.parameters)}"
        if k < 2 or len(m) != k or any(len(row) != k for row in m):
            raise UserError(f"{where}: needs a {k} × {k} matrix for at least two parameters")
        a = np.array(m)
        if not np.isfinite(a).all() or not np.allclose(a, a.T) or not np.allclose(np.diag(a), 1.0):
            raise UserError(f"{where}: the matrix must be finite and symmetric with ones on its diagonal")
        if np.linalg.eigvalsh(a)[0] <= 1e-12:
            raise UserError(f"{where}: the matrix is not positive definite, so no such correlations exist")


@dataclass(frozen=True)
class Space:
    """Names or wildcards → variations. Later entries override earlier ones; see the module's docstring."""

    variations: Mapping[str, Variation] = field(default_factory=dict)
    base: Base = "default"
    correlations: tuple[Correlation, ...] = ()

    def __post_init__(self) -> None:
        if self.base not in get_args(Base):
            raise UserError(f"unknown base '{self.base}'; allowed are {', '.join(get_args(Base))}")
        clean = {k: v if isinstance(v, Variation) else Variation(v) for k, v in self.variations.items()}
        object.__setattr__(self, "variations", MappingProxyType(clean))
        object.__setattr__(self, "correlations", tuple(self.correlations))

    def __reduce__(self) -> tuple[Any, ...]:
        return Space, (dict(self.variations), self.base, self.correlations)

    @classmethod
    def default(cls, parameters: Mapping[str, Parameter]) -> "Space":
        """Every parameter that declares a range varies in it (log-uniformly where it says so)."""
        return cls({n: default_variation(p) for n, p in parameters.items() if p.randomized}, base="nominal")

    @classmethod
    def load(cls, path: str | Path) -> "Space":
        """Read a space file. Raises UserError for a missing file, broken TOML or impossible entries."""
        path = Path(path)
        try:
            raw = tomllib.loads(path.read_text())
        except FileNotFoundError:
            raise UserError(f"no space file {path}; `sim2real parameters --save FILE` writes one") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UserError(f"cannot read the space file {path}: {error}") from None
        return cls.from_dict(raw, str(path))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], where: str = "space") -> "Space":
        """From the parsed TOML. Unknown tables are refused, so that a typing error does not pass silently."""
        unknown = set(raw) - {"parameters", "base", "correlated", "about"}
        if unknown:
            raise UserError(
                f"{where}: unknown entries {sorted(unknown)}; a space has 'base', 'about', [parameters] and "
                "[[correlated]]"
            )
        entries, groups = raw.get("parameters", {}), raw.get("correlated", [])
        if not isinstance(entries, Mapping):
            raise UserError(f"{where}: [parameters] must be a table")
        if not isinstance(groups, list):
            raise UserError(f"{where}: 'correlated' must be an array of tables, [[correlated]]")
        flat = _flatten(entries)
        variations = {name: Variation.from_toml(value, f"{where}: {name}") for name, value in flat.items()}
        correlations = []
        for group in groups:
            correlations.append(_correlation(group, where))
        return cls(variations, raw.get("base", "default"), tuple(correlations))

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for TOML and JSON."""
        raw: dict[str, Any] = {"base": self.base}
        raw["parameters"] = {name: v.to_toml() for name, v in self.variations.items()}
        if self.correlations:
            raw["correlated"] = [
                {"parameters": list(c.parameters), "matrix": [list(row) for row in c.matrix]}
                for c in self.correlations
            ]
        return raw

    def save(self, path: str | Path, about: str = "") -> None:
        """Write a space file; `about` says where it comes from."""
        import tomli_w

        text = tomli_w.dumps(({"about": about} if about else {}) | self.to_dict())
        Path(path).write_text(text)

    def with_parameters(self, settings: Sequence[str]) -> "Space":
        """This space with command-line settings `NAME=LO:HI`, `NAME=VALUE`, `NAME=xLO:xHI` on top."""
        extra = dict(parse_setting(text) for text in settings)
        kept = {name: v for name, v in self.variations.items() if name not in extra}
        return Space(kept | extra, self.base, self.correlations)

    def bind(self, parameters: Mapping[str, Parameter]) -> "BoundSpace":
        """Resolve wildcards and modes against a simulation's parameters.

        Raises UserError for an entry that matches nothing (with the nearest names), for `scale` on a nominal
        value of zero, and for correlations that name parameters which do not vary on their own.
        """
        return _bind(self, parameters)


@dataclass(frozen=True)
class Column:
    """One dimension of a bound space: a variation and the parameters that take its number."""

    name: str
    variation: Variation
    targets: tuple[str, ...]


@dataclass(frozen=True)
class BoundSpace:
    """A space for one particular set of parameters: what can be drawn from.

    `columns` are the dimensions; `fixed` the absolute values of parameters that an entry pins; `factors`
    holds (column indices, Cholesky factor) of each correlated group.
    """

    parameters: Mapping[str, Parameter]
    columns: tuple[Column, ...]
    fixed: Mapping[str, float]
    factors: tuple[tuple[tuple[int, ...], Array], ...] = ()

    @property
    def dimension(self) -> int:
        """How many independent numbers a draw takes."""
        return len(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters that vary, in the order of the columns."""
        return tuple(target for column in self.columns for target in column.targets)

    @property
    def column_names(self) -> tuple[str, ...]:
        """One name per dimension: the parameter, or the wildcard of a shared entry."""
        return tuple(column.name for column in self.columns)

    def columns_matching(self, pattern: str) -> tuple[int, ...]:
        """Indices of the columns whose name or targets match a wildcard."""
        return tuple(
            i
            for i, column in enumerate(self.columns)
            if column.name == pattern or any(fnmatch.fnmatchcase(t, pattern) for t in column.targets)
        )

    def draws(self, count: int, seed: int = 0, design: str | Design = "sobol", start: int = 0) -> list[Draw]:
        """Draws `start..count-1` of the design; draw i does not depend on `start` or (for prefix-stable
        designs) on `count`. Each draw's own seed comes from (seed, index) alone.
        """
        if count < start or start < 0:
            raise ValueError(f"need 0 <= start <= count, got start {start}, count {count}")
        if isinstance(design, str):
            design = load_design(design)
        points = design.points(count, self.dimension, seed)[start:]
        seeds = design.seed_index(count, self.dimension)[start:]
        return [
            Draw(index=start + i, seed=episode_seed(seed, int(k)), values=values)
            for i, (k, values) in enumerate(zip(seeds, self.values(points)))
        ]

    def draw(self, index: int, seed: int = 0) -> Draw:
        """One independent draw by its number, without making the ones before it."""
        rng = np.random.default_rng(np.random.SeedSequence([seed, index, 1]))
        point = np.clip(rng.random((1, self.dimension)), TINY, 1 - TINY)
        return Draw(index=index, seed=episode_seed(seed, index), values=self.values(point)[0])

    def values(self, points: Array) -> list[dict[str, float]]:
        """Absolute parameter values of points (B, dimension) in (0, 1); NaN leaves a column at nominal."""
        points = self._correlate(np.asarray(points, dtype=np.float64))
        rows: list[dict[str, float]] = [dict(self.fixed) for _ in range(len(points))]
        for j, column in enumerate(self.columns):
            known = ~np.isnan(points[:, j])
            drawn = np.full(len(points), np.nan)
            drawn[known] = column.variation.distribution.ppf(points[known, j])
            for target in column.targets:
                parameter = self.parameters[target]
                nominal, lowest, highest = parameter.nominal, parameter.minimum, parameter.maximum
                for row, number in zip(rows, drawn.tolist()):
                    value = nominal if math.isnan(number) else column.variation.apply(number, nominal)
                    # Tails without an end reach beyond what can be, one time in a thousand at most.
                    row[target] = min(max(value, lowest), highest)
        return rows

    def range(self, name: str, tail: float = 0.005) -> tuple[float, float]:
        """The interval of absolute values that `name` is drawn from (its central part where unbounded)."""
        for column in self.columns:
            if name in column.targets:
                variation, nominal = column.variation, self.parameters[name].nominal
                low, high = variation.distribution.support
                if math.isinf(low) or math.isinf(high):
                    low, high = (float(v) for v in variation.distribution.ppf([tail, 1 - tail]))
                a, b = variation.apply(low, nominal), variation.apply(high, nominal)
                return min(a, b), max(a, b)
        value = self.fixed.get(name, self.parameters[name].nominal)
        return value, value

    def to_dict(self) -> dict[str, Any]:
        """What a draw depends on besides seed and design: plain types, comparable between runs."""
        return {
            "columns": [
                {"name": c.name, "variation": c.variation.to_toml(), "targets": list(c.targets)}
                for c in self.columns
            ],
            "nominal": {name: self.parameters[name].nominal for name in self.names},
            "fixed": dict(self.fixed),
            "correlated": [
                {"columns": [self.columns[i].name for i in group], "factor": factor.tolist()}
                for group, factor in self.factors
            ],
        }

    def _correlate(self, points: Array) -> Array:
        if not self.factors:
            return points
        from scipy.special import ndtr, ndtri

        points = points.copy()
        for group, factor in self.factors:
            columns = list(group)
            scores = ndtri(points[:, columns]) @ factor.T
            # One-at-a-time rows leave columns at nominal (NaN): there the others keep their own number.
            known = ~np.isnan(scores).any(axis=1)
            rows = np.flatnonzero(known)
            points[rows[:, None], columns] = np.clip(ndtr(scores[rows]), TINY, 1 - TINY)
        return points


def default_variation(parameter: Parameter) -> Variation:
    """The range that a parameter declares, as a variation."""
    cls = LogUniform if parameter.scale == "log" else Uniform
    return Variation(cls(parameter.low, parameter.high))


def episode_seed(seed: int, index: int) -> int:
    """The seed of episode `index` of a run: 53 bits, so that JSON and parquet keep it exactly."""
    state = np.random.SeedSequence([seed, index, 0]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(11))


def parse_setting(text: str) -> tuple[str, Variation]:
    """A command-line setting as (name or wildcard, variation).

    `NAME=LO:HI` uniform, `NAME=VALUE` fixed, `NAME=xLO:xHI` (or `NAME=x1.2`) relative to nominal,
    `NAME=+LO:+HI` added to nominal (signs as in `+-0.1:+0.1`). Raises UserError for anything else.
    """
    name, equals, value = text.partition("=")
    name, parts = name.strip(), [part.strip() for part in value.split(":")]
    shape = (
        f"cannot read the setting '{text}'; use NAME=LO:HI (uniform), NAME=VALUE (fixed), NAME=xLO:xHI "
        "(factors of the nominal value) or NAME=+LO:+HI (added to it); NAME may hold wildcards"
    )
    if not name or not equals or not 1 <= len(parts) <= 2:
        raise UserError(shape)
    mode: Mode = "set"
    if all(part.startswith("x") for part in parts):
        mode = "scale"
    elif all(part.startswith("+") for part in parts):
        mode = "add"
    try:
        numbers = [float(part[1:] if mode != "set" else part) for part in parts]
    except ValueError:
        raise UserError(shape) from None
    try:
        distribution = Constant(numbers[0]) if len(numbers) == 1 else Uniform(numbers[0], numbers[1])
    except UserError as error:
        raise UserError(f"the setting '{text}': {error}") from None
    return name, Variation(distribution, mode)


def nearest_names(name: str, names: Sequence[str], count: int = 5) -> list[str]:
    """Up to `count` names most like `name`; parts between dots count for themselves."""
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.5)
    words = [w for w in name.replace("*", "").split(".") if len(w) > 2]
    parts = sorted({part for n in names for part in n.split(".")})
    alike = {*words, *(p for w in words for p in difflib.get_close_matches(w, parts, n=2, cutoff=0.75))}
    close += [n for n in names if n not in close and any(w in n for w in alike)]
    return close[:count]


def _bind(space: Space, parameters: Mapping[str, Parameter]) -> BoundSpace:
    chosen: dict[str, tuple[str, Variation]] = {}
    for name, parameter in parameters.items():
        wanted = space.base == "default" or (space.base == "task" and name.startswith("task."))
        if wanted and parameter.randomized:
            chosen[name] = (name, default_variation(parameter))
    for pattern, variation in space.variations.items():
        matches = _matches(pattern, parameters)
        if not matches:
            raise UserError(_unknown(pattern, parameters))
        for name in matches:
            if variation.mode == "scale" and parameters[name].nominal == 0:
                raise UserError(
                    f"'{pattern}' scales {name}, whose nominal value is 0, so it would never vary; "
                    'use mode = "add" (or NAME=+LO:+HI) or an absolute range'
                )
            chosen[name] = (pattern, variation)

    fixed: dict[str, float] = {}
    columns: list[Column] = []
    shared: dict[str, int] = {}
    for name in parameters:
        if name not in chosen:
            continue
        pattern, variation = chosen[name]
        if not variation.distribution.varies:
            fixed[name] = variation.apply(variation.distribution.mean, parameters[name].nominal)
        elif variation.shared and pattern in shared:
            i = shared[pattern]
            columns[i] = Column(pattern, variation, (*columns[i].targets, name))
        else:
            if variation.shared:
                shared[pattern] = len(columns)
            columns.append(Column(pattern if variation.shared else name, variation, (name,)))
    bound = BoundSpace(dict(parameters), tuple(columns), fixed, _factors(space, columns))
    for name in [*bound.names, *fixed]:
        for end in bound.range(name, tail=0.001):
            if problem := parameters[name].refusal(end):
                pattern, variation = chosen[name]
                hint = "; a truncated_normal keeps within" if variation.distribution.kind == "normal" else ""
                raise UserError(f"'{pattern}' would be drawn too far: {problem}{hint}")
    return bound


def _factors(space: Space, columns: list[Column]) -> tuple[tuple[tuple[int, ...], Array], ...]:
    index = {column.name: i for i, column in enumerate(columns)}
    factors = []
    used: set[int] = set()
    for group in space.correlations:
        missing = [name for name in group.parameters if name not in index]
        if missing:
            raise UserError(
                f"correlated parameters {missing} do not vary on their own in this space; "
                "give each its own entry under [parameters]"
            )
        columns_of = tuple(index[name] for name in group.parameters)
        if used & set(columns_of) or len(set(columns_of)) < len(columns_of):
            raise UserError(f"correlated {list(group.parameters)}: a parameter may be correlated only once")
        used |= set(columns_of)
        factors.append((columns_of, np.linalg.cholesky(np.array(group.matrix))))
    return tuple(factors)


def _matches(pattern: str, parameters: Mapping[str, Parameter]) -> list[str]:
    if pattern in parameters:
        return [pattern]
    if (new := old_names.PARAMETERS.get(pattern)) in parameters:
        return [str(new)]
    return [name for name in parameters if fnmatch.fnmatchcase(name, pattern)]


def _unknown(pattern: str, parameters: Mapping[str, Parameter]) -> str:
    near = nearest_names(pattern, list(parameters))
    hint = f"the nearest are {', '.join(near)}" if near else f"there are {len(parameters)} others"
    return (
        f"no parameter matches '{pattern}'; {hint} (`sim2real parameters --robot R --task T` lists them all)"
    )


def _correlation(group: object, where: str) -> Correlation:
    """One [[correlated]] table."""
    if not isinstance(group, Mapping) or set(group) != {"parameters", "matrix"}:
        raise UserError(f"{where}: each [[correlated]] needs exactly 'parameters' and 'matrix'")
    names, matrix = group["parameters"], group["matrix"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}: correlated parameters must be a list of names, got {names!r}")
    rows = matrix if isinstance(matrix, list) else [matrix]
    if not all(isinstance(row, list) and all(_is_number(v) for v in row) for row in rows):
        raise UserError(
            f"{where}: correlated {names}: the matrix must be a list of rows of numbers, got {matrix!r}"
        )
    return Correlation(tuple(names), tuple(tuple(row) for row in rows))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_ENTRY = {
    "distribution",
    "mode",
    "shared",
    "low",
    "high",
    "mean",
    "std",
    "alpha",
    "beta",
    "values",
    "components",
}
"""Keys that make a table an entry, and not a group of them."""


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`object.mass = 1` without quotes parses as nested tables; read it as the name it was meant to be."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and not _ENTRY & value.keys():
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
