"""schemathesis over the whole OpenAPI document: no fault of the server, no status that is not declared."""

from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from serving.app import create_app
from serving.settings import Settings
from tests.factories import write_tiny_bundle
from tests.serving.app_client import AppClient

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance)
EXAMPLES = 20  # of each operation


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("fuzzed")
    bundle = write_tiny_bundle(folder / "v1")
    app = create_app(Settings(auth="off", bundle=bundle, store=folder / "s.sqlite", log="off"))
    with AppClient(app) as client:
        event = {"user": "u", "item_id": "i0", "event_type": "click"}
        assert client.post("/v1/events", json=event).status_code == 202
        yield schemathesis.openapi.from_asgi("/openapi.json", app)


def test_every_operation_keeps_to_the_document(document):
    names = []
    for found in document.get_all_operations():
        operation = found.ok()
        names.append(operation.label)

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate),
            database=None,
        )
        @given(case=operation.as_strategy())
        def keeps_to_it(case) -> None:
            case.validate_response(case.call(), checks=CHECKS)

        keeps_to_it()
    assert len(names) >= 30, names
