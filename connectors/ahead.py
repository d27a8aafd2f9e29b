"""Make the next thing while the last one is used."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

T = TypeVar("T")


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
