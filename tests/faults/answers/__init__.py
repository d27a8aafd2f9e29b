"""The errors that each server, or its driver, can answer a call with."""

from tests.faults.answers import amqp, mongodb, qdrant

ANSWERS = {"pymongo": mongodb.answer, "qdrant": qdrant.answer, "pika": amqp.answer}


def faults_of(driver: str, method: str) -> list[str]:
    """The kinds of fault that a method of a driver can meet; ` after`: it took effect first."""
    class_, _, name = method.partition(".")
    of = {"pymongo": mongodb.faults_of, "qdrant": qdrant.faults_of, "pika": amqp.faults_of}
    return of[driver](class_, name)
