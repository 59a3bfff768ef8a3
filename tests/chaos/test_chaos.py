"""Everything breaks under load, and no promise does: the breaking suite's short form.

`make chaos` is the whole form. Here its faults are done twice each, on four stages at the same
time.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from random import Random

import pytest

from tests.chaos.run import Row, run
from tests.chaos.scenarios import SHORT

#: Every run is another one; a failing test says which.
SEED = Random().randrange(10**6)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, "Future[Row]"]]:
    """The rows to come, by their scenario's name."""
    with ThreadPoolExecutor(len(SHORT)) as pool:
        yield {
            one.name: pool.submit(run, one, SEED, tmp_path_factory.mktemp(one.name))
            for one in SHORT
        }


# Seconds: four stages on two cores.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [scenario.name for scenario in SHORT])
def test_every_promise_is_kept(rows: dict[str, "Future[Row]"], name: str) -> None:
    row = rows[name].result()
    assert row.wrong == [], f"seed {SEED}"
    assert row.totals.tasks == row.totals.endings["completed"] + row.totals.endings["poison"]
