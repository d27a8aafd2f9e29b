"""Which models the store is kept for, and where the points of each are: its places.

A place is a whole set of collections, with records, chunks and tombstones of its own, since another
model cuts documents otherwise. A store that was never migrated has one, whose collections have the
plain names. A migration opens a second one; every change goes to both until one of them is removed.

    begun → creating → filling → ready ⇄ (switched, rolled back)
                                       ↘ removing → gone

The statement of it is one point in the store. Each transition replaces it in one step, so a kill
leaves the state before or the one after, and the same command goes on from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from models.errors import ConfigurationError

State = Literal["creating", "filling", "ready", "removing"]

FIRST: Final = ""
"""Id of the place with the plain names."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the points of one model are."""

    id: str
    """Put after the name of each collection, as in `vector_posts-2`; empty for the first place."""
    model: str
    """Name of the model, without its precision."""
    setting: str
    """The EMBEDDING_MODEL that names it."""
    state: State = "ready"

    @property
    def is_written(self) -> bool:
        """Whether every change goes there."""
        return self.state in ("filling", "ready")


@dataclass(frozen=True, slots=True)
class Places:
    """All places of a store, at most two.

    :raises ConfigurationError: by each transition that this state does not allow
    """

    active: str
    """Id of the place that is searched."""
    serial: int
    """Number of the newest place that there was; none is used again."""
    places: tuple[Place, ...]

    @classmethod
    def only(cls, model: str, setting: str) -> "Places":
        """Those of a store that was never migrated."""
        return cls(FIRST, 1, (Place(FIRST, model, setting),))

    @classmethod
    def read(cls, payload: Mapping[str, Any]) -> "Places":
        """From the payload of the statement.

        :raises ConfigurationError: it was not written by this, or by a later release
        """
        try:
            some = tuple(Place(**fields) for fields in payload["places"])
            places = cls(payload["active"], payload["serial"], some)
            if places.searched.is_written and all(p.state in get_args(State) for p in some):
                return places
        except (LookupError, TypeError, ValueError):
            pass
        raise ConfigurationError(
            "the collection `models` of Qdrant does not say which model is searched, as this "
            "release writes it: run the newest release that has written to this store"
        )

    def fields(self) -> dict[str, Any]:
        """As the payload of the statement."""
        places = [
            {"id": one.id, "model": one.model, "setting": one.setting, "state": one.state}
            for one in self.places
        ]
        return {"active": self.active, "serial": self.serial, "places": places}

    @property
    def searched(self) -> Place:
        """The place that is searched."""
        return self.at(self.active)

    @property
    def written(self) -> tuple[Place, ...]:
        """The places that every change goes to, the searched one first."""
        first = sorted(self.places, key=lambda place: place.id != self.active)
        return tuple(place for place in first if place.is_written)

    @property
    def other(self) -> Place | None:
        """The place beside the searched one."""
        return next((place for place in self.places if place.id != self.active), None)

    def at(self, id_: str) -> Place:
        """The place of this id.

        :raises LookupError: there is none
        """
        for place in self.places:
            if place.id == id_:
                return place
        raise LookupError(id_)

    def has(self, id_: str) -> bool:
        """Whether a place is written."""
        return any(place.id == id_ and place.is_written for place in self.places)

    def lacks(self, id_: str) -> bool:
        """Whether a place was removed, or is being removed: its collections may be missing."""
        return all(place.id != id_ or place.state == "removing" for place in self.places)

    def begun(self, model: str, setting: str) -> "Places":
        """A place for the next model; the same, if it was begun already."""
        other = self.other
        if other is None:
            if model == self.searched.model:
                raise ConfigurationError(f"{model} is the model that is searched already")
            serial = self.serial + 1
            place = Place(str(serial), model, setting, "creating")
            return replace(self, serial=serial, places=(*self.places, place))
        if other.state == "removing":
            raise ConfigurationError(f"{other.model} is being removed: call remove again first")
        if other.model != model:
            raise ConfigurationError(
                f"the store already has {self.searched.model}, which is searched, and "
                f"{other.model} beside it: remove that first"
            )
        return self._with(replace(other, setting=setting))

    def created(self, id_: str) -> "Places":
        """Its collections exist: every change goes there from now on."""
        return self._advanced(id_, "creating", "filling")

    def filled(self, id_: str) -> "Places":
        """It holds everything."""
        return self._advanced(id_, "filling", "ready")

    def searching(self, newest: bool) -> "Places":
        """Search the newest place, or the older one."""
        by_age = sorted(self.places, key=lambda place: int(place.id or 1))
        place = by_age[-1 if newest else 0]
        if place.id == self.active:
            if len(by_age) == 1:
                raise ConfigurationError(
                    f"{place.model} is the only model of the store: there is no migration"
                )
            return self
        if place.state != "ready":
            raise ConfigurationError(
                f"{place.model} is {place.state}: it cannot be searched"
                + (", let start end first" if place.state in ("creating", "filling") else "")
            )
        return replace(self, active=place.id)

    def removing(self) -> "Places":
        """Write to the place that is not searched no more."""
        other = self.other
        return self if other is None else self._with(replace(other, state="removing"))

    def removed(self, id_: str) -> "Places":
        """Its collections are gone."""
        if id_ == self.active:
            raise ConfigurationError(f"{self.searched.model} is searched: it cannot be removed")
        return replace(self, places=tuple(one for one in self.places if one.id != id_))

    def _advanced(self, id_: str, before: State, after: State) -> "Places":
        place = next((one for one in self.places if one.id == id_), None)
        if place is None or place.state == "removing":
            raise ConfigurationError("the migration was removed meanwhile")
        return self._with(replace(place, state=after)) if place.state == before else self

    def _with(self, place: Place) -> "Places":
        places = tuple(place if one.id == place.id else one for one in self.places)
        return replace(self, places=places)
