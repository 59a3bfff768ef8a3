"""The published documents are current, valid, and say what the code does."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from celery import Celery
from hypothesis import given, settings

from api_contracts import (
    CeleryTask,
    ErrorCode,
    InvalidTask,
    Keys,
    Queue,
    Result,
    State,
    Status,
    TaskError,
    parse_event,
    parse_task,
)
from api_contracts.client.record import RESULT_FIELDS, STATUS_FIELDS
from api_contracts.client.submission import ring
from api_contracts.events import ENDINGS
from api_contracts.schema import examples
from api_contracts.schema.__main__ import FOLDER, files, write
from tests.parts.bad_tasks import BAD, Bad
from tests.parts.mutants import mutated
from tests.parts.need import need
from tests.parts.tasks import GOOD, Json

NODE_MODULES = Path(__file__).parents[1] / "node_modules"
CHECK = Path(__file__).with_name("asyncapi_check.mjs")
INSTALL = "is not installed; run: npm ci --prefix tests"
DOCUMENT: Json = json.loads(files()["asyncapi.json"])
SCHEMAS: dict[str, Json] = {
    name.partition(".")[0]: json.loads(text)
    for name, text in files().items()
    if name.endswith(".schema.json")
}
TASK = jsonschema_rs.validator_for(SCHEMAS["task"])


def component(name: str) -> jsonschema_rs.Draft7Validator:
    """Read one schema of the AsyncAPI document, in the dialect that AsyncAPI has."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft7Validator(schema, validate_formats=True)


# --- the files --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", files())
def test_a_document_is_current(name: str) -> None:
    """If this fails: python -m api_contracts.schema."""
    assert (FOLDER / name).read_text(encoding="utf-8") == files()[name]


def test_nothing_else_lies_beside_the_documents() -> None:
    assert {file.name for file in FOLDER.glob("*.json")} == set(files())


