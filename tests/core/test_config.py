"""`open_store`: sources and their precedence, options from signatures, bad input, and passwords in no error message."""

from __future__ import annotations

import asyncio
import json
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, cycle
from pathlib import Path
from typing import Any

import pytest

from distributions import install
from turnlog import Backend, Store, open_store, user
from turnlog.config import duration, mask, masked_url, open_existing, read_table, settings_of, size
from turnlog.config.options import Given
from turnlog.config.warn import warn_once
from turnlog.errors import ConfigError, PluginError, TurnlogError, Unavailable
from turnlog.layers import stack_of

FAKES = """
from __future__ import annotations
import time
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote
from turnlog import Backend, Layer
from turnlog.errors import InvalidInput, Unavailable
from turnlog_memory import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable

class FileStore(MemoryBackend):
    def __init__(self, path: str, *, ttl: float | None = None) -> None:
        super().__init__(ttl=ttl)
        self.path = path

class NetStore(MemoryBackend):
    def __init__(
        self, url: str, *, ttl: float | None = None, synchronous: Literal["FULL", "NORMAL"] = "FULL",
        level: Literal[1, 2] = 1, pooled: bool = False, timeout: float = 5.0, prefix: str = "t", fail: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(ttl=ttl)
        self.url, self.synchronous, self.level, self.pooled = url, synchronous, level, pooled
        self.timeout, self.prefix = timeout, prefix
        if fail == "input":
            raise InvalidInput(f"prefix must fit {url}")
        if fail == "error":
            raise Unavailable(f"no {url}")
        if fail == "decoded":
            raise RuntimeError(f"bad {unquote(url)}")
        if fail == "crash":
            raise RuntimeError(f"bad {url}")

class TableStore(MemoryBackend):
    def __init__(self, path: str, *, migrate: Literal["auto", "check"] = "auto") -> None:
        super().__init__()
        self.migrate = migrate

class OwnStore(MemoryBackend):
    def __init__(self, path: str, *, migrate: Literal["yes", "no"] = "yes", sweep: float = 9.0) -> None:
        super().__init__()
        self.migrate, self.sweep = migrate, sweep

class HintStore(MemoryBackend):
    instead = {"ssl": "write tls=yes"}

class OddStore(MemoryBackend):
    def __init__(self, where: str) -> None:
        super().__init__()

class Unsigned(MemoryBackend):
    __signature__ = 5

class Outer(Layer): pass

class Redact(Layer):
    position = "messages"

class Squeeze(Layer):
    position = "compression"

class Inner(Layer):
    def __init__(self, inner: Backend, *, level: int = 1, max_bytes: int = 0) -> None:
        super().__init__(inner)
        self.level, self.max_bytes = level, max_bytes
"""
ENTRIES = {
    "turnlog.backends": {
        "fakefile": "acme_fakes:FileStore",
        "fakehint": "acme_fakes:HintStore",
        "fakenet": "acme_fakes:NetStore",
        "fakeodd": "acme_fakes:OddStore",
        "fakeown": "acme_fakes:OwnStore",
        "faketable": "acme_fakes:TableStore",
        "fakeunsigned": "acme_fakes:Unsigned",
    },
    "turnlog.layers": {
        "outer": "acme_fakes:Outer",
        "inner": "acme_fakes:Inner",
        "redact": "acme_fakes:Redact",
        "squeeze": "acme_fakes:Squeeze",
    },
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Change to an empty working directory, remove variables of turnlog, and install the fake plugins."""
    for name in [name for name in os.environ if name.startswith("TURNLOG_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    install(monkeypatch, tmp_path, "turnlog-fakes", ENTRIES, acme_fakes=FAKES)
    return folder


def refused(*arguments: object, kind: type[TurnlogError] = ConfigError, **options: object) -> str:
    with pytest.raises(kind) as error:
        open_store(*arguments, **options)  # type: ignore[arg-type]
    return str(error.value)


def test_settings_name_their_source_and_hide_what_is_secret(alone: Path, monkeypatch: Any) -> None:
    (alone / "turnlog.toml").write_text(
        '[store]\nurl = "fakenet://u:hunter2@h/x?level=2"\nprefix = "p-hunter2"\n'
        'layers = ["outer", { name = "inner", api_key = "k", level = 3 }]\n'
    )
    monkeypatch.setenv("TURNLOG_STORE_TTL", "30d")
    found = {one.name: (one.value, one.where) for one in settings_of()}
    assert found == {
        "url": ("fakenet://u:***@h/x", "turnlog.toml: store.url"),
        "level": ("2", "turnlog.toml: store.url: ?level"),
        "prefix": ("p-***", "turnlog.toml: store.prefix"),
        "layers": ("outer, inner (api_key=***, level=3)", "turnlog.toml: store.layers"),
        "ttl": ("30d", "TURNLOG_STORE_TTL"),
    }
    assert settings_of("memory://", namespace="shop")[-2].value == "shop"
    assert mask("no hunter2 here") == "no *** here"
    assert mask("no hunter3 here", "fakenet://:hunter3@h") == "no *** here"
    assert mask("hunter2", "nowhere://:hunter2@h") == "hunter2"
    assert masked_url() == "fakenet://u:***@h/x"
    assert masked_url("fakenet://:hunter3@h?level=1") == "fakenet://:***@h"


def test_an_existing_store_is_checked_and_not_migrated(alone: Path) -> None:
    def existing(url: str | None) -> tuple[list[str], str, str]:
        store = open_existing(url)
        *layers, backend = stack_of(store.backend)
        return [type(layer).__name__ for layer in layers], store.namespace, getattr(backend, "migrate", "")

    assert existing("faketable:///a?namespace=shop") == ([], "shop", "check")
    assert existing("faketable:///a?migrate=auto&layers=outer,inner") == (["Outer", "Inner"], "default", "check")
    assert existing("fakeown:///a")[2] == "yes"
    assert existing("fakefile:///a")[2] == ""
    assert (open_existing("fakeown:///a").backend.sweep, open_store("fakeown:///a").backend.sweep) == (0.0, 9.0)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match='must be auto or check, not "sometimes"'):
        open_existing("faketable:///a?migrate=sometimes")
    alone.joinpath("turnlog.toml").write_text('[store]\nurl = "faketable:///b?namespace=file"\nmigrate = "auto"\n')
    assert existing(None) == ([], "file", "check")


def test_a_store_is_made_but_not_opened_and_works() -> None:
    async def run() -> list[str]:
        async with open_store("memory://?namespace=shop&ttl=24h&retain=5") as store:
            await store.append("alice", [user("hello")])
            return [str(message.content) for message in await store.load("alice")]

    assert asyncio.run(run()) == ["hello"]
    store = open_store("memory://?namespace=shop&ttl=24h&retain=5&max_session_bytes=64KiB")
    assert (store.namespace, store.backend.ttl, store.retain, store.max_session_bytes) == ("shop", 86_400.0, 5, 65_536)


# ------------------------------------------------------------------------------------------------------------- sources


PLACES = ("argument", "variable", "file")
KINDS = {
    "found": "turnlog.toml: ",
    "project": "pyproject.toml: tool.turnlog.",
    "named": "given.toml: ",
    "named by a variable": "given.toml: ",
    "mapping": "config: ",
}
VALUES: dict[str, list[Any]] = {  # the values for each place, then for the query of each place's URL
    "ttl": ["1h", "2h", "3h", "4h", "5h", "6h"],
    "retain": [1, 2, 3, 4, 5, 6],
    "namespace": list("abcdef"),
    "max_session_bytes": ["1kB", "2kB", "3kB", "4kB", "5kB", "6kB"],
    "layers": [["outer"], ["inner"], ["redact"], ["outer", "inner"], ["inner", "outer"], ["redact", "inner"]],
}


def in_force(store: Store, key: str) -> object:
    """Return the value in force as an index into `VALUES`, or None."""
    if key == "layers":
        found: object = [type(layer).__name__.lower() for layer in stack_of(store.backend)][:-1]
        return VALUES[key].index(found) if found else None
    if key == "ttl":
        return None if store.backend.ttl is None else int(store.backend.ttl) // 3600 - 1
    if key == "max_session_bytes":
        return None if store.max_session_bytes is None else store.max_session_bytes // 1000 - 1
    found = getattr(store, key)
    return None if found in (None, "default") else VALUES[key].index(found)


def subsets(places: Sequence[str]) -> Iterator[frozenset[str]]:
    for count in range(len(places) + 1):
        yield from map(frozenset, combinations(places, count))


@pytest.mark.parametrize("kind", KINDS)
def test_every_combination_of_places(
    alone: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Each case: the places with a URL, those whose URL has the key in its query, and those with the key itself.

    The place with the highest precedence wins.  A query belongs to its URL.  A key that is given twice in one place is
    an error that names both.  A file that was found, not named, is ignored if an argument gives the URL.  A warning
    names the keys that are ignored with their URL or with the file.
    """
    monkeypatch.setattr("turnlog.config.merging._DEFAULT_URL", Given("memory://", "default", True))
    wheres = {"argument": "the argument ", "variable": "TURNLOG_STORE_", "file": f"{KINDS[kind]}store."}

    def where(place: str, name: str) -> str:
        return wheres[place] + (name.upper() if place == "variable" else name)

    table = [
        (urls, queries, keys)
        for urls in subsets(PLACES)
        for queries in subsets(sorted(urls))
        for keys in subsets(PLACES)
    ]
    whole = kind in ("found", "named")  # the other kinds of files differ only in their location
    for (urls, queries, keys), key in zip(table if whole else table[::7], cycle(VALUES), strict=False):
        values = VALUES[key]
        texts = [",".join(value) if isinstance(value, list) else str(value) for value in values]
        given: dict[str, dict[str, Any]] = {place: {} for place in PLACES}
        for number, place in enumerate(PLACES):
            if place in urls:
                given[place]["url"] = f"memory://?{key}={texts[number + 3]}" if place in queries else "memory://"
            if place in keys:
                given[place][key] = texts[number] if place == "variable" else values[number]

        ignored = {"file"} if "argument" in urls and kind in ("found", "project") else set()
        counts = next((place for place in PLACES if place in urls), None)
        places = {place for place in keys if place not in ignored} | ({counts} & queries)
        highest = next((place for place in PLACES if place in places), None)
        warned = [where("file", key)] if "file" in ignored & keys else []
        if highest is None:
            warned += [f"{where(place, 'url')}: ?{key}" for place in queries - ignored - {counts}]

        with monkeypatch.context() as patch:
            config = given_file(alone, patch, kind, given["file"])
            for name, value in given["variable"].items():
                patch.setenv(f"TURNLOG_STORE_{name.upper()}", value)
            caplog.clear()
            warn_once.cache_clear()
            if counts in keys & queries:
                said = refused(config=config, **given["argument"])
                assert where(counts, key) in said and f"?{key} in {where(counts, 'url')}" in said
                assert f"{key} is given twice" in said
                continue
            store = open_store(config=config, **given["argument"])
        index = None if highest is None else PLACES.index(highest) + (0 if highest in keys else 3)
        assert in_force(store, key) == index, (key, urls, queries, keys)
        found = [message.partition(": ignored")[0] for message in caplog.messages]
        assert sorted(found) == sorted(warned), (key, urls, queries, keys)


def given_file(alone: Path, monkeypatch: pytest.MonkeyPatch, kind: str, store: dict[str, Any]) -> Any:
    """Write the settings to a file of a kind, and return the argument `config` for it."""
    for name in ("turnlog.toml", "pyproject.toml", "given.toml"):
        (alone / name).unlink(missing_ok=True)
    if kind == "mapping":
        return {"store": store}
    table = "tool.turnlog.store" if kind == "project" else "store"
    name = {"found": "turnlog.toml", "project": "pyproject.toml"}.get(kind, "given.toml")
    lines = [f"{key} = {json.dumps(value)}" for key, value in store.items()]
    (alone / name).write_text("\n".join([f"[{table}]", *lines]))
    if kind == "named by a variable":
        monkeypatch.setenv("TURNLOG_CONFIG", name)
    return name if kind == "named" else None


def test_a_file_in_the_working_directory_reaches_no_store_that_an_argument_names(
    alone: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone.joinpath("turnlog.toml").write_text(
        '[store]\nurl = "fakefile:///dev"\nretain = 2\nttl = "1s"\nprefix = "x"\nnamspace = "a"\n"\\u001b[2J" = 1\n'
    )
    warn_once.cache_clear()
    for _ in range(2):
        store = open_store("fakenet://prod")
        assert (store.retain, store.backend.ttl, store.backend.prefix) == (None, None, "t")  # type: ignore[attr-defined]
        assert open_existing("fakenet://prod").retain is None
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("turnlog.toml: store.retain, turnlog.toml: store.ttl, turnlog.toml: store.prefix, ")
    assert "TURNLOG_CONFIG" in said and "'\\x1b[2J'" in said and "\x1b" not in said
    assert (
        "turnlog.toml: store.prefix: fakefile has no option prefix" in refused()
    )  # without an argument for the store, an error in the file is raised


@pytest.mark.parametrize("contents", [b"[store\n", b"\xff\xfe", b"store = 5", b"[stroe]\na = 1"])
@pytest.mark.parametrize("name", ["turnlog.toml", "pyproject.toml"])
def test_a_file_that_says_nothing_is_no_error(
    alone: Path, caplog: pytest.LogCaptureFixture, name: str, contents: bytes
) -> None:
    alone.joinpath(name).write_bytes(contents)
    warn_once.cache_clear()
    assert open_store("memory://").namespace == "default"
    if name == "turnlog.toml":
        assert "the file is ignored" in caplog.text
        refused()


def test_a_url_in_a_variable_replaces_the_url_alone(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment on another database keeps the settings that protect people."""
    alone.joinpath("turnlog.toml").write_text(
        '[store]\nurl = "fakefile:///dev"\nttl = "30d"\nretain = 5\nnamespace = "shop"\nlayers = ["redact"]\n'
    )
    monkeypatch.setenv("TURNLOG_STORE_URL", "fakenet://prod")
    store = open_store()
    assert (store.backend.ttl, store.retain, store.namespace) == (2_592_000.0, 5, "shop")
    assert repr(store.backend) == "<Redact over <NetStore>>"


def test_keys_are_merged_one_by_one(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone.joinpath("turnlog.toml").write_text(
        '[store]\nurl = "memory://"\nttl = "30d"\nretain = 7\nnamespace = "file"\n'
    )
    monkeypatch.setenv("TURNLOG_STORE_RETAIN", "8")
    store = open_store(namespace="argument")
    assert (store.namespace, store.backend.ttl, store.retain) == ("argument", 2_592_000.0, 8)


def test_options_of_a_backend_travel_with_their_url(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone.joinpath("named.toml").write_text('[store]\nurl = "fakenet://h"\nsynchronous = "NORMAL"\nttl = 9\n')
    monkeypatch.setenv("TURNLOG_CONFIG", "named.toml")
    assert open_store().backend.synchronous == "NORMAL"  # type: ignore[attr-defined]
    store = open_store("memory://")
    assert (type(store.backend).__name__, store.backend.ttl) == ("MemoryBackend", 9.0)
    assert open_store("fakenet://other").backend.synchronous == "NORMAL"  # type: ignore[attr-defined]
    assert open_store("fakenet://other?synchronous=FULL").backend.synchronous == "FULL"  # type: ignore[attr-defined]
    monkeypatch.setenv("TURNLOG_STORE_TIMEOUT", "2s")
    for store in (open_store(), open_store("fakenet://other")):
        assert store.backend.timeout == 2.0  # type: ignore[attr-defined]
    assert open_store("memory://").backend.ttl == 9.0
    monkeypatch.setenv("TURNLOG_STORE_URL", "memory://")  # MemoryBackend has no timeout
    assert type(open_store().backend).__name__ == "MemoryBackend"
    store = open_store("fakenet://other")  # the variable belongs to the other URL
    assert store.backend.timeout == 5.0  # type: ignore[attr-defined]


def test_where_the_file_is_looked_for(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(name: str, table: str, namespace: str) -> None:
        alone.joinpath(name).write_text(f'[{table}]\nurl = "memory://"\nnamespace = "{namespace}"\n')

    write("pyproject.toml", "tool.turnlog.store", "project")
    assert open_store().namespace == "project"
    write("turnlog.toml", "store", "own")
    assert open_store().namespace == "own"
    write("named.toml", "store", "named")
    monkeypatch.setenv("TURNLOG_CONFIG", "named.toml")
    assert open_store().namespace == "named"
    write("given.toml", "store", "given")
    assert open_store(config="given.toml").namespace == "given"
    assert open_store(config=alone / "given.toml").namespace == "given"
    assert open_store(config="pyproject.toml").namespace == "project"
    assert open_store(config={"store": {"url": "memory://", "namespace": "mapping"}}).namespace == "mapping"
    monkeypatch.setenv("TURNLOG_CONFIG", "gone.toml")
    assert "TURNLOG_CONFIG: the file gone.toml cannot be read" in refused()
    monkeypatch.setenv("TURNLOG_CONFIG", ".")
    assert refused().endswith("; give the path of a file that this user may read")


def test_another_projects_pyproject_says_nothing(alone: Path) -> None:
    alone.joinpath("pyproject.toml").write_text("[tool.other]\nstore = 1\n")
    assert open_store("memory://").namespace == "default"
    assert "has no table [tool.turnlog]" in refused(config="pyproject.toml")


def test_nothing_configured_is_sqlite_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def find(name: str) -> type[Backend]:
        asked.append(name)
        raise PluginError("enough")

    monkeypatch.setattr("turnlog.config.merging.find_backend", find)
    refused(kind=PluginError)
    assert asked == ["sqlite"]


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ("[store\n", "turnlog.toml is not valid TOML: "),
        ("[store]\na = \n", "(at line 2, column 5)"),
        (b"\xff\xfe", "turnlog.toml is not valid TOML: it is not UTF-8"),
        ("store = 5", "turnlog.toml: store must be a table, not int"),
        ("url = 'memory://'", "turnlog.toml: url stands outside of a table: write it below [store]"),
        (
            "[stroe]\na = 1",
            "turnlog.toml: the table [stroe] is unknown; write [store] or [[alerts]]; did you mean 'store'?",
        ),
        ("[store]\nnamspace = 'x'", "turnlog.toml: store.namspace: memory has no option namspace"),
        ("[store]\nnamspace = 'x'", "; did you mean 'namespace'?"),
        (
            "[store]\nttl = '24 hors'",
            'turnlog.toml: store.ttl: "24 hors" is not a duration; write 90, "90s", "24h" or "30d"',
        ),
        ("[store]\nttl = true", "store.ttl: true is not a duration"),
        ("[store]\nttl = -1", "store.ttl: -1 is not a duration"),
        ("[store]\nttl = nan", "store.ttl: nan is not a duration"),
        ("[store]\nttl = inf", "store.ttl: inf is not a duration"),
        ("[store]\nttl = 1e300", "store.ttl: 1e+300 is not a duration"),
        ("[store]\nttl = '20000d'", "turnlog.toml: store.ttl must be 0 (never expires), or"),
        (
            "[store]\nmax_session_bytes = '10 MBs'",
            'store.max_session_bytes: "10 MBs" is not a size; write 65536, "64KiB" or "10MB"',
        ),
        ("[store]\nmax_session_bytes = -1", "store.max_session_bytes: -1 is not a size"),
        ("[store]\nretain = '5'", 'store.retain: "5" is text: write 5 without quotation marks'),
        ("[store.sqlite]\npath = 'x'", "store.sqlite: a store has no table of this name: write url and"),
        ("[[store]]\nurl = 'memory://'", "there is only one store: write [store], not [[store]]"),
        ("[store]\nretain = true", "store.retain: true is not a whole number"),
        ("[store]\nretain = 2.0", "store.retain: 2.0 is not a whole number"),
        ("[store]\nretain = 0", "turnlog.toml: store.retain must be a whole number of at least 1, not 0"),
        ("[store]\nnamespace = 5", "store.namespace: must be text, not int"),
        ("[store]\nnamespace = ''", "turnlog.toml: store.namespace is empty"),
        ("[store]\nclock = 5", "store.clock: memory has no option clock"),
        ("[store]\nurl = 'fakefile+x:///a'", "store.url: fakefile has no drivers to choose from: leave the + out"),
    ],
)
def test_a_bad_file_names_its_place(
    alone: Path, monkeypatch: pytest.MonkeyPatch, contents: str | bytes, says: str
) -> None:
    alone.joinpath("turnlog.toml").write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    monkeypatch.setattr("turnlog.config.merging._DEFAULT_URL", Given("memory://", "the default url", True))
    assert says in refused()


def test_the_part_of_a_project_is_a_table(alone: Path) -> None:
    (alone / "pyproject.toml").write_text("[tool]\nturnlog = 5\n")
    assert refused() == "pyproject.toml: tool.turnlog must be a table, not int"


@pytest.mark.parametrize("url", ["nosuch://x/y", "nosuch://x?ttl=30d", "://"])
def test_a_replaced_url_need_not_be_valid(alone: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    (alone / "turnlog.toml").write_text(f'[store]\nurl = "{url}"\nretain = 5\n')
    monkeypatch.setenv("TURNLOG_STORE_URL", "fakenet://h")
    store = open_store()
    assert (type(store.backend).__name__, store.retain) == ("NetStore", 5)


def test_a_plugin_without_a_signature(alone: Path) -> None:
    assert refused("fakeunsigned://", kind=PluginError).startswith("acme_fakes.Unsigned has no readable signature: ")


def test_an_error_without_a_password_is_passed_on(alone: Path) -> None:
    assert refused("fakenet://h/x?fail=error", kind=Unavailable) == "no fakenet://h/x"


def test_a_file_that_is_none(alone: Path) -> None:
    assert "cannot be read" in refused(config="gone.toml")
    assert "cannot be read" in refused(config=alone)
    assert "names no file" in refused(config="")
    assert "must be a path or a mapping, not int" in refused(config=5)


@pytest.mark.parametrize("password", ["$DB_PASSWORD", "$hunter2"])
def test_a_variable_in_a_url_needs_braces(alone: Path, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    """The text may also be the password itself, so the error does not show it."""
    monkeypatch.setenv("DB_PASSWORD", "secret")
    alone.joinpath("turnlog.toml").write_text(f'[store]\nurl = "fakenet://u:{password}@h"\n')
    with pytest.raises(ConfigError, match=r"the password in the URL is \$ and a name") as caught:
        open_store()
    assert password not in str(caught.value).replace("${DB_PASSWORD}", "")
    alone.joinpath("turnlog.toml").write_text('[store]\nurl = "fakenet://u:${DB_PASSWORD}@h"\n')
    open_store()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("TURNLOG_TTL", "TURNLOG_STORE_TTL"),
        ("TURNLOG_URL", "TURNLOG_STORE_URL"),
        ("TURNLOG_STORE", "TURNLOG_STORE_URL"),
        ("TURNLOG_PREFIX", "TURNLOG_STORE_PREFIX"),
        ("TURNLOG_STOR_URL", "TURNLOG_STORE_URL"),
        ("TURNLOG_CONFG", "TURNLOG_CONFIG"),
        ("TURNLOG_STORE_URI", "TURNLOG_STORE_URL"),
        ("TURNLOG_STORE_TLL", "TURNLOG_STORE_TTL"),
        ("TURNLOG_STORE_RETIAN", "TURNLOG_STORE_RETAIN"),
        ("TURNLOG_STORE_NAMSPACE", "TURNLOG_STORE_NAMESPACE"),
        ("TURNLOG_STORE_LAYER", "TURNLOG_STORE_LAYERS"),
        ("TURNLOG_STORE_MAX_SESION_BYTES", "TURNLOG_STORE_MAX_SESSION_BYTES"),
        ("TURNLOG_STORE_TIMEOT", "TURNLOG_STORE_TIMEOUT"),
    ],
)
def test_a_variable_that_is_nearly_known_is_warned_about_once_and_its_value_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, near: str
) -> None:
    monkeypatch.setenv(name, "hunter2")
    warn_once.cache_clear()
    for _ in range(2):
        assert open_store("fakenet://h").retain is None
    assert caplog.messages == [f"the variable {name} is ignored: did you mean {near}?"]


@pytest.mark.parametrize(
    "service", ["turnlog", "turnlog-store", "turnlog-store-url", "turnlog-store-ttl", "turnlog-config"]
)
@pytest.mark.parametrize("url", [None, "memory://", "fakenet://h"])
def test_variables_that_kubernetes_sets_for_a_service_say_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, service: str, url: str | None
) -> None:
    """The kubelet sets one group of variables for the Service, and another in the form of Docker's links."""
    prefix = service.upper().replace("-", "_")
    monkeypatch.setenv(f"{prefix}_SERVICE_HOST", "10.0.0.11")
    monkeypatch.setenv(f"{prefix}_SERVICE_PORT", "6379")
    monkeypatch.setenv(f"{prefix}_SERVICE_PORT_HTTP_METRICS", "6379")
    monkeypatch.setenv(f"{prefix}_PORT", "tcp://10.0.0.11:6379")
    for port in ("6379_TCP", "53_UDP", "7_SCTP"):
        monkeypatch.setenv(f"{prefix}_PORT_{port}", "tcp://10.0.0.11:6379")
        for part, value in (("PROTO", "tcp"), ("PORT", "6379"), ("ADDR", "10.0.0.11")):
            monkeypatch.setenv(f"{prefix}_PORT_{port}_{part}", value)
    warn_once.cache_clear()
    monkeypatch.setattr("turnlog.config.merging._DEFAULT_URL", Given("memory://", "the default url", True))
    assert open_store(url).backend.ttl is None
    assert caplog.messages == []


@pytest.mark.parametrize(
    "name", ["TURNLOG_HOME", "TURNLOG_VERSION", "TURNLOG_STORE_REPLICAS", "TURNLOG_STORE_IMAGE", "TURNLOG_STORE_NAME"]
)
def test_a_variable_of_another_program_says_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setenv(name, "x")
    monkeypatch.setenv("TURNLOG_STORE_URL", "memory://")
    assert open_store().namespace == open_store("fakenet://h").namespace == "default"
    assert caplog.messages == []


def test_an_option_of_a_layer_in_a_variable_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TURNLOG_STORE_LEVEL", "3")
    warn_once.cache_clear()
    store = open_store("memory://?layers=outer,inner")
    assert store.backend.inner.level == 1  # type: ignore[attr-defined]
    assert caplog.messages == [
        "the variable TURNLOG_STORE_LEVEL is ignored: give the option with the name of the layer inner, in layers"
    ]


def test_two_variables_that_differ_in_case_alone_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNLOG_STORE_ttl", "1h")
    assert open_store("memory://").backend.ttl == 3600.0
    monkeypatch.setenv("TURNLOG_STORE_TTL", "1h")
    assert "ttl is given twice" in refused("memory://")


def test_variables_of_tests_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNLOG_TEST_REDIS", "x")
    assert open_store("memory://").namespace == "default"


def test_variables_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNLOG_STORE_URL", "fakenet://h")
    for option, text in {
        "TTL": "1.5s",
        "RETAIN": "3",
        "POOLED": "yes",
        "LEVEL": "2",
        "MAX_SESSION_BYTES": "1GiB",
    }.items():
        monkeypatch.setenv(f"TURNLOG_STORE_{option}", text)
    monkeypatch.setenv("TURNLOG_STORE_LAYERS", "outer, inner")
    store = open_store()
    net = store.backend.inner.inner  # type: ignore[attr-defined]
    assert (net.ttl, net.pooled, net.level) == (1.5, True, 2)
    assert (store.retain, store.max_session_bytes) == (3, 1024**3)
    monkeypatch.setenv("TURNLOG_STORE_LAYERS", "")
    assert type(open_store().backend).__name__ == "NetStore"
    monkeypatch.setenv("TURNLOG_STORE_POOLED", "perhaps")
    assert refused() == 'TURNLOG_STORE_POOLED: "perhaps" is neither true nor false; write yes or no'
    monkeypatch.setenv("TURNLOG_STORE_URL", "")
    assert refused().startswith("TURNLOG_STORE_URL: the URL is empty")


# ------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, 90.0),
        (1.5, 1.5),
        ("90", 90.0),
        ("1.5s", 1.5),
        ("500ms", 0.5),
        ("5m", 300.0),
        ("24h", 86_400.0),
        ("30d", 2_592_000.0),
        ("2w", 1_209_600.0),
        ("24 h", 86_400.0),
        (0, None),
        ("0", None),
    ],
)
def test_durations(given: str | float, seconds: float | None) -> None:
    assert open_store("memory://", ttl=given).backend.ttl == seconds
    assert open_store(f"memory://?ttl={str(given).replace(' ', '%20')}").backend.ttl == seconds


@pytest.mark.parametrize(
    "given", ["", " ", "h", "-1s", "1e3", "1.s", "24H", "1h30m", "٣s", "24  h", "inf", "9" * 400, b"5", [], None]
)
def test_bad_durations(given: object) -> None:
    if given is not None:
        assert "is not a duration" in refused("memory://", ttl=given)
    assert open_store(config={"store": {"url": "memory://", "ttl": None}}).backend.ttl is None


def test_a_plugin_reads_durations_as_the_configuration_does() -> None:
    assert (duration("30d", "--idle"), duration(0, "--idle")) == (2_592_000.0, 0.0)
    with pytest.raises(ConfigError, match=r'^--idle: "soon" is not a duration; write 90 \(seconds\), 90s, 24h or 30d$'):
        duration("soon", "--idle")


def test_a_plugin_reads_sizes_as_the_configuration_does() -> None:
    assert (size("64KiB", "--most"), size(0, "--most")) == (65_536, 0)
    with pytest.raises(ConfigError, match=r'^--most: "much" is not a size; write 65536, "64KiB" or "10MB"$'):
        size("much", "--most")


def test_a_plugin_reads_its_table_where_the_store_is_configured(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_table("alerts") == (None, "turnlog.toml: alerts")
    alone.joinpath("pyproject.toml").write_text("[tool.other]\nalerts = 1\n")
    assert read_table("alerts") == (None, "turnlog.toml: alerts")
    alone.joinpath("pyproject.toml").write_text("[tool.turnlog]\nalerts = 1\n")
    assert read_table("alerts") == (1, "pyproject.toml: tool.turnlog.alerts")
    alone.joinpath("turnlog.toml").write_text("[store]\nurl = 'memory://'\n[[alerts]]\nname = 'x'\n")
    assert read_table("alerts") == ([{"name": "x"}], "turnlog.toml: alerts")
    assert open_store().namespace == "default"
    alone.joinpath("named.toml").write_text("alerts = 2")
    monkeypatch.setenv("TURNLOG_CONFIG", "named.toml")
    assert read_table("alerts") == (2, "named.toml: alerts")
    assert read_table("alerts", config={"alerts": 3}) == (3, "config: alerts")
    with pytest.raises(ConfigError, match=r"^config: the table \[alert\] is unknown; .*; did you mean 'alerts'\?$"):
        read_table("alerts", config={"alert": 3})
    with pytest.raises(ConfigError, match=r"gone\.toml cannot be read"):
        read_table("alerts", config="gone.toml")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (65536, 65536),
        ("65536", 65536),
        ("64KiB", 65536),
        ("64kib", 65536),
        ("10MB", 10**7),
        ("10 MB", 10**7),
        ("1GiB", 2**30),
        ("5B", 5),
    ],
)
def test_sizes(given: str | int, expected: int) -> None:
    assert open_store("memory://", max_session_bytes=given).max_session_bytes == expected


