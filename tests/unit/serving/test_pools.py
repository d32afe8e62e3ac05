import asyncio
import threading
import time

import pytest

from mediscale.core.errors import BusyError
from serving.pools import Pool


def test_what_is_more_than_the_pool_takes_is_refused_at_once_and_the_rest_is_done() -> None:
    pool, may_end = Pool("clinical notes", threads=1, most=3), threading.Event()

    async def ask() -> None:
        begun = [asyncio.create_task(pool.run(lambda: may_end.wait(20))) for _ in range(3)]
        await asyncio.sleep(0)
        asked = time.monotonic()
        with pytest.raises(BusyError, match="3 clinical notes are being worked on already"):
            await pool.run(lambda: True)
        assert time.monotonic() - asked < 1
        may_end.set()
        assert await asyncio.gather(*begun) == [True] * 3
        assert await pool.run(lambda: 7) == 7

    asyncio.run(ask())
    pool.close()
