"""Sabotages of names, of secrets, and of what reaches a terminal."""

from tests.mutants.mutant import Mutant

EVENTS = "models/events.py"
SETTINGS = "flows/settings.py"

_TERMINAL = "no document writes to a terminal"

IDENTITY = [
    Mutant(
        "ids-by-concatenation",
        "a repetition leaves no duplicate",
        "models/identity.py",
        "    return str(uuid5(_NAMESPACE, json.dumps(parts)))\n",
        '    return str(uuid5(_NAMESPACE, "/".join(map(str, parts))))\n',
        "tests/unit/test_events.py tests/chaos/test_bad_input.py",
    ),
    Mutant(
        "partitions-by-type-only",
        "changes of a document stay in order",
        "models/identity.py",
        'f"{type_}/{entry_id}".encode("utf-8", "surrogatepass")',
        'f"{type_}".encode("utf-8", "surrogatepass")',
        "tests/unit/test_events.py",
    ),
    Mutant(
        "a-document-speaks-for-another",
        "a document is what MongoDB says it is",
        EVENTS,
        '            body["entry_id"] = entry_id\n',
        '            body.setdefault("entry_id", entry_id)\n',
        "tests/unit/test_events.py tests/chaos/test_bad_input.py",
    ),
    Mutant(
        "the-uri-in-a-repr",
        "no secret in a log",
        SETTINGS,
        "    mongo_uri: str = field(repr=False)\n",
        "    mongo_uri: str\n",
        "tests/unit/test_settings.py",
    ),
    Mutant(
        "the-api-key-in-a-repr",
        "no secret in a log",
        "connectors/qdrant/client.py",
        '    api_key: str = field(default="", repr=False)\n',
        '    api_key: str = ""\n',
        "tests/unit/test_settings.py",
    ),
    Mutant(
        "the-password-in-an-error",
        "no secret in a log",
        SETTINGS,
        '            detail = str(error) if "@" not in value else type(error).__name__\n',
        "            detail = str(error)\n",
        "tests/unit/test_settings.py",
    ),
    Mutant(
        "a-document-changes-its-collection",
        "a document is what MongoDB says it is",
        EVENTS,
        '        body["type"] = change.collection\n',
        '        body.setdefault("type", change.collection)\n',
        "tests/unit/test_events.py tests/chaos/test_bad_input.py",
    ),
    Mutant(
        "a-store-of-another-pipeline-is-written-to",
        "pipelines do not touch each other",
        "connectors/qdrant/owner.py",
        "    if marks != [owner.as_name()]:\n",
        "    if not marks:\n",
        "tests/unit/test_deployments.py",
    ),
    Mutant(
        "what-is-shown-may-hold-orders-to-the-terminal",
        _TERMINAL,
        "models/shown.py",
        "    line = _UNSAFE.sub(_as_written, text[: limit + 1])\n",
        "    line = text[: limit + 1]\n",
        "tests/unit/test_shown.py",
    ),
    Mutant(
        "log-lines-may-hold-orders-to-the-terminal",
        _TERMINAL,
        "flows/logs.py",
        "        return shown(super().formatMessage(record))\n",
        "        return super().formatMessage(record)\n",
        "tests/unit/test_shown.py",
    ),
    Mutant(
        "a-flow-claims-no-store",
        "pipelines do not touch each other",
        "flows/model_and_store.py",
        "        store.claim(settings.owner)\n",
        "",
        "tests/unit/test_deployments.py",
    ),
]