@pytest.mark.parametrize("given", ["", "10M", "1.5GiB", "-5", "KiB", 1.5, True, "10**3"])
def test_bad_sizes(given: object) -> None:
    assert "is not a size" in refused("memory://", max_session_bytes=given)


def test_choices_come_from_the_annotation() -> None:
    assert open_store("fakenet://h?synchronous=NORMAL&level=2").backend.level == 2  # type: ignore[attr-defined]
    text = refused("fakenet://h?synchronous=NORMALL")
    assert text == "the argument url: ?synchronous: must be FULL or NORMAL, not \"NORMALL\"; did you mean 'NORMAL'?"
    assert "must be 1 or 2" in refused(config={"store": {"url": "fakenet://h", "level": "2"}})
    assert "true is not" not in refused(config={"store": {"url": "fakenet://h", "pooled": "true"}})
    for pooled in (True, False):
        assert open_store(config={"store": {"url": "fakenet://h", "pooled": pooled}}).backend.pooled is pooled  # type: ignore[attr-defined]


def test_an_option_that_the_backend_lacks() -> None:
    text = refused("fakefile:///x?pooled=yes")
    assert "fakefile has no option pooled; the options are layers, max_session_bytes, namespace, retain, ttl" in text
    assert refused("fakehint://?ssl=1") == "the argument url: ?ssl: fakehint has no option ssl: write tls=yes"


