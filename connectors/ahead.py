"""Make the next thing while the last one is used."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import TypeVar, cast

T = TypeVar("T")


def meanwhile(ask: Callable[[], T]) -> Callable[[], T]:
    """Ask for something while something else is done.

    By a thread that no end of the process waits for: what is asked may be away for long.

    :returns: waits for the answer; it raises what `ask` has raised
    """
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 (it is raised where the answer is wanted)
            answer.set_exception(error)

    Thread(target=work, name="meanwhile", daemon=True).start()
    return answer.result


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The items of an iterator, each made by a thread while the one before is used.

    :raises Exception: what the iterator raises, where its item would come
    """
    end = object()
    with ThreadPoolExecutor(1, "ahead") as thread:
        made = thread.submit(next, items, end)
        while (item := made.result()) is not end:
            made = thread.submit(next, items, end)
            yield cast(T, item)
