"""How results show themselves."""


def rate_text(successes: int, count: int, interval: tuple[float, float]) -> str:
    """A success rate with its interval: "241 of 256, 94.1% [90.6%, 96.4%]"."""
    if not count:
        return "none judged"
    return f"{successes} of {count}, {successes / count:.1%} [{interval[0]:.1%}, {interval[1]:.1%}]"