def test_where_it_is() -> None:
    assert open_store("fakefile:///chats").backend.path == "chats"  # type: ignore[attr-defined]
    assert open_store("fakefile:////var/my%20chats").backend.path == "/var/my chats"  # type: ignore[attr-defined]
    assert open_store("FakeNet+driver://u:p@h:1/0?ttl=1").backend.url == "fakenet+driver://u:p@h:1/0"  # type: ignore[attr-defined]
    assert "three slashes" in refused("fakefile://chats")
    assert "the path is missing" in refused("fakefile:///")
    assert "memory takes no location: write memory://" in refused("memory:///chats")
    assert "takes where: a backend takes its location as url or as path, or none" in refused(
        "fakeodd://x", kind=PluginError
    )


# -------------------------------------------------------------------------------------------------------------- layers


def test_the_first_layer_is_the_outermost() -> None:
    layers: list[str | Mapping[str, object]] = ["outer", {"name": "inner", "level": 3, "max_bytes": "1KiB"}]
    store = open_store("memory://?namespace=shop", layers=layers)
    assert repr(store) == "<Store namespace='shop' over <Outer over <Inner over <MemoryBackend>>>>"
    inner = store.backend.inner  # type: ignore[attr-defined]
    assert (inner.level, inner.max_bytes, store.namespace) == (3, 1024, "shop")
    assert repr(open_store("memory://?layers=inner,outer").backend) == "<Inner over <Outer over <MemoryBackend>>>"


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (["outer", "outer"], "the argument layers: the layer 'outer' is named twice"),
        ("outer", "the argument layers: must be a list"),
        ([5], "the argument layers[0] names no layer"),
        ([""], "the argument layers[0] names no layer"),
        ([{"level": 3}], "the argument layers[0] names no layer"),
        ([{"name": "inner", "levle": 3}], "the argument layers[0].levle: inner has no option levle"),
        (
            [{"name": "inner", "level": "3"}],
            'the argument layers[0].level: "3" is text: write 3 without quotation marks',
        ),
    ],
)
def test_bad_layers(layers: object, says: str) -> None:
    assert says in refused("memory://", layers=layers)


