"""What `serve` accepts, from where, and what it refuses before it listens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import config
from agent.config import OPTIONS, ServeConfig, default_store, is_loopback, parse_listen, parse_serve
from agent.errors import EXIT_USAGE, UsageError
from agent.store.layout import StoreLayout

HOME = {"HOME": "/home/ant"}


def test_defaults_are_loopback_and_a_token_in_the_store() -> None:
    found = parse_serve([], HOME)
    assert (found.host, found.port, found.listen) == ("127.0.0.1", 4499, "127.0.0.1:4499")
    assert found.store == default_store(HOME)
    assert found.token_file == StoreLayout(found.store).token
    assert not found.no_auth and not found.allow_plaintext


@pytest.mark.parametrize(
    ("environ", "uid", "store"),
    [
        ({}, 0, "/var/lib/ant-host-agent"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/home/ant"}, 0, "/var/lib/ant-host-agent"),
        ({"XDG_STATE_HOME": "/x/", "HOME": "/home/ant"}, 1000, "/x/ant-host-agent"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/ant"}, 1000, "/home/ant/.local/state/ant-host-agent"),
        ({"HOME": "/home/ant"}, 1000, "/home/ant/.local/state/ant-host-agent"),
    ],
)
def test_default_store(environ: dict[str, str], uid: int, store: str) -> None:
    assert default_store(environ, uid) == store


@pytest.mark.parametrize("argv", [["--store", "/s", "--listen", "[::1]:1"], ["--store=/s", "--listen=[::1]:1"]])
def test_flags_in_both_spellings(argv: list[str]) -> None:
    found = parse_serve(argv, HOME)
    assert (found.store, found.token_file) == ("/s", "/s/token")
    assert (found.host, found.port, found.listen) == ("::1", 1, "[::1]:1")


def test_a_flag_wins_over_its_variable() -> None:
    environ = {**HOME, "ANT_HOST_AGENT_LISTEN": "127.0.0.1:1", "ANT_HOST_AGENT_STORE": "/env"}
    found = parse_serve(["--listen", "127.0.0.1:2"], environ)
    assert (found.port, found.store) == (2, "/env")


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = parse_serve(["--store", "here", "--token-file", "key"], HOME)
    assert (found.store, found.token_file) == (f"{tmp_path}/here", f"{tmp_path}/key")


@pytest.mark.parametrize(("value", "on"), [("1", True), ("true", True), ("ON", True), ("0", False), ("no", False)])
def test_switches_by_variable(value: str, on: bool) -> None:
    assert parse_serve([], {**HOME, "ANT_HOST_AGENT_NO_AUTH": value}).no_auth is on


@pytest.mark.parametrize(
    ("argv", "environ", "named"),
    [
        (["--listen", "4499"], {}, "--listen"),
        (["--listen"], {}, "--listen"),
        (["--listen", "--no-auth"], {}, "--listen"),
        (["--store="], {}, "--store"),
        (["--stroe", "/s"], {}, "--stroe"),
        (["--no_auth"], {}, "--no_auth"),
        (["--no-auth=1"], {}, "--no-auth"),
        (["-l"], {}, "-l"),
        (["--log-budget", "0"], {}, "--log-budget"),
        (["--log-budget", "10 G"], {}, "--log-budget"),
        ([], {"ANT_HOST_AGENT_LOG_BUDGET": "much"}, "ANT_HOST_AGENT_LOG_BUDGET"),
        (["--no-auth", "--token-file", "/t"], {}, "--token-file"),
        ([], {"ANT_HOST_AGENT_LISTEN": ""}, "ANT_HOST_AGENT_LISTEN"),
        ([], {"ANT_HOST_AGENT_STORE": ""}, "ANT_HOST_AGENT_STORE"),
        ([], {"ANT_HOST_AGENT_LISTEN": "nonsense"}, "ANT_HOST_AGENT_LISTEN"),
        ([], {"ANT_HOST_AGENT_NO_AUTH": "maybe"}, "ANT_HOST_AGENT_NO_AUTH"),
        ([], {"ANT_HOST_AGENT_ALLOW_PLAINTEXT": ""}, "ANT_HOST_AGENT_ALLOW_PLAINTEXT"),
    ],
)
def test_a_bad_value_names_its_source(argv: list[str], environ: dict[str, str], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_serve(argv, {**HOME, **environ})
    assert named in caught.value.detail
    assert caught.value.hint
    assert caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    "listen",
    [
        "", ":", ":4499", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+1",
        "127.0.0.1:1x", "127.0.0.1:\u0661", "127.0.0.1:99999999999999999999", "::1:4499", "[::1]", "[]:1",
        "[127.0.0.1]:1", "[::1%lo]:1", "256.0.0.1:1", "127.1:1", "0:1", "a b:1", "-a:1", "a-:1", "*:1", "http://127.0.0.1:1",
    ],
)  # fmt: skip
def test_what_is_no_address(listen: str) -> None:
    with pytest.raises(UsageError, match="--listen"):
        parse_listen(listen)


NOT_LOOPBACK = [
    "0.0.0.0:4499", "[::]:4499", "[::ffff:1.2.3.4]:4499", "[::ffff:127.0.0.1]:4499", "192.0.2.7:4499",
    "127.0.0.1.evil:4499", "localhost.evil:4499", "LOCALHOST:4499", "localhost.:4499",
    "host:4499", "[fe80::1]:4499", "128.0.0.1:4499",
]  # fmt: skip


@pytest.mark.parametrize("listen", NOT_LOOPBACK)
def test_beyond_loopback_neither_without_tls_nor_without_a_key(listen: str) -> None:
    with pytest.raises(UsageError, match=r"reached|neither"):
        parse_serve(["--listen", listen], HOME)
    with pytest.raises(UsageError, match=r"NO_AUTH|neither"):
        parse_serve(["--listen", listen, "--allow-plaintext"], {**HOME, "ANT_HOST_AGENT_NO_AUTH": "1"})


@pytest.mark.parametrize("listen", [listen for listen in NOT_LOOPBACK if not listen.startswith("localhost.:")])
def test_plaintext_beyond_loopback_only_when_asked_for(listen: str) -> None:
    found = parse_serve(["--listen", listen, "--allow-plaintext"], HOME)
    assert found.listen == listen
    assert found.allow_plaintext


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.255.0.9:1", "[::1]:1", "[0:0:0:0:0:0:0:1]:1", "localhost:1"])
def test_loopback_may_go_without_a_key(listen: str) -> None:
    found = parse_serve(["--listen", listen, "--no-auth"], HOME)
    assert found.no_auth
    assert is_loopback(found.host)


def test_localhost_is_settled_before_a_resolver_can_be_asked() -> None:
    assert parse_listen("localhost:4499") == ("127.0.0.1", 4499)


@pytest.mark.parametrize("given", [["cert"], ["key"], ["client-ca"], ["cert", "client-ca"], ["key", "client-ca"]])
def test_half_of_tls_is_refused(given: list[str]) -> None:
    flags = [f"--tls-{name}" for name in given]
    variables = ["ANT_HOST_AGENT_TLS_" + name.upper().replace("-", "_") for name in given]
    for argv, environ, named in (
        ([word for flag in flags for word in (flag, "/x")], {}, flags),
        ([], dict.fromkeys(variables, "/x"), variables),
    ):
        with pytest.raises(UsageError, match="of no use without --tls-") as caught:
            parse_serve(argv, {**HOME, **environ})
        assert caught.value.detail.split()[0] in named
        assert "tls-init" in str(caught.value.hint)


def test_with_tls_other_machines_may_call() -> None:
    config = parse_serve(["--listen", "0.0.0.0:1", "--tls-cert", "/c", "--tls-key", "/k", "--tls-client-ca", "/a"], HOME)
    assert (config.url, config.tls_cert, config.tls_key, config.tls_client_ca) == ("https://127.0.0.1:1", "/c", "/k", "/a")
    assert ServeConfig.from_json(config.to_json()) == config


def test_tls_is_no_key() -> None:
    with pytest.raises(UsageError, match="loopback only"):
        parse_serve(["--listen", "0.0.0.0:1", "--tls-cert", "/c", "--tls-key", "/k", "--no-auth"], HOME)


def test_an_unknown_variable_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {**HOME, "ANT_HOST_AGENT_LISTENS": "x", "ANT_HOST_AGENT_URL": "x", "ANT_HOST_AGENT_TOKEN": "secret"}
    parse_serve([], environ)
    warned = capsys.readouterr().err
    assert "ANT_HOST_AGENT_LISTENS" in warned
    assert "ANT_HOST_AGENT_URL" not in warned and "secret" not in warned


@pytest.mark.parametrize(("text", "size"), [("5000", 5000), ("500M", 500 << 20), ("20G", 20 << 30)])
def test_a_size(text: str, size: int) -> None:
    assert parse_serve(["--log-budget", text], HOME).log_budget == str(size)


def test_config_json_keeps_everything() -> None:
    argv = ["--listen", "0.0.0.0:5000", "--allow-plaintext", "--store", "/s", "--token-file", "/t", "--log-budget", "20G"]
    found = parse_serve(argv, HOME)
    document = found.to_json()
    assert document["listen"] == "0.0.0.0:5000" and document["schema"] == 1
    assert ServeConfig.from_json({**document, "of_a_newer_version": 1}) == found
    assert set(OPTIONS) < set(document)


@pytest.mark.parametrize("member", [{"listen": 4499}, {"no_auth": "yes"}, {"store": None}, {"listen": "x"}])
def test_config_json_names_the_wrong_member(member: dict[str, object]) -> None:
    document = parse_serve(["--store", "/s"], HOME).to_json()
    with pytest.raises(UsageError, match=next(iter(member))):
        ServeConfig.from_json({**document, **member})


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("0.0.0.0:1", "http://127.0.0.1:1"), ("[::]:1", "http://[::1]:1"), ("10.0.0.1:1", "http://10.0.0.1:1"),
        ("localhost:1", "http://127.0.0.1:1"),
    ],
)  # fmt: skip
def test_the_url_for_clients_on_the_host(listen: str, url: str) -> None:
    assert parse_serve(["--listen", listen, "--allow-plaintext"], HOME).url == url


def test_the_module_needs_no_argparse() -> None:
    with open(os.path.abspath(config.__file__)) as source:
        assert "import argparse" not in source.read()
