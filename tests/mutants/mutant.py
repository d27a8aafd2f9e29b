"""A sabotage: a piece of the product, what stands in its place, and who should notice."""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Mutant(NamedTuple):
    """One sabotage."""

    name: str
    guarantee: str
    """The promise of `docs/design.md` that it breaks."""
    file: str
    old: str
    """A piece of the file that occurs once."""
    new: str
    tests: str
    """Node ids of pytest, separated by spaces, of which one must fail."""

    def apply(self, root: Path) -> None:
        """Sabotage the tree below `root`.

        :raises ValueError: the piece does not occur exactly once
        """
        path = root / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(
                f"mutant {self.name}: its piece occurs {text.count(self.old)} times in {self.file}"
            )
        path.write_text(text.replace(self.old, self.new))