def test_the_documents_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    write(tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == files()


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_valid_and_says_what_it_is(name: str) -> None:
    schema = SCHEMAS[name]
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:router-worker:schema:{name}"
    assert list(schema)[2:4] == ["title", "description"]


# --- the examples -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_example_is_valid_by_its_schema(name: str) -> None:
    validator = jsonschema_rs.validator_for(SCHEMAS[name])
    assert SCHEMAS[name]["examples"]
    for example in SCHEMAS[name]["examples"]:
        validator.validate(example)


def test_every_example_is_what_our_own_code_reads() -> None:
    for task in examples.TASKS.values():
        assert parse_task(task).request_json()
    for event in examples.EVENTS.values():
        assert parse_event(json.dumps(event)).task_id == examples.TASK_ID
    Result.model_validate_json(json.dumps(examples.RESULT))
    Status.model_validate_json(json.dumps(examples.STATUS))
    for error in examples.ERRORS.values():
        TaskError.model_validate_json(json.dumps(error))


# --- schema and code agree --------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_the_schema_refuses_what_the_code_refuses(bad: Bad) -> None:
    """All but the rules that the schema's own description lists as beyond it."""
    assert TASK.is_valid(bad.task) is not bad.schema


@pytest.mark.parametrize("name", GOOD)
def test_the_schema_takes_what_the_code_takes(name: str) -> None:
    TASK.validate(GOOD[name])


@settings(max_examples=500)  # about one in nine is taken
@given(mutated())
def test_the_schema_never_refuses_a_task_that_the_code_takes(task: Json) -> None:
    try:
        parse_task(task).request_json()
    except InvalidTask:
        return
    TASK.validate(task)


def test_the_schema_shows_the_documented_parameters_and_lets_others_through() -> None:
    parameters = SCHEMAS["task"]["$defs"]["ChatParameters"]
    assert list(parameters["properties"]) == [
        "model", "messages", "max_tokens", "temperature", "top_p", "n", "stream", "stop",
        "presence_penalty", "frequency_penalty", "logit_bias", "user", "tool_choice", "tools",
    ]  # fmt: skip
    assert parameters["required"] == ["model", "messages"]
    assert parameters["additionalProperties"] is True
    temperature = parameters["properties"]["temperature"]["anyOf"][0]
    assert temperature == {"type": "number", "minimum": 0, "maximum": 2}


# --- the AsyncAPI document --------------------------------------------------------------------


def test_the_asyncapi_document_is_valid_by_the_official_parser() -> None:
    node = shutil.which("node")
    need(node, "node is not installed")
    need((NODE_MODULES / "@asyncapi" / "parser").exists(), f"@asyncapi/parser {INSTALL}")
    done = subprocess.run(
        [str(node), CHECK, FOLDER / "asyncapi.json"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    said = json.loads(done.stdout)
    # The parser advises 3.1.0, which few programs read yet.
    assert {one["code"] for one in said["complaints"]} <= {"asyncapi-latest-version"}
    assert said["found"]["version"] == "3.0.0"
    assert set(said["found"]["channels"]) == set(DOCUMENT["channels"])
    assert set(said["found"]["operations"]) == set(DOCUMENT["operations"])
    assert set(said["found"]["messages"]) == set(DOCUMENT["components"]["messages"])


def test_the_asyncapi_document_is_valid_by_the_specifications_schema() -> None:
    specification = NODE_MODULES / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
    need(specification.exists(), f"@asyncapi/specs {INSTALL}")
    jsonschema_rs.validator_for(json.loads(specification.read_text())).validate(DOCUMENT)


@pytest.mark.parametrize("name", DOCUMENT["components"]["messages"])
def test_every_example_of_a_message_is_valid_by_its_schema(name: str) -> None:
    """The official parser does not look at them."""
    message = DOCUMENT["components"]["messages"][name]
    assert message["examples"]
    payload = component(message["payload"]["$ref"].rpartition("/")[2])
    for example in message["examples"]:
        payload.validate(example["payload"])
        if "headers" in message:
            component("CeleryHeaders").validate(example["headers"])


def test_the_channels_are_the_names_that_the_code_uses() -> None:
    addresses = {name: one["address"] for name, one in DOCUMENT["channels"].items()}
    tag = "{taskId}"  # stands for the id in its braces
    keys = Keys()
    assert addresses == {
        "interactive": Queue.INTERACTIVE,
        "batch": Queue.BATCH,
        "cancel": keys.cancel,
        "live": keys.live("ID").replace("{ID}", tag),
        "log": keys.events("ID").replace("{ID}", tag),
        "record": keys.record("ID").replace("{ID}", tag),
    }
    for name in ("live", "log", "record"):
        assert DOCUMENT["channels"][name]["parameters"]["taskId"]["examples"] == [
            f"{{{examples.TASK_ID}}}"
        ]


def test_every_name_of_the_contract_stands_in_the_document() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    types = {
        schemas[ref["$ref"].rpartition("/")[2]]["properties"]["type"]["const"]
        for ref in schemas["Event"]["oneOf"]
    }
    assert types == set(DOCUMENT["channels"]["live"]["messages"]) == set(examples.EVENTS)
    assert types > ENDINGS
    assert schemas["ErrorCode"]["enum"] == list(ErrorCode)
    for code in ErrorCode:
        assert f"\n- `{code}`: " in schemas["ErrorCode"]["description"]
    assert (
        schemas["State"]["enum"] == schemas["Record"]["properties"]["state"]["enum"] == list(State)
    )
    assert schemas["CeleryHeaders"]["properties"]["task"]["enum"] == list(CeleryTask)
    tasks = DOCUMENT["components"]["messages"]["task"]["examples"]
    assert {one["headers"]["task"] for one in tasks} == set(CeleryTask)
    for file, title in (("task", "Task"), ("event", "Event"), ("result", "Result")):
        assert title in schemas
        assert SCHEMAS[file]["title"] == title


def test_the_record_has_the_fields_that_the_client_reads() -> None:
    properties = DOCUMENT["components"]["schemas"]["Record"]["properties"]
    assert set(properties) == {*STATUS_FIELDS, *RESULT_FIELDS}


# --- what is really sent ----------------------------------------------------------------------


@pytest.mark.parametrize("queue", Queue)
@pytest.mark.parametrize("kind", ["chat", "vision", "native"])
def test_the_clients_doorbell_is_as_the_document_says(kind: str, queue: Queue) -> None:
    command, name, text = ring(examples.TASK_ID, kind, queue, 1_800_000_000_000)
    assert (command, name) == ("LPUSH", queue)
    message = json.loads(str(text))
    component("KombuMessage").validate(message)
    component("DoorbellBody").validate(json.loads(base64.b64decode(message["body"])))


def test_the_documents_own_message_is_what_the_client_sends() -> None:
    message = json.loads(str(ring(examples.TASK_ID, "chat", Queue.BATCH, 1_800_000_000_000)[2]))
    shown: Json = examples.KOMBU_MESSAGE
    message["properties"]["delivery_tag"] = shown["properties"]["delivery_tag"]
    assert message == shown


@pytest.mark.parametrize("name", examples.TASKS)
def test_a_task_from_plain_celery_is_as_the_document_says(name: str) -> None:
    task: Any = examples.TASKS[name]
    app = Celery(broker="memory://", set_as_current=False)
    message = app.amqp.as_task_v2(task["id"], f"router.{task['kind']}", args=(task,))
    component("CeleryHeaders").validate(json.loads(json.dumps(message.headers)))
    component("TaskBody").validate(json.loads(json.dumps(message.body)))
