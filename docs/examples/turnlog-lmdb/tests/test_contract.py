"""The backend meets the whole contract of turnlog."""

from typing import Unpack

from turnlog import Backend, Store
from turnlog.testing import BackendContract, BackendOptions, DamageContract
from turnlog.testing.crowd import crowd
from turnlog.testing.simulation import Simulation, simulate
from turnlog_lmdb import LmdbBackend
from turnlog_lmdb._environment import acquire, release


class TestLmdb(BackendContract, DamageContract):
    """Sessions are in a file, so a second backend over the same folder sees them."""

    def make(self, **options: Unpack[BackendOptions]) -> Backend:
        return LmdbBackend(str(self.folder / "chats"), **options)

    def unopenable(self) -> Backend:
        (self.folder / "file").touch()
        return LmdbBackend(str(self.folder / "file"))

    async def damage(self, store: Store, session_id: str) -> None:
        environment = acquire(str(self.folder / "chats"))
        name, sessions = f"{store.namespace}\0{session_id}".encode(), environment.tables.sessions
        with environment.files.begin(write=True) as transaction:
            value = transaction.get(name, b"", db=sessions)
            transaction.put(name, b"[" + value[1:], db=sessions)
        release(environment)


class OverLmdb(Simulation):
    def backend(self) -> Backend:
        return LmdbBackend(str(self.folder), ttl=self.ttl, clock=self.clock)


def test_simulated_faults_and_writers() -> None:
    simulate(OverLmdb, 1)
    crowd(OverLmdb, 1)
