"""Text that came from outside, before people see it."""

LONGEST = 300
"""Characters of one text from outside that are shown."""


def printable(text: object, longest: int = LONGEST) -> str:
    """`text` without what a terminal would obey: control characters become visible escapes, and it is cut.

    A message from a server or a name in a file could otherwise move the cursor, change colours, or hide what was said.
    """
    shown = str(text)
    cut = shown[:longest] + ("…" if len(shown) > longest else "")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def printable_lines(text: object) -> str:
    """A whole message of several lines, each without control characters, none cut."""
    return "\n".join(printable(line, len(line)) for line in str(text).split("\n"))
