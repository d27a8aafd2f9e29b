"""The errors of pika, as a person is told them."""


def unwrapped(error: BaseException) -> BaseException:
    """The first error with a text: pika wraps why a connection did not open in some without."""
    while not str(error):
        within = (*error.args, *getattr(error, "exceptions", ()), getattr(error, "exception", None))
        causes = [cause for cause in within if isinstance(cause, BaseException)]
        if not causes:
            break
        error = causes[-1]
    return error
