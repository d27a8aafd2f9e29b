"""One table of `sources.toml`: options are asked for by name, mistakes are noted as lines."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

_MISSING = object()


class Table:
    """The options of one source.

    A mistake is noted and answered with a stand-in, so that a file shows all of its mistakes at
    once. Whoever made the table looks at `mistakes` before the reader is used. So a function that
    makes a reader of it never raises, and touches neither network nor disk.

    :param name: of the source
    :param options: as they stand in the file
    :param folder: that of the file, which relative paths begin at
    :param environment: where secrets are
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        folder: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self._options = options
        self._folder = folder
        self._environment = environment
        self._asked: set[str] = set()
        self._mistakes: list[str] = []

    @property
    def author(self) -> str:
        """Whose work it is: `author_id`, or `owner_id` of a repository."""
        return self.text("author")

    @property
    def mistakes(self) -> list[str]:
        """A line for each mistake, and for each option that nobody has asked for."""
        unknown = [
            f"{option} is no option of this kind: take it out, or look for a typing error"
            for option in self._options
            if option not in self._asked
        ]
        return [f"[sources.{self.name}] {line}" for line in dict.fromkeys(self._mistakes + unknown)]

    def mistake(self, option: str, problem: str) -> None:
        """Note a mistake, in words that continue a sentence after the name of its option."""
        self._mistakes.append(f"{option} {problem}")

    def text(self, option: str, default: str | None = None) -> str:
        """A text; without a default it is required."""
        value = self._value(option, default)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if value is _MISSING:
            self.mistake(option, "is missing")
        elif value != default:
            self.mistake(option, f"= {value!r:.80} is not a text")
        return default or ""

    def texts(self, option: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self._value(option, [])
        if isinstance(value, list) and all(isinstance(one, str) and one for one in value):
            return tuple(value)
        self.mistake(option, f'= {value!r:.80} is not a list of texts: write ["one", "two"]')
        return ()

    def boolean(self, option: str, default: bool = False) -> bool:
        """True or false."""
        value = self._value(option, default)
        if isinstance(value, bool):
            return value
        self.mistake(option, f"= {value!r:.80} is neither true nor false")
        return default

    def number(self, option: str, default: float, low: float, high: float) -> float:
        """A number within bounds."""
        value = self._value(option, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        self.mistake(option, f"= {value!r:.80} is not a number from {low:g} to {high:g}")
        return default

    def integer(self, option: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds."""
        value = self._value(option, default)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.mistake(option, f"= {value!r:.80} is not a whole number from {low} to {high}")
        return default

    def choice(self, option: str, default: str | None, choices: Collection[str]) -> str:
        """One of several words."""
        value = self.text(option, default)
        if value and value not in choices:
            self.mistake(option, f"= {value!r:.80} is unknown: write one of {', '.join(choices)}")
        return value

    def path(self, option: str) -> Path:
        """A path; whether there is something is seen when it is read."""
        return self._folder / Path(self.text(option)).expanduser()

    def secret(self, option: str) -> str:
        """The value of the environment variable that the option names; empty without the option.

        It is shown nowhere.
        """
        variable = self.text(option, "")
        value = self._environment.get(variable, "")
        if variable and not value:
            self.mistake(option, f"names the environment variable {variable:.80}, which is not set")
        return value

    def _value(self, option: str, default: Any) -> Any:
        self._asked.add(option)
        return self._options.get(option, _MISSING if default is None else default)
