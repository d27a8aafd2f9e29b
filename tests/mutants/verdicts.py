"""What became of each mutant: kept between runs, since all of them take an hour, and shown."""

import json
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from tests.mutants.mutant import ROOT, Mutant

KEPT = ROOT / ".data" / "mutants.json"


class Verdict(NamedTuple):
    """What became of one mutant."""

    outcome: str
    """killed, survived, or broken: its tests could not be run."""
    by: str
    """The first test that failed."""
    seconds: float
    day: str
    mutant: str
    """Its digest: with another one, it is to be tried again."""


def verdict(mutant: Mutant, outcome: str, by: str, seconds: float) -> Verdict:
    """A verdict of now."""
    return Verdict(outcome, by, seconds, f"{datetime.now().astimezone():%Y-%m-%d}", digest(mutant))


def digest(mutant: Mutant) -> str:
    """Changes with the mutant, and with the names of its tests."""
    return sha256(repr(mutant).encode()).hexdigest()[:16]


def kept() -> dict[str, Verdict]:
    """The verdicts of all runs, by the name of the mutant."""
    if not KEPT.exists():
        return {}
    return {name: Verdict(*fields) for name, fields in json.loads(KEPT.read_text()).items()}


def keep(name: str, found: Verdict) -> None:
    """Add a verdict to those that are kept."""
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps({**kept(), name: found}, indent=1))


def page(mutants: Iterable[Mutant]) -> str:
    """A Markdown page of all mutants, from the verdicts that are kept and still true."""
    rows, killed, days = [], 0, set()
    known = kept()
    for mutant in sorted(mutants, key=lambda m: (m.guarantee, m.name)):
        found = known.get(mutant.name)
        if found is None or found.mutant != digest(mutant):
            found = Verdict("not run", "", 0, "", "")
        killed += found.outcome == "killed"
        days |= {found.day} - {""}
        by = f"`{found.by}`" if found.by else ""
        rows.append(f"| {mutant.name} | {mutant.guarantee} | {found.outcome} | {by} |")
    when = ", ".join(sorted(days)) or "no day yet"
    return f"""# Mutants

Made by `python -m tests.mutants --write docs/mutants.md`; run on {when}.

Each row is a small sabotage of the product, which one of the tests named for it must notice. The
last column is the test that failed first. The sabotages are in [tests/mutants](../tests/mutants),
with the file that each changes and the tests that are run. **{killed} of {len(rows)} are killed.**

| mutant | guarantee that it breaks | outcome | by |
|---|---|---|---|
""" + "".join(f"{row}\n" for row in rows)
