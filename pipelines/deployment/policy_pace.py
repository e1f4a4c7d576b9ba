"""What it means for a run on an arm how long its policy takes for an answer, in words."""

from sim2real.errors import UserError
from sim2real.policies.latency import Coverage, Timing


def check_pace(policy: str, covered: Coverage, timing: Timing) -> str:
    """What is to be said of a policy that is slow but covered by its chunks; "" for one that keeps its rate.

    Raises UserError, with both figures and what to do, for one that would run out of actions.
    """
    if not covered.covers(timing.p95):
        raise UserError(
            f"the policy '{policy}' takes {_ms(timing.p50)} for an answer (95 % of {timing.calls} within "
            f"{_ms(timing.p95)}), and its chunks of {covered.horizon} actions at {covered.rate:g} Hz cover "
            f"{_ms(covered.longest)}: the arm would run out of actions under way. Nothing has moved. "
            f"What to do: {remedy(covered, timing.p95)}"
        )
    if covered.keeps_rate(timing.p95):
        return ""
    return (
        f"the policy '{policy}' takes {_ms(timing.p50)} for an answer (95 % within {_ms(timing.p95)}): too slow for "
        f"{covered.rate:g} Hz, but its chunks of {covered.horizon} actions cover up to {_ms(covered.longest)}; the arm "
        f"acts on what was seen up to {_ms(covered.period + 2 * timing.p95)} before"
    )


def remedy(covered: Coverage, latency: float) -> str:
    """What lets a policy be deployed that takes `latency` s."""
    return (
        f"chunks of {covered.horizon_for(latency)} actions or more, a smaller network or 8-bit weights "
        "(`sim2real bench-policy FILE --quantize OUT.onnx`), a faster computer, or close what keeps this one busy; "
        "`sim2real bench-policy` measures it at leisure"
    )


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
