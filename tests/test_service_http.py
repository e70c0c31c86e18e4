"""What the service lets in, refuses and answers, over real sockets."""

import http.client
import json
import struct
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from backend.models_table import MODELS
from backend.service.files import FILES
from backend.service.guard import MOST_JSON_BYTES, is_our_name
from tests.service_server import CUBE, QUICK, Service, scene

SOME_ID = "20260101-000000-abcdef"
ROUTES = [
    *[
        ("GET", f"/v1/{name}")
        for name in ("presets", "models", "vocabulary", "jobs", f"jobs/{SOME_ID}", "openapi.json", "clients")
    ],
    *[("GET", f"/v1/jobs/{SOME_ID}/{name}") for name in ("events", *FILES)],
    *[("POST", f"/v1/jobs/{SOME_ID}/{name}") for name in ("cancel", "resume")],
    *[("POST", f"/v1/{name}") for name in ("parse", "jobs", "unload", "shutdown", "clients")],
    ("DELETE", f"/v1/jobs/{SOME_ID}"),
    ("DELETE", "/v1/clients/1"),
]


def fault(answer: requests.Response, status: int) -> dict[str, str]:
    """The error in the answer, whose shape is checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    (error,) = answer.json().values()
    assert set(error) == {"what", "where", "remedy"}
    assert all(isinstance(text, str) for text in error.values())
    assert error["what"] and error["remedy"]
    return error


def raw(service: Service, method: str, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """The answer to exactly these headers and this path."""
    address = urlsplit(service.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


def test_health_needs_no_token_and_says_whether_a_sent_one_is_right(service) -> None:
    url = service.url + "/v1/health"
    assert set(requests.get(url).json()) == {"version", "api", "state", "device"}
    assert requests.get(url, headers=service.headers).json()["token_ok"] is True
    assert requests.get(url, headers={"Authorization": "Bearer wrong"}).json()["token_ok"] is False


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_other_route_refuses_who_has_no_token(service, method, path) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {service.token}"}):
        answer = requests.request(method, service.url + path, headers=headers, json={"prompt": "a cube"})
        assert fault(answer, 401)["where"] == "Authorization"
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_token_is_the_users_alone(service) -> None:
    assert (service.data / "token").stat().st_mode & 0o777 == 0o600
    assert len(service.token) >= 40


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "", "[::2]", "localhosts"]
)
def test_foreign_hosts_are_refused_even_with_the_token(service, host) -> None:
    for path in ("/v1/health", "/v1/jobs", "/nowhere"):
        answer = raw(service, "GET", path, {"Host": host, **service.headers})
        assert answer.status == 421
        assert json.load(answer)["error"]["where"] == "Host"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:99", "[::1]:1234", "LOCALHOST"])
def test_loopback_hosts_are_let_in(service, host) -> None:
    assert raw(service, "GET", "/v1/health", {"Host": host}).status == 200


def test_the_configured_name_is_let_in_and_any_address_where_others_are_listened_to() -> None:
    assert is_our_name("Workstation:8188", "workstation")
    assert not is_our_name("elsewhere", "workstation")
    for configured in ("0.0.0.0", "workstation", "192.168.1.7"):
        assert is_our_name("192.168.1.7:8188", configured)
    for configured in ("127.0.0.1", "localhost", "::1"):
        assert not is_our_name("192.168.1.7:8188", configured)
    assert not is_our_name("evil.example", "0.0.0.0")


def test_other_origins_get_no_permission(service) -> None:
    headers = service.headers | {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    for method in ("GET", "OPTIONS", "POST"):
        answer = requests.request(method, service.url + "/v1/jobs", headers=headers)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert requests.options(service.url + "/v1/jobs", headers=headers).status_code == 405


def test_too_large_bodies_are_refused_however_they_are_sent(service) -> None:
    large = b" " * (MOST_JSON_BYTES + 1)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(large), 1 << 16):
            yield large[start : start + (1 << 16)]

    for path in ("/v1/jobs", "/v1/parse", f"/v1/jobs/{SOME_ID}/resume"):
        for body in (large, pieces()):  # with a Content-Length, and in chunks without
            answer = service.ask("POST", path, data=body, headers={"Content-Type": "application/json"})
            assert fault(answer, 413)["where"] == "body"
    assert service.ask("GET", "/v1/health").ok


def test_a_form_that_says_it_is_too_large_is_refused_before_it_is_sent(service) -> None:
    headers = {"Host": "localhost", "Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(257 << 20)}
    assert raw(service, "POST", "/v1/jobs", headers | service.headers).status == 413


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "..%2f..%2ftoken", "%2e%2e%2f%2e%2e%2ftoken", "token", "x" * 3000, "%00", SOME_ID]
)
def test_ids_are_never_paths(service, name) -> None:
    for rest in ("", "/log", "/result.glb", "/events"):
        answer = raw(service, "GET", f"/v1/jobs/{name}{rest}", {"Host": "localhost", **service.headers})
        assert answer.status == 404
        assert json.load(answer)["error"]["remedy"]
    answer = raw(service, "DELETE", f"/v1/jobs/{name}", {"Host": "localhost", **service.headers})
    assert answer.status in (404, 405)
    assert (service.data / "token").is_file()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/jobs", 404),
        ("GET", "/docs", 404),
        ("PUT", "/v1/jobs", 405),
        ("GET", "/v1/parse", 405),
    ],
)
def test_unknown_routes_and_methods_are_told_in_the_one_shape(service, method, path, status) -> None:
    fault(service.ask(method, path), status)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"\xff\xfe", "body"),
        (b"[" * 100_000, "body"),
        (b"[]", "request"),
        (b"{}", "prompt"),
        (b'{"prompt": "a cube", "colour": 1}', "colour"),
        (b'{"prompt": "a cube", "slots": [{"name": "a", "prompt": "a cube", "kind": "context"}]}', "slots"),
        (b'{"prompt": "a cube", "preset": "fast"}', "preset"),
        (b'{"prompt": "a cube", "settings": {"steps": 0}}', "settings.steps"),
        (b'{"prompt": "a cube", "settings": {"step": 1}}', "settings.step"),
        (b'{"slots": [{"name": "a", "prompt": ""}]}', "slots[0].prompt"),
        (b'{"slots": [{"name": "a", "prompt": "b", "size": [0, 1, 1]}]}', "slots[0].size"),
        (b'{"slots": [{"name": "a", "prompt": "b", "kind": "start"}]}', "slots[0].kind"),
        (b'{"slots": [{"name": "a", "prompt": "b"}, {"name": "a", "prompt": "b"}]}', "slots[1].name"),
    ],
)
def test_a_faulty_request_is_refused_before_it_is_accepted(service, body, where) -> None:
    answer = service.ask("POST", "/v1/jobs", data=body, headers={"Content-Type": "application/json"})
    assert fault(answer, 400)["where"] == where
    assert service.ask("GET", "/v1/jobs").json() == {"jobs": [], "next": None}


def test_relations_that_contradict_each_other_are_refused(service) -> None:
    ball = {"name": "ball", "prompt": "a ball"}
    relations = [
        {"subject": "cube", "relation": "under", "object": "ball"},
        {"subject": "ball", "relation": "under", "object": "cube"},
    ]
    answer = service.ask("POST", "/v1/jobs", json={"slots": [CUBE, ball], "relations": relations})
    assert "contradict" in fault(answer, 400)["what"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "limit=many", "before=..", "before=' OR 1=1", "limit=999999999999999999999", "sort=old"],
)
def test_faulty_parameters_are_named(service, query) -> None:
    assert fault(service.ask("GET", f"/v1/jobs?{query}"), 400)["where"] in ("limit", "before", "sort")


def test_a_page_after_a_job_that_is_not_there_is_no_page(service) -> None:
    fault(service.ask("GET", f"/v1/jobs?before={SOME_ID}"), 404)


def glb(*names: str) -> bytes:
    """A binary glTF with empty nodes of those names."""
    text = json.dumps({"asset": {"version": "2.0"}, "nodes": [{"name": name} for name in names]}).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<IIIII", 0x46546C67, 2, 20 + len(text), len(text), 0x4E4F534A) + text


@pytest.mark.parametrize(
    ("meshes", "where"),
    [
        (b"", "meshes"),
        (b"solid cube", "meshes"),
        (glb("cube")[:-4], "meshes"),
        (glb("cube") + b"more", "meshes"),
        (glb("ball"), "slots[0].kind"),
    ],
)
def test_meshes_that_are_none_or_of_somebody_else_are_refused(service, meshes, where) -> None:
    request = scene(QUICK, slots=[CUBE | {"kind": "start"}])
    parts = {"request": (None, json.dumps(request), "application/json"), "meshes": ("meshes.glb", meshes)}
    assert fault(service.ask("POST", "/v1/jobs", files=parts), 400)["where"] == where
    assert list((service.data / "inbox").iterdir()) == []


@pytest.mark.parametrize(
    "parts",
    [
        {"meshes": ("meshes.glb", glb("cube"))},
        {"request": (None, "{"), "meshes": ("meshes.glb", glb("cube"))},
        {"request": (None, json.dumps(scene(QUICK))), "token": (None, "x")},
        [("request", (None, json.dumps(scene(QUICK)))), ("request", (None, json.dumps(scene(QUICK))))],
        {"request": (None, json.dumps(scene(QUICK))), "meshes": (None, "no file")},
    ],
)
def test_faulty_forms_are_refused(service, parts) -> None:
    fault(service.ask("POST", "/v1/jobs", files=parts), 400)
    assert service.ask("GET", "/v1/jobs").json()["jobs"] == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_other_types_of_body_are_refused(service, kind) -> None:
    fault(service.ask("POST", "/v1/jobs", data=b"a", headers={"Content-Type": kind}), 400)


def test_presets_and_models_are_listed_whole(service) -> None:
    presets = service.ask("GET", "/v1/presets", 200).json()["presets"]
    assert "starter" in [preset["name"] for preset in presets]
    assert all(preset["description"] and preset["settings"]["steps"] for preset in presets)
    models = service.ask("GET", "/v1/models", 200).json()["models"]
    bundled = [model for model in models if model["name"] == "starter"]
    assert sorted(model["kind"] for model in bundled) == ["prior", "vlm"]
    assert all(model["present"] and 1 < model["size_mb"] < 60 for model in bundled)
    big = [model for model in models if model["name"] != "starter"]
    assert big and all(model["licence"] == MODELS[model["name"]].licence for model in big)


def test_meshes_without_a_request_leave_nothing_behind(service) -> None:
    assert not list((service.data / "jobs").iterdir())
