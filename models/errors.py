"""Every error that is ours, in one hierarchy.

TwinstreamError
├── ConfigurationError        a person has to mend something: one line, exit code 1
│   └── UnusableModelError
├── ConnectorFailedError      a source or sink cannot go on: one line, exit code 1
├── ContentRefusedError       the store refuses one document: a dead letter
│   └── ModelRefusedError     the model refuses it: no fresh sync would store it either
├── PointsGoneError           what is stored has changed under a plan: plan again
├── SourceError               a source of content cannot be read now: the others go on
├── LostHistoryError          the change stream cannot go on from here: read everything again
├── StoreUnavailableError     nothing to read
├── StoreTooOldError          a server that lacks what is asked of it
├── PlaceGoneError            a model was removed from the store: nothing is to be written for it
└── OtherModelError           nothing to compare a query with
"""


class TwinstreamError(Exception):
    """Base of all errors of this project."""


class ConfigurationError(TwinstreamError):
    """A setting, or the state of a system that was set up by hand, that no retry can mend.

    Its text is one line that names what is wrong and how to mend it.
    """


class UnusableModelError(ConfigurationError):
    """A model that cannot be loaded, or not as it was asked for."""


class ConnectorFailedError(TwinstreamError):
    """A thread that a source or sink needs has ended, or stands still: the flow cannot go on.

    Its text is one line; a restart of the process goes on from what is stored.
    """


class ContentRefusedError(TwinstreamError):
    """The store refused what a document holds; it would be refused again."""


class ModelRefusedError(ContentRefusedError):
    """The model refused a text of a document, as it would in a fresh sync."""


class PointsGoneError(TwinstreamError):
    """Points that were to be updated are not there any more: somebody else deleted them."""


class SourceError(TwinstreamError):
    """A source of `sources.toml` cannot be read now; the others go on.

    :param reason: one line without secrets
    :param retry_s: the source asks not to be asked again sooner
    """

    def __init__(self, reason: str, retry_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_s = retry_s


class LostHistoryError(TwinstreamError):
    """A position from which the change stream cannot go on."""


class StoreUnavailableError(TwinstreamError):
    """There is nothing to read: no store at that place, or it cannot be copied."""


class StoreTooOldError(TwinstreamError):
    """The server is of a version that cannot do this."""


class PlaceGoneError(TwinstreamError):
    """The collections of a model that was removed from the store."""


class OtherModelError(TwinstreamError):
    """The stored chunks were embedded by another model than the query."""
