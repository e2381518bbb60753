"""turnlog finds plugins by the entry points of real, installed distributions."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from distributions import install
from turnlog.config import (
    PLUGIN_API,
    fault_of,
    find_backend,
    find_command,
    find_layer,
    find_model,
    find_token_counter,
    installed,
    plugins,
)
from turnlog.errors import PluginError
from turnlog_memory import MemoryBackend

STORE = """
from turnlog_memory import MemoryBackend
class AcmeBackend(MemoryBackend): pass
"""
LAYER = """
from turnlog import Layer
class AcmeLayer(Layer): pass
"""


Put = Callable[..., None]


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Put:
    def put(name: str, entries: dict[str, dict[str, str]], **more: str) -> None:
        install(monkeypatch, tmp_path, name, entries, **more)

    return put


def test_the_memory_store_is_a_plugin_like_any_other() -> None:
    assert find_backend("memory") is MemoryBackend
    mine = next(plugin for plugin in installed() if plugin.name == "memory")
    assert (mine.group, mine.target, mine.distribution) == (
        "turnlog.backends",
        "turnlog_memory:MemoryBackend",
        "turnlog",
    )
    assert mine.version


def test_a_third_partys_store_layer_model_token_counter_and_command_are_found(put: Put) -> None:
    source = (
        STORE
        + LAYER
        + "async def answer(messages): ...\n"
        + "class Answerer:\n    async def __call__(self, messages): ...\n"
        + "ready = Answerer()\n"
        + "def count(messages, *, model): ...\n"
        + "class Counter:\n    def __init__(self, *, step=1): self.step = step\n    __call__ = count\n"
        + "def greet(app): ..."
    )
    entries = {
        "turnlog.commands": {"greet": "acme_all:greet"},
        "turnlog.backends": {"acme": "acme_all:AcmeBackend"},
        "turnlog.layers": {"acme": "acme_all:AcmeLayer"},
        "turnlog.models": {"function": "acme_all:answer", "class": "acme_all:Answerer", "object": "acme_all:ready"},
        "turnlog.token_counters": {"function": "acme_all:count", "class": "acme_all:Counter"},
    }
    put("turnlog-acme", entries, version="2.5", acme_all=source)
    found = [
        find_backend("acme"),
        find_layer("acme"),
        find_model("function"),
        find_model("class"),
        find_model("object"),
        find_token_counter("function"),
        find_token_counter("class", step=2),
        find_command("greet"),
    ]
    assert [getattr(it, "__name__", type(it).__name__) for it in found] == [
        "AcmeBackend",
        "AcmeLayer",
        "answer",
        "Answerer",
        "Answerer",
        "count",
        "Counter",
        "greet",
    ]
    listed = [plugin for plugin in installed() if plugin.distribution == "turnlog-acme"]
    assert [(p.group, p.name, p.version) for p in listed] == [
        ("turnlog.backends", "acme", "2.5"),
        ("turnlog.commands", "greet", "2.5"),
        ("turnlog.layers", "acme", "2.5"),
        ("turnlog.models", "class", "2.5"),
        ("turnlog.models", "function", "2.5"),
        ("turnlog.models", "object", "2.5"),
        ("turnlog.token_counters", "class", "2.5"),
        ("turnlog.token_counters", "function", "2.5"),
    ]


def test_listing_and_finding_one_load_no_other(put: Put) -> None:
    put("turnlog-bomb", {"turnlog.backends": {"bomb": "acme_bomb:Store"}}, acme_bomb="raise SystemExit('loaded')")
    put("turnlog-gone", {"turnlog.backends": {"gone": "acme_gone:Store", "nonsense": "a b c!!"}})
    assert {"bomb", "gone", "nonsense", "memory"} <= {plugin.name for plugin in installed()}
    assert find_backend("memory") is MemoryBackend
    assert "acme_bomb" not in sys.modules


def test_an_unknown_name_lists_the_installed_and_the_nearest() -> None:
    with pytest.raises(
        PluginError,
        match=r"there is no backend named 'memmory'; the installed ones are .*memory.*; did you mean 'memory'\?",
    ):
        find_backend("memmory")
    with pytest.raises(PluginError, match=r"there is no layer named 'xyzzy'; the installed ones are [^;]*$"):
        find_layer("xyzzy")


def test_two_distributions_with_one_name_are_both_named_and_neither_loaded(put: Put) -> None:
    put("turnlog-one", {"turnlog.backends": {"twin": "acme_one:AcmeBackend"}}, acme_one="raise SystemExit")
    put("turnlog-two", {"turnlog.backends": {"twin": "acme_two:AcmeBackend"}}, acme_two="raise SystemExit")
    with pytest.raises(PluginError) as error:
        find_backend("twin")
    assert str(error.value) == (
        "backend 'twin' is claimed by acme_one:AcmeBackend of turnlog-one 1.0 and acme_two:AcmeBackend of turnlog-two "
        "1.0: uninstall one of them"
    )
    assert len([plugin for plugin in installed() if plugin.name == "twin"]) == 2


def test_ours_cannot_be_shadowed(put: Put) -> None:
    put("turnlog-evil", {"turnlog.backends": {"memory": "acme_evil:AcmeBackend"}}, acme_evil=STORE)
    with pytest.raises(PluginError, match=r"turnlog-evil 1\.0.*turnlog_memory:MemoryBackend of turnlog "):
        find_backend("memory")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_driver", "ModuleNotFoundError: No module named 'no_such_driver'"),
        ("assert False, 'sorry'", "AssertionError: sorry"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("Other = 1", "AttributeError"),
        ("def (", "SyntaxError"),
    ],
)
def test_a_broken_plugin_says_which_distribution_and_why(put: Put, source: str, says: str) -> None:
    put("turnlog-broken", {"turnlog.backends": {"broken": "acme_broken:AcmeBackend"}}, acme_broken=source)
    with pytest.raises(PluginError) as error:
        find_backend("broken")
    assert "acme_broken:AcmeBackend of turnlog-broken 1.0" in str(error.value)
    assert says in str(error.value)
    assert "pip install" not in str(error.value)
    assert error.value.__cause__ is not None


def test_a_missing_driver_of_ours_names_the_extra(monkeypatch: pytest.MonkeyPatch, put: Put) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)  # makes `import sqlalchemy` fail
    entry = {"turnlog.backends": {"lite": "acme_driver:AcmeBackend"}}
    put("turnlog", entry, version="9", acme_driver="import sqlalchemy.engine")
    with pytest.raises(PluginError) as error:
        find_backend("lite")
    assert str(error.value) == "backend 'lite' needs sqlalchemy, which is not installed: pip install 'turnlog[sql]'"


def test_a_missing_driver_of_a_third_party_names_no_extra_of_ours(monkeypatch: pytest.MonkeyPatch, put: Put) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    put("turnlog-other", {"turnlog.backends": {"lite": "acme_other:AcmeBackend"}}, acme_other="import sqlalchemy")
    with pytest.raises(PluginError, match=r"turnlog-other 1\.0.*sqlalchemy") as error:
        find_backend("lite")
    assert "pip install" not in str(error.value)


def test_the_extras_are_those_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        name: [re.split(r"[^a-z0-9_-]", need)[0] for need in needs]
        for name, needs in project["optional-dependencies"].items()
    }
    for driver, extra in plugins._EXTRAS.items():
        assert {driver, f"{driver}-api"} & set(extras[extra])  # as opentelemetry in opentelemetry-api


@pytest.mark.parametrize(
    ("find", "group", "source", "says"),
    [
        (find_backend, "turnlog.backends", "Thing = 5", "is a int; it must be a subclass of turnlog.Backend"),
        (
            find_backend,
            "turnlog.backends",
            "class Thing: pass",
            "is the class Thing; it must be a subclass of turnlog.Backend",
        ),
        (
            find_backend,
            "turnlog.backends",
            "from turnlog import Layer as Thing",
            "is the class Layer; it must be a subclass of turnlog.Backend that",
        ),
        (
            find_backend,
            "turnlog.backends",
            "from turnlog import Backend\nclass Thing(Backend): pass",
            "does not implement commit, delete, page, read",
        ),
        (
            find_layer,
            "turnlog.layers",
            "from turnlog_memory import MemoryBackend as Thing",
            "is the class MemoryBackend; it must be a subclass",
        ),
        (find_model, "turnlog.models", "def Thing(messages): ...", "is a function; it must be an async function"),
        (find_model, "turnlog.models", "class Thing: pass", "is the class Thing; it must be an async function"),
        (find_model, "turnlog.models", "Thing = 'text'", "is a str; it must be an async function"),
        (
            find_token_counter,
            "turnlog.token_counters",
            "async def Thing(messages, *, model): ...",
            "is a function; it must be a callable that is not async",
        ),
        (
            find_token_counter,
            "turnlog.token_counters",
            "class Thing:\n    async def __call__(self, messages, *, model): ...",
            "is the class Thing; it must be a callable that is not async",
        ),
        (
            find_token_counter,
            "turnlog.token_counters",
            "class Thing: pass",
            "is the class Thing; it must be a callable",
        ),
        (find_token_counter, "turnlog.token_counters", "Thing = 5", "is a int; it must be a callable"),
        (
            find_token_counter,
            "turnlog.token_counters",
            "class Thing:\n    def __init__(self, path): ...",
            "token counter 'thing': missing a required argument: 'path'; its options are path",
        ),
        (find_command, "turnlog.commands", "Thing = 5", "is a int; it must be a function that takes a cyclopts.App"),
    ],
)
def test_what_is_no_plugin_is_refused(
    put: Put, find: Callable[[str], object], group: str, source: str, says: str
) -> None:
    put("turnlog-thing", {group: {"thing": "acme_thing:Thing"}}, acme_thing=source)
    with pytest.raises(PluginError) as error:
        find("thing")
    assert "acme_thing:Thing of turnlog-thing 1.0" in str(error.value)
    assert says in str(error.value)


def test_options_are_for_classes_of_token_counters_alone(put: Put) -> None:
    source = "def count(messages, *, model): ..."
    put("turnlog-count", {"turnlog.token_counters": {"acme": "acme_count:count"}}, acme_count=source)
    with pytest.raises(
        PluginError, match=r"'acme', acme_count:count of turnlog-count 1\.0, takes no options: remove 'step'"
    ):
        find_token_counter("acme", step=2)


def test_a_distribution_without_metadata_hides_no_other(put: Put, tmp_path: Path) -> None:
    put("turnlog-bare", {"turnlog.backends": {"bare": "acme_bare:AcmeBackend"}}, acme_bare=STORE)
    (tmp_path / "site-turnlog-bare" / "turnlog_bare-1.0.dist-info" / "METADATA").unlink()
    assert {"bare", "memory"} <= {plugin.name for plugin in installed()}
    assert find_backend("bare").__name__ == "AcmeBackend"


def test_a_distribution_whose_metadata_are_damaged_is_listed(put: Put, tmp_path: Path) -> None:
    put("turnlog-bare", {"turnlog.backends": {"bare": "acme_bare:AcmeBackend"}}, acme_bare=STORE)
    (tmp_path / "site-turnlog-bare" / "turnlog_bare-1.0.dist-info" / "METADATA").write_bytes(b"Name: \xff\n")
    (plugin,) = [plugin for plugin in installed() if plugin.name == "bare"]
    assert str(plugin) == "acme_bare:AcmeBackend of an unknown distribution ?"
    assert find_backend("bare").__name__ == "AcmeBackend"


def test_the_fault_of_each_kind_of_plugin_is_described(put: Put) -> None:
    source = STORE + "def count(messages, *, model): ...\ndef greet(app): ...\n"
    entries = {
        "turnlog.backends": {"good": "acme_faults:AcmeBackend", "bad": "acme_faults:greet"},
        "turnlog.commands": {"good": "acme_faults:greet", "bad": "acme_faults:__name__"},
        "turnlog.token_counters": {"good": "acme_faults:count", "bad": "acme_faults:gone"},
    }
    put("turnlog-faults", entries, acme_faults=source)
    faults = {(one.group, one.name): fault_of(one) for one in installed() if one.distribution == "turnlog-faults"}
    for group in entries:
        assert faults[group, "good"] == ""
    assert "it must be a subclass of turnlog.Backend" in faults["turnlog.backends", "bad"]
    assert "it must be a function that takes a cyclopts.App" in faults["turnlog.commands", "bad"]
    assert "cannot be loaded: AttributeError" in faults["turnlog.token_counters", "bad"]


def test_a_plugin_that_is_installed_or_changed_later_is_seen_at_once(put: Put, tmp_path: Path) -> None:
    with pytest.raises(PluginError):
        find_backend("late")
    put("turnlog-late", {"turnlog.backends": {"late": "acme_late:AcmeBackend"}}, acme_late=STORE)
    assert find_backend("late").__name__ == "AcmeBackend"
    changed = tmp_path / "site-turnlog-late" / "turnlog_late-1.0.dist-info" / "entry_points.txt"
    changed.write_text("[turnlog.backends]\nlater = acme_late:AcmeBackend\n")
    assert find_backend("later").__name__ == "AcmeBackend"


@pytest.mark.parametrize(("number", "who"), [(2, "turnlog"), (0, "turnlog-next")])
@pytest.mark.parametrize(("group", "base"), [("backends", "turnlog_memory:MemoryBackend"), ("layers", "turnlog:Layer")])
def test_a_plugin_for_another_version_of_the_interfaces_is_refused(
    group: str, base: str, number: int, who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, name = base.partition(":")
    source = f"from {module} import {name}\nclass Next({name}):\n    plugin_api = {number}\n"
    install(
        monkeypatch, tmp_path, "turnlog-next", {f"turnlog.{group}": {"next": "next_plugin:Next"}}, next_plugin=source
    )
    find = find_backend if group == "backends" else find_layer
    expected = rf"was written for version {number} of the plugin API, .* has version {PLUGIN_API}: upgrade {who}$"
    with pytest.raises(PluginError, match=expected):
        find("next")