def test_a_stack_in_the_wrong_order_is_refused() -> None:
    # Fails if `_check_position` does nothing: both stores were created.
    assert repr(open_store("memory://?layers=redact,squeeze").backend) == "<Redact over <Squeeze over <MemoryBackend>>>"
    text = refused("memory://?layers=squeeze,redact")
    assert text.startswith("the argument url: ?layers: the layers are in the wrong order: write layers=redact,squeeze")


def test_an_option_of_a_layer_that_is_given_to_the_store() -> None:
    said = refused("memory://?layers=outer,inner&level=3")
    assert "the argument url: ?level: level is an option of the layer inner" in said
    assert '[{ name = "inner", level = ... }]' in said
    assert "memory has no option" in refused("memory://?layers=outer&level=3")


def test_an_unknown_layer() -> None:
    assert "did you mean 'outer'" in refused("memory://?layers=outr", kind=PluginError)
    assert "names no layer" in refused("memory://?layers=outer,,inner")


# ------------------------------------------------------------------------------------------------- URLs and passwords


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "the URL is empty"),
        ("redis//x", "has no scheme with ://"),
        ("sqlite", "has no scheme with ://"),
        ("sqlite:chat.db", "has no scheme with ://"),
        ("C:\\x", "write sqlite:///PATH for a file, postgresql://user:password@host/database for a server"),
        ("'memory://'", "remove the quotation marks"),
        ("jdbc:postgresql://h/d", "leave jdbc: out"),
        ("fakenet://::1:6379", "an IPv6 address must be in brackets"),
        ("://x", "has no scheme"),
        (" memory://", "a space or a control character"),
        ("memory://\n", "a space or a control character"),
        ("memory://\0", "a space or a control character"),
        ("sqlite:///my chats.db", "write %20"),
        ("fakenet://h:0", "the port must be"),
        ("fakenet://h:70000", "the port must be"),
        ("fakenet://h:abc", "the port must be"),
        ("fakenet://%zz", "a % in the URL"),
        ("fakefile:///%ff", "a % in the URL"),
        ("fakefile:///a%00b", "holds the character NUL (%00): remove it"),
        ("fakenet://h#x", "write %23"),
        ("fakenet://u:s3cret@hunter2@h/x", "two @ before the host"),
        ("memory://?ttl", "an option in the query has no value: write it like ?namespace=shop"),
        ("memory://?ttl=1h;retain=3", "; separate options with &"),
        ("memory://?ttl=1h?retain=3", "; separate options with &"),
        ("memory://?a=1&&b=2", "the query must be like"),
        ("memory://?ttl=1h&ttl=2h", "the query has ttl twice"),
        ("memory://?ttll=5", "did you mean 'ttl'?"),
        ("memory://?url=memory://", "cannot hold another url"),
        ("memory://?=5", "a key in the query is not a name"),
        (b"memory://", "a URL must be text, not bytes"),
        (Path("chat.db"), "a URL must be text, not "),
    ],
)
def test_malformed_urls(url: object, says: str) -> None:
    text = refused(url)
    assert says in text
    assert text.startswith("the argument url")


