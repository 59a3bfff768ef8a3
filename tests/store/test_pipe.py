"""What a server refuses with, as one exception, whichever server it is."""

import pytest
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from worker.store import full, passing
from worker.store.pipe import read_error

_OLD = "ERR Error running script (call to f_6f1ed002ab5595859014ebf0951522d9b1d0a4d2): "
_FULL = "command not allowed when used memory > 'maxmemory'."
_REPLICA = "You can't write against a read only replica."
_DISK = "Errors writing to the AOF file: No space left on device"
_TYPE = "Operation against a key holding the wrong kind of value"

#: What Valkey and Redis from 7 on say of a command in a script, and Redis 6.2.
REFUSALS: dict[str, tuple[str, str, type[RedisError]]] = {
    "full": (
        f"OOM {_FULL} script: 6f1e, on @user_script:21.",
        f"{_OLD}@user_script:21: @user_script: 21: -OOM {_FULL} ",
        OutOfMemoryError,
    ),
    "replica": (
        f"READONLY {_REPLICA} script: 6f1e, on @user_script:9.",
        f"{_OLD}@user_script:9: @user_script: 9: -READONLY {_REPLICA} ",
        ReadOnlyError,
    ),
    "disk": (
        f"MISCONF {_DISK} script: 6f1e, on @user_script:9.",
        f"{_OLD}@user_script:9: @user_script: 9: -MISCONF {_DISK} ",
        ResponseError,
    ),
    "type": (
        f"WRONGTYPE {_TYPE} script: 6f1e, on @user_script:9.",
        f"{_OLD}@user_script:9: WRONGTYPE {_TYPE} ",
        ResponseError,
    ),
}


@pytest.mark.parametrize("which", REFUSALS)
def test_what_redis_6_2_refuses_in_a_script_is_what_newer_ones_refuse(which: str) -> None:
    new, old, kind = REFUSALS[which]
    told = [read_error(text) for text in (new, old)]
    assert [type(error) for error in told] == [kind, kind]
    assert [(full(error), passing(error)) for error in told] == [
        (full(told[0]), passing(told[0]))
    ] * 2
    assert [str(error).startswith("WRONGTYPE") for error in told] == [which == "type"] * 2
