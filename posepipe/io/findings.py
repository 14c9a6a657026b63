"""Findings: what is odd about files that people label, export and hand on, one line each.

A reader goes on wherever the meaning is plain, and hands over what it found; a command prints each
finding once. Where most of something is lost, the finding is fatal and the command fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from posepipe.errors import DocumentError

EXAMPLES = 3  # named in a line


@dataclass(frozen=True)
class Finding:
    """Something about data that is wrong, or may be.

    Attributes:
        fatal: whether going on would fail or be pointless; else a warning.
        where: the file, folder or pair of files that it is about.
        what: what there is too much, or too little of.
        count: how many there are.
        of: among how many; None where that says nothing.
        examples: the first few.
        then: what becomes of them, or what to do; "" where that goes without saying.
    """

    fatal: bool
    where: str
    what: str
    count: int
    of: int | None = None
    examples: tuple[str, ...] = ()
    then: str = ""

    @property
    def message(self) -> str:
        """All of it in one line, without its severity.

        >>> Finding(True, "people.json", "missing images", 12, 345, ("1.jpg", "2.jpg")).message
        'people.json: missing images: 12 of 345 (1.jpg, 2.jpg, …)'
        """
        among = "" if self.of is None else f" of {self.of}"
        more = ", …" if self.count > len(self.examples) else ""
        such_as = f" ({', '.join(self.examples)}{more})" if self.examples else ""
        then = f": {self.then}" if self.then else ""
        return f"{self.where}: {self.what}: {self.count}{among}{such_as}{then}"

    @property
    def line(self) -> str:
        """`message`, with "error: " or "warning: " in front."""
        return f"{'error' if self.fatal else 'warning'}: {self.message}"


def mostly_lost(lost: int, of: int) -> bool:
    """Whether so much is lost that going on would be pointless: more than half.

    >>> mostly_lost(1, 2), mostly_lost(2, 3), mostly_lost(0, 0)
    (False, True, False)
    """
    return 2 * lost > of


def noted(where: str, what: str, which: Sequence[str], of: int, then: str = "") -> list[Finding]:
    """A warning about some of many things; [] where there are none.

    Args:
        where: the file.
        what: what they are.
        which: a name for each of them.
        of: among how many.
        then: what becomes of them.
    """
    if not which:
        return []
    return [Finding(False, where, what, len(which), of, tuple(which[:EXAMPLES]), then)]


def lost(
    where: str, what: str, which: Sequence[str], of: int, then: str = "left out"
) -> list[Finding]:
    """As `noted`, of things that cannot be used: fatal where they are most of all."""
    return [
        replace(finding, fatal=mostly_lost(len(which), of))
        for finding in noted(where, what, which, of, then)
    ]


def refuse_fatal(findings: Iterable[Finding]) -> None:
    """Check that no finding is fatal.

    Raises:
        DocumentError: the first fatal one, and how many more there are.
    """
    fatal = [finding for finding in findings if finding.fatal]
    if fatal:
        more = f" (and {len(fatal) - 1} more such errors)" if len(fatal) > 1 else ""
        raise DocumentError(f"{fatal[0].message}{more}")
