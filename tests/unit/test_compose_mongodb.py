"""The first start of the replica set of docker-compose.yml, interrupted anywhere.

ops/mongodb/initiate.js runs here in node, with a member of a set in place of mongosh's `connect`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]

MEMBER = """
const state = JSON.parse(process.env.STATE);
let steps = state.steps, now = 0;
const fail = (code) => { throw Object.assign(new Error(`error ${code}`), {code}); };
const end = (status) => {
  console.log(JSON.stringify({...state, status})); process.exit(0);
};
const changed = () => { if (--steps === 0) end("killed"); };
const commands = {
  replSetGetStatus() {
    if (!state.initiated) fail(94);
    const primary = ++state.asked > 2 ? 1 : 2;
    return {members: [primary, 2, 8].map((state, i) => ({name: `mongo${i + 1}`, state}))};
  },
  replSetInitiate(config) { state.initiated = config.members.length; state.asked = 0; changed(); },
  createUser(name, {pwd, roles}) {
    if (state.asked < 3) fail(10107);
    if (roles[0] === "root") state.users[name] = pwd;
    changed();
  },
};
Object.assign(globalThis, {
  print: (line) => { state.said = line; }, quit: end, sleep: (ms) => { now += ms; },
  connect(uri) {
    const [, name, password] = /^mongodb:\\/\\/(?:(\\w+):(\\w+)@)?127.0.0.1:30001\\//.exec(uri);
    if (name && state.users[name] !== password) fail(18);
    return {adminCommand(document) {
      const [[command, value]] = Object.entries(document);
      // the localhost exception: an unknown client may do this much until there is a user
      if (!name && Object.keys(state.users).length) fail(13);
      return commands[command](value, document);
    }};
  },
});
Date.now = () => now;
require("vm").runInThisContext(require("fs").readFileSync(process.env.SCRIPT, "utf8"));
"""


def initiate(
    initiated: int = 0, users: dict[str, str] | None = None, steps: int = 0
) -> dict[str, Any]:
    """The member after a run that was killed when it had made so many changes; 0: not killed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    state = {"initiated": initiated, "users": users or {}, "steps": steps, "asked": 0, "said": ""}
    environment = os.environ | {
        "STATE": json.dumps(state),
        "SCRIPT": str(ROOT / "ops/mongodb/initiate.js"),
        "ROOT_USERNAME": "root",
        "ROOT_PASSWORD": "secret",
    }
    done = subprocess.run(
        [node, "-e", MEMBER], env=environment, capture_output=True, text=True, check=True
    )
    after: dict[str, Any] = json.loads(done.stdout)
    return after


def test_a_new_set_is_initiated_and_gets_its_root_user() -> None:
    after = initiate()
    assert after["status"] == 0
    assert after["initiated"] == 3
    assert after["users"] == {"root": "secret"}


@pytest.mark.parametrize("steps", [1, 2])
def test_a_first_start_that_was_interrupted_goes_on_at_the_next(steps: int) -> None:
    killed = initiate(steps=steps)
    assert killed["status"] == "killed"
    after = initiate(killed["initiated"], killed["users"])
    assert after["status"] == 0
    assert (after["initiated"], after["users"]) == (3, {"root": "secret"})


@pytest.mark.parametrize(
    ("initiated", "users"), [(0, {"root": "secret"}), (3, {"root": "secret"}), (3, {})]
)
def test_a_volume_of_an_earlier_version_is_taken_as_it_is(
    initiated: int, users: dict[str, str]
) -> None:
    """There the image made the user, before the set was initiated, or was killed while doing so."""
    after = initiate(initiated, users)
    assert after["status"] == 0
    assert (after["initiated"], after["users"]) == (3, {"root": "secret"})


def test_other_credentials_than_those_of_the_volume_are_one_line_at_once() -> None:
    after = initiate(3, {"root": "another"})
    assert after["status"] == 1
    assert "STACK_MONGO_PASSWORD" in after["said"]
    assert "\n" not in after["said"]
    assert after["users"] == {"root": "another"}


def test_no_volume_is_left_on_which_nobody_can_log_in() -> None:
    """The image makes the user on a volume without files only: an interruption is final."""
    for service in SERVICES.values():
        assert not [name for name in service.get("environment", {}) if "INITDB" in name]
    # what makes it instead needs the loopback of the first member
    assert SERVICES["mongo-init"]["network_mode"] == "service:mongo1"