def test_an_unknown_scheme_names_the_nearest() -> None:
    assert "there is no backend named 'memmory'" in refused("memmory://", kind=PluginError)
    assert refused("fakenet-sentinel://h", kind=PluginError).endswith("; did you mean 'fakenet+sentinel'?")
    assert "did you mean 'fakenet'" in refused("fakenett://u:hunter2@h", kind=PluginError)


@pytest.mark.parametrize(
    "url",
    [
        "fakenet://u:hunter2@h:abc",
        "fakenet://:hunter2@h:0/0",
        "fakenet//:hunter2@h",
        "fakenet:/u:hunter2@h",
        ":hunter2@h",
        "fakenet://u:hunter2",
        "fakenet://u:hun?hunter2@h",
        "fakenet://u:hun?hunter2@h=5",
        "fakenet://u:hun#hunter2@h",
        "fakenet://u:12/hunter2@h",
        "fakenet://u:x/hunter2@h",
        "fakenet://u:%hunter2@h",
        "fakenet://u: hunter2@h",
        "fakenet://u:hunter2@h?ttll=5",
        "fakenet://u:hunter2@h?ttl=x",
        "fakenet://u:hunter2@h?ttl",
        "fakenet://u:hunter2@h?fail=input",
        "fakenet://u:hunter2@h?fail=error",
        "fakenet://u:hunter2@h?fail=crash",
        "fakenet://u:hunter%32@h?fail=crash",
        "fakenet://u:hunter%32@h?fail=decoded",
        "fakenet://u:12?hunter2=5@h",
        "nobody://u:hunter2@h",
        "memory://u:hunter2@h",
        "fakefile://u:hunter2@h/x",
    ],
)
@pytest.mark.parametrize("source", ["argument", "variable", "file"])
def test_no_error_shows_a_password(alone: Path, monkeypatch: pytest.MonkeyPatch, url: str, source: str) -> None:
    if source == "variable":
        monkeypatch.setenv("TURNLOG_STORE_URL", url)
    if source == "file":
        alone.joinpath("turnlog.toml").write_text(f'[store]\nurl = "{url}"\n')
    try:
        open_store(url if source == "argument" else None)
    except TurnlogError as error:
        shown = "".join(traceback.format_exception(error)) + repr(error)
    else:
        pytest.fail("it was accepted")
    assert "hunter2" not in shown
    assert "hunter%32" not in shown


def test_what_a_constructor_says_names_the_source_and_is_masked() -> None:
    text = refused("fakenet://u:hunter2@h?fail=input&prefix=x")
    assert text == "the argument url: ?prefix must fit fakenet://u:***@h"
    text = refused("fakenet://u:hunter2@h?fail=crash", kind=PluginError)
    assert text == "acme_fakes:NetStore cannot be made: RuntimeError: bad fakenet://u:***@h"


def test_a_cause_without_a_password_is_kept() -> None:
    with pytest.raises(PluginError) as error:
        open_store("fakenet://h?fail=crash")
    assert isinstance(error.value.__cause__, RuntimeError)
