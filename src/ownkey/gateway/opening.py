"""The start of a streamed answer: its head waits for the first content, so that a refusal keeps its status and the
headers are true, but a caller whose connection idles too long would give up, so it does not wait for ever."""

import asyncio
import logging
from collections.abc import Sequence

from ownkey.gateway.ports import Reply

logger = logging.getLogger("ownkey")

Headers = Sequence[tuple[str, str]]


class Opening:
    """Sends, after `after_s`, a 200 head that promises nothing but the receipt, and a comment every `every_s`.

    `started`: that head is out, so whatever follows is said inside the stream. Whoever writes to the caller ends the
    comments first, with `end`.
    """

    __slots__ = ("_comment", "_every_s", "_headers", "_reply", "_task", "_timer", "started")

    def __init__(self, reply: Reply, headers: Headers, comment: bytes, after_s: float, every_s: float) -> None:
        self._reply = reply
        self._headers = headers
        self._comment = comment
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(max(0.0, after_s), self._begin)
        self.started = False

    def _begin(self) -> None:
        if not self._reply.gone:
            self._task = asyncio.get_running_loop().create_task(self._comment_on())

    async def _comment_on(self) -> None:
        self.started = True
        try:
            await self._reply.start(200, self._headers)
            while not self._reply.gone:
                await self._reply.write(self._comment)
                await asyncio.sleep(self._every_s)
        except Exception:
            logger.exception("a keep-alive comment could not be written")

    def end(self) -> None:
        """Nothing more is written from here. Never waits: it stands before bookings, and a wait could be cancelled
        there. A comment on its way is in the connection's buffer already, whole; a cancelled task begins no other."""
        self._timer.cancel()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
