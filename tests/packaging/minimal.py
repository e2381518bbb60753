"""The wheel without extras works, and errors name the missing packages.

`nox -s minimal` runs these tests in an environment with the wheel only.  They fail if the extras are installed.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import distributions
from importlib.util import find_spec

import pytest

from turnlog import Change, Key, Pipeline, PluginError, Record, open_store, user
from turnlog.config import find_token_counter, installed
from turnlog.payload import rewrap
from turnlog_offline import offline


def test_there_is_the_wheel_and_no_driver() -> None:
    names = {distribution.name.lower() for distribution in distributions()}
    assert {"turnlog", "msgspec", "stevedore"} <= names
    assert (
        not {
            "opentelemetry-api",
            "prometheus-client",
            "sqlalchemy",
            "redis",
            "zstandard",
            "tiktoken",
            "tokenizers",
            "cyclopts",
            "rich",
            "jinja2",
            "starlette",
            "uvicorn",
        }
        & names
    )
    spec = find_spec("turnlog")
    assert spec is not None
    assert "site-packages" in str(spec.origin)


def test_a_chat_on_the_memory_store_remembers() -> None:
    async def talk() -> list[str]:
        async with open_store("memory://") as store:
            pipeline = Pipeline(store, offline)
            await pipeline.execute("s", "user", "My name is Alice")
            await pipeline.execute("s", "user", "What is my name?")
            return [message.text for message in await store.load("s")]

    said = asyncio.run(talk())
    assert [said[0], *said[2:]] == ["My name is Alice", "What is my name?", "Your name is Alice."]


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("sqlite:///chat.db", "sqlalchemy", "sql"),
        ("postgresql://localhost/chat", "asyncpg", "postgresql"),
        ("mysql://localhost/chat", "asyncmy", "mysql"),
    ],
)
def test_a_missing_driver_names_the_extra(url: str, driver: str, extra: str) -> None:
    scheme = url.partition(":")[0]
    with pytest.raises(PluginError) as error:
        open_store(url)
    assert str(error.value) == (
        f"backend {scheme!r} needs {driver}, which is not installed: pip install 'turnlog[{extra}]'"
    )
    assert error.value.__suppress_context__, "the traceback must not show the ImportError"


@pytest.mark.parametrize("layer", ["gzip", "off"])
def test_a_layer_that_needs_no_driver_works(layer: str) -> None:
    text = "All happy families are alike. " * 40

    async def talk() -> list[str]:
        async with open_store(f"memory://?layers={layer}") as store:
            await store.append("s", [user(text)])
            return [message.text for message in await store.load("s")]

    assert asyncio.run(talk()) == [text]


@pytest.mark.parametrize(("layer", "driver"), [("telemetry", "opentelemetry"), ("zstd", "zstandard")])
def test_a_layer_whose_driver_is_missing_names_the_extra(layer: str, driver: str) -> None:
    with pytest.raises(PluginError) as error:
        open_store(f"memory://?layers={layer}")
    assert str(error.value) == (
        f"layer {layer!r} needs {driver}, which is not installed: pip install 'turnlog[{layer}]'"
    )


@pytest.mark.parametrize("name", ["tiktoken", "tokenizers"])
def test_a_token_counter_whose_library_is_missing_names_the_extra(name: str) -> None:
    with pytest.raises(PluginError) as error:
        find_token_counter(name)
    assert str(error.value) == (
        f"token counter {name!r} needs {name}, which is not installed: pip install 'turnlog[{name}]'"
    )
    assert find_token_counter("estimate")([user("hello")], model=None) == (6, False)


def test_a_record_whose_driver_is_missing_names_the_extra() -> None:
    async def read() -> None:
        async with open_store("memory://?layers=gzip") as store:
            record = Record.of((user("hello"),), id="t", time=0.0)
            payload = rewrap(record.payload, 2, b"\x28\xb5\x2f\xfd")
            await store.backend.commit(Key("default", "s"), Change(append=(record.with_payload(payload),)))
            await store.load("s")

    with pytest.raises(PluginError, match=r"zstd: pip install 'turnlog\[zstd\]' to read it"):
        asyncio.run(read())


def test_plugins_are_listed_whether_their_drivers_are_there_or_not() -> None:
    assert {"memory", "offline", "sqlite", "gzip", "zstd", "tiktoken"} <= {plugin.name for plugin in installed()}


def test_the_command_line_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    from turnlog_cli import main

    assert main(["plugins"]) == 2
    assert capsys.readouterr().err == (
        "turnlog: the command line needs cyclopts, which is not installed: pip install 'turnlog[cli]'\n"
    )
