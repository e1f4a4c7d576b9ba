"""What a run counts."""

from dataclasses import dataclass, field


@dataclass
class Counts:
    """What happened to the policy's commands, and how well the loop kept time."""

    ticks: int = 0
    overruns: int = 0
    """Whole periods that were skipped."""
    commands: int = 0
    """Goals sent on the policy's behalf."""
    clipped: int = 0
    rejected: int = 0
    chunks: int = 0
    expired: int = 0
    refused: int = 0
    """Chunks that were not finite or of the wrong size."""
    bus_errors: int = 0
    """Exchanges with the arm that failed."""
    latencies: list[float] = field(default_factory=list)
    """s between an observation and the arrival of the chunk that answers it."""
