"""What came of a time at work under faults, as a fleet operator counts it.

Faults may be injected many times more densely than they are assumed to come (an accelerated test): every figure is
then that of an arm to which they come as often as assumed. This is sound as long as they come one by one.
"""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

DAY = 86400.0

ATTEND, MEND = 300.0, 900.0
"""s until a person has noticed, looked and started the arm again, and s more where something stays broken until it
is mended (assumptions, for uptime)."""


@dataclass
class Tally:
    """What came of it. Tallies of consecutive runs add up."""

    seconds: float = 0.0
    """Simulated, without repairs."""
    exposure: float = 0.0
    """s at work in which as many faults are assumed to happen: the simulated time, times how dense they were."""
    down: float = 0.0
    """s in which the arm could not work: from a fault to the next start, repairs included."""
    repairs: float = 0.0
    """s of that which were spent on waiting for people and on mending."""
    runs: int = 0
    interventions: int = 0
    episodes: int = 0
    successes: int = 0
    hit_episodes: int = 0
    """Episodes during which a fault was in effect, or just had been."""
    hit_successes: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Injected, by name."""
    people: Counter[str] = field(default_factory=Counter)
    """Interventions, by the fault that was (the last) in effect; "" if there was none."""
    latched: Counter[str] = field(default_factory=Counter)
    """Runs ended, by what the supervisor latched (or "refused": the arm could not be started)."""
    peaks: dict[str, float] = field(default_factory=dict)
    """Largest value of what each promise bounds, as a share of the bound."""
    broken: list[str] = field(default_factory=list)
    """Promises that were not kept: seed, time, fault, what happened."""

    def add(self, other: "Tally") -> None:
        for name in (*_SUMS, *_COUNTS):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, value in other.peaks.items():
            self.peaks[name] = max(self.peaks.get(name, 0.0), value)
        self.broken += other.broken

    # What a fleet operator asks for, of an arm to which faults come as often as assumed.

    @property
    def density(self) -> float:
        """How many times denser than assumed the faults came."""
        return self.exposure / self.seconds if self.seconds else 1.0

    @property
    def uptime(self) -> float:
        total = self.exposure + self.repairs
        return 1.0 - self.down / total if total else 1.0

    @property
    def success(self) -> float | None:
        """Share of episodes that succeed; None where that cannot be told."""
        if not self.episodes:
            return None
        spared, hit = self.episodes - self.hit_episodes, self.hit_episodes
        share = hit / self.episodes / self.density
        if not spared:
            return self.successes / hit if share == 1.0 else None
        base = (self.successes - self.hit_successes) / spared
        return base if not hit else base + share * (self.hit_successes / hit - base)

    @property
    def interventions_per_day(self) -> float:
        total = self.exposure + self.repairs
        return self.interventions / total * DAY if total else 0.0

    @property
    def interventions_interval(self) -> tuple[float, float]:
        """95 % interval of `interventions_per_day`: exact, for a Poisson process (Garwood 1936)."""
        from scipy.stats import chi2

        days, n = (self.exposure + self.repairs) / DAY, self.interventions
        if not days:
            return 0.0, float("inf")
        low = float(chi2.ppf(0.025, 2 * n)) / 2 if n else 0.0
        return low / days, float(chi2.ppf(0.975, 2 * n + 2)) / 2 / days

    def as_dict(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        own = {name: dict(value) if name in _COUNTS else value for name, value in vars(self).items()}
        derived = {name: getattr(self, name) for name in _DERIVED}
        return own | derived | {"interventions_interval": list(self.interventions_interval)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Tally":
        own = {field.name: plain[field.name] for field in fields(cls)}
        return cls(**(own | {name: Counter(own[name]) for name in _COUNTS}))


_SUMS = (
    *("seconds", "exposure", "down", "repairs", "runs", "interventions"),
    *("episodes", "successes", "hit_episodes", "hit_successes"),
)
_COUNTS = ("faults", "people", "latched")
_DERIVED = ("uptime", "success", "interventions_per_day")


def summary(tally: Tally, took: float | None = None) -> str:
    """What a fleet operator wants to know, as text."""
    hours, injected = tally.seconds / 3600, sum(tally.faults.values())
    per_hour = injected / hours if hours else 0.0
    raw = "no episodes"
    if tally.episodes:
        raw = f"{tally.successes} of {tally.episodes} episodes"
        raw += f", {tally.hit_successes} of {tally.hit_episodes} with faults"
    success = "unknown" if tally.success is None else f"{tally.success:.1%}"
    low, high = tally.interventions_interval
    alone = 1.0 - tally.interventions / injected if injected else 1.0
    people = ", ".join(f"{n} × {name or 'no fault'}" for name, n in tally.people.most_common())
    lines = [
        f"simulated   {hours:.2f} h, {tally.runs} runs, {injected} faults ({per_hour:.0f} an hour, "
        f"{tally.density:g} × as many as assumed)" + (f" in {took:.0f} s" if took is not None else ""),
        f"uptime      {tally.uptime:.2%} (somebody comes after {ATTEND / 60:.0f} min; what stays broken takes "
        f"{MEND / 60:.0f} min more)",
        f"success     {success} ({raw})",
        f"people      {tally.interventions_per_day:.2f} interventions a day ({low:.2f} to {high:.2f}); "
        f"{alone:.1%} of the faults passed without any",
        f"needed for  {people or 'nothing'}",
        "ended by    " + (", ".join(f"{n} × {name}" for name, n in tally.latched.most_common()) or "nothing"),
        "closest     "
        + (
            ", ".join(f"{name} {share:.0%}" for name, share in sorted(tally.peaks.items())) or "nothing moved"
        ),
        f"promises    {'all kept' if not tally.broken else f'{len(tally.broken)} BROKEN'}",
    ]
    return "\n".join(lines + [f"  {text}" for text in tally.broken[:20]])
