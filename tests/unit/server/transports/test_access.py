"""Which requests are served: by the name of the server, the page they come from, and the token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.server.transports.access import Access, grant, new_token, read_token

TOKEN = "a token of nobody else".replace(" ", "-")
HERE = "10.0.0.7"


def status(access: Access, *, reached: str = HERE, open_to_all: bool = False, **headers: str) -> int:
    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    refusal = access.refusal(sent, reached, open_to_all=open_to_all)
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8000", "localhost:8000", "LOCALHOST", "localhost.", "[::1]:8000", "[0:0::1]"],
)
def test_a_server_is_reached_by_the_names_of_loopback(host: str):
    assert status(grant("127.0.0.1", (), ""), reached="127.0.0.1", host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "evil.example#localhost",
        "localhost@evil.example",
        "localhost:8000:8000",
        "127.0.0.1.evil.example",
        "[localhost]",
        "10.0.0.8",
        "",
        " localhost",
    ],
)
def test_any_other_name_is_refused(host: str):
    assert status(grant("127.0.0.1", (), ""), reached="127.0.0.1", host=host) == 421


def test_a_server_at_all_addresses_is_reached_by_each_of_them():
    access = grant("0.0.0.0", (), TOKEN)
    assert status(access, host=HERE, authorization=f"Bearer {TOKEN}") == 200
    assert status(access, host="10.0.0.8", authorization=f"Bearer {TOKEN}") == 421


def test_further_names_come_from_the_setting_and_the_command_line():
    access = grant("Box.lan", ("jobs.example.org", "2001:DB8::1"), "")
    for host in ("box.lan:8000", "jobs.example.org", "JOBS.example.org:443", "[2001:db8:0::1]:8000"):
        assert status(access, host=host) == 200


def test_no_host_and_two_hosts_are_refused():
    access = grant("127.0.0.1", (), "")
    assert status(access) == 421
    twice = [(b"host", b"localhost"), (b"host", b"localhost")]
    refusal = access.refusal(twice, None)
    assert refusal is not None
    assert refusal.status == 421


@pytest.mark.parametrize("origin", ["http://localhost:6274", "https://127.0.0.1", "http://[::1]:80"])
def test_a_page_of_this_server_may_ask(origin: str):
    assert status(grant("127.0.0.1", (), ""), host="localhost", origin=origin) == 200


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.example",
        "http://localhost.evil.example",
        "ftp://localhost",
        "localhost",
        "http://localhost/evil",
        "http://localhost http://evil.example",
    ],
)
def test_a_page_of_another_server_may_not_even_with_the_token(origin: str):
    access = grant("127.0.0.1", (), TOKEN)
    assert status(access, host="localhost", origin=origin, authorization=f"Bearer {TOKEN}") == 403


@pytest.mark.parametrize("shown", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN}"])
def test_a_request_with_the_token_is_served(shown: str):
    assert status(grant("127.0.0.1", (), TOKEN), host="localhost", authorization=shown) == 200


@pytest.mark.parametrize(
    "shown", ["", TOKEN, "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}"]
)
def test_a_request_without_the_token_is_refused(shown: str):
    access = grant("127.0.0.1", (), TOKEN)
    assert status(access, host="localhost", authorization=shown) == 401
    assert status(access, host="localhost") == 401
    assert status(access, host="localhost", authorization="Bearer tökèn") == 401


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, "an access token is needed: Authorization: Bearer <token>"),
        ({"authorization": f"Basic {TOKEN}"}, "an access token is needed: Authorization: Bearer <token>"),
        ({"authorization": f"Bearer {TOKEN}x"}, "the access token is not that of this server"),
        ({"host": "a.example"}, "Host is 'a.example'; this server has no such name; {} adds names"),
        ({"origin": "http://b"}, "Origin is 'http://b', a page of another server; {} adds names"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_would_be_right(headers: dict[str, str], told: str):
    sent = [(name.encode(), value.encode()) for name, value in ({"host": "localhost"} | headers).items()]
    refusal = grant("127.0.0.1", (), TOKEN).refusal(sent, None)
    assert refusal is not None
    assert refusal.text == told.format("PYTHON_MCP_HTTP_ALLOWED_HOSTS")


def test_two_tokens_are_as_bad_as_none():
    shown = (b"authorization", f"Bearer {TOKEN}".encode())
    refusal = grant("127.0.0.1", (), TOKEN).refusal([(b"host", b"localhost"), shown, shown], None)
    assert refusal is not None
    assert refusal.status == 401


def test_what_is_open_to_all_needs_no_token_but_the_right_name():
    access = grant("127.0.0.1", (), TOKEN)
    assert status(access, open_to_all=True, host="localhost") == 200
    assert status(access, open_to_all=True, host="evil.example") == 421


def test_a_token_is_a_principal_that_does_not_show_it():
    one, other = (grant("127.0.0.1", (), token).old_principal for token in (TOKEN, new_token()))
    assert one is not None
    assert one.startswith("http-token:")
    assert TOKEN not in repr(grant("127.0.0.1", (), TOKEN))
    assert one != other
    assert grant("127.0.0.1", (), "").old_principal is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_token_in_a_file_may_have_a_mark(tmp_path: Path, encoding: str):
    (tmp_path / "token").write_bytes(f"{TOKEN}\r\n".encode(encoding))
    assert read_token(str(tmp_path / "token")) == TOKEN


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has named pipes")
@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (b"x" * 5000, "larger than 4 KiB"),
        (TOKEN.encode(), "nothing closes the pipe in time"),
        (None, "in time"),
    ],
)
def test_a_pipe_that_brings_no_token_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bytes | None, problem: str
):
    monkeypatch.setattr("python_mcp_server.server.transports.access._TOKEN_WAIT_S", 0.01)
    os.mkfifo(path := tmp_path / "token")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = None if written is None else os.open(path, os.O_WRONLY)
    try:
        if writer is not None and written is not None:
            os.write(writer, written)
        with pytest.raises(InvalidInput, match=problem):
            read_token(str(path))
    finally:
        for descriptor in (reader, writer):
            if descriptor is not None:
                os.close(descriptor)


def test_new_tokens_have_256_bits_and_no_two_are_alike():
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 43  # of 64 signs each


@pytest.mark.parametrize(
    "token", ["short", "x" * 15, "with some spaces in it", "with\nlines-in-between", "ü" * 20]
)
def test_an_invalid_token_is_refused_without_being_shown(token: str):
    with pytest.raises(InvalidInput, match="PYTHON_MCP_HTTP_TOKEN cannot be a token") as caught:
        grant("127.0.0.1", (), token)
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["https://x.example", "x.example:443", "*.example", "*", "a b", "x/y", "[::1]:80"]
)
def test_an_invalid_host_name_is_refused(name: str):
    with pytest.raises(InvalidInput, match="PYTHON_MCP_HTTP_ALLOWED_HOSTS names"):
        grant("127.0.0.1", ("fine.example", name), "")
