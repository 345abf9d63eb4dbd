"""The images of a gateway's lane: the index, followed in a thread of its own.

* An image is found by lane, account and id together: for another account it does not exist.
* `current` first applies every mark that was acknowledged before the call, so that no gateway shows
  a deleted image.  Those who ask at once share one question to the brokers.
* Before the index is loaded nothing is answered.

For one event loop.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from erasestream.pipeline.gateway.problems import of_error, try_later
from erasestream.schemas.clocks import WallClock
from erasestream.schemas.errors import ErasestreamError
from erasestream.schemas.ids import AccountId, Lane, UploadId, image_key, owner_key
from erasestream.topics.index.table import Image
from erasestream.topics.index.view import ImageIndexView

FOLLOW_S = 0.2
"""Longest wait for new records, between two looks whether to end."""
CURRENT_S = 5.0
"""Longest wait until the marks are applied."""

OnResult = Callable[[bytes, Image], None]


class ImageIndex:
    """The images of one lane."""

    def __init__(self, lane: Lane, view: ImageIndexView, *, now: WallClock) -> None:
        self._lane = lane
        self._view = view
        self._now = now
        self._on_result: OnResult = lambda _key, _image: None
        self._closing = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._follow, name="index", daemon=True)
        self._applied = asyncio.Event()
        self._asking = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None
        """The error that ended the following."""

    def open(self, on_result: OnResult) -> None:
        """Begin to follow; `on_result` takes the images that get a result from then on."""
        self._on_result = on_result
        self._loop = asyncio.get_running_loop()
        self._view.on_news(self._tell)
        self._thread.start()

    @property
    def is_loaded(self) -> bool:
        """Whether it knows every result that there was when it began."""
        return self._view.is_loaded and self.failure is None

    @property
    def loading(self) -> int:
        """How many offsets are applied of what is not loaded yet; 0 once all is."""
        return self._view.loading

    def check_loaded(self) -> None:
        """Raise `Problem` (unavailable) unless it is."""
        if not self.is_loaded:
            raise try_later()

    def find(self, account: AccountId, upload_id: UploadId) -> Image | None:
        """Return what is known about an image of the account."""
        return self._view.table.get(self.key(account, upload_id))

    def key(self, account: AccountId, upload_id: UploadId) -> bytes:
        """Return the key of an image."""
        return _raw(image_key(self._lane, account, upload_id))

    async def current(self, account: AccountId, upload_id: UploadId) -> Image | None:
        """Return what is known, with every mark applied.  Raises `Problem` (unavailable)."""
        self.check_loaded()
        if self._next is None:
            self._next = asyncio.create_task(self._apply_marks())
        await asyncio.shield(self._next)
        return self.find(account, upload_id)

    def recent(self, account: AccountId) -> list[datetime]:
        """Return when the account's uploads of the last day were made, newest first."""
        return self._view.recent.of(_raw(owner_key(self._lane, account)), self._now())

    async def _apply_marks(self) -> None:
        async with self._asking:
            self._next = None  # those who ask from now on need a later answer
            try:
                async with asyncio.timeout(2 * CURRENT_S):
                    end = await asyncio.to_thread(self._view.marks_end, CURRENT_S)
                    while self._view.marks_applied < end:
                        self._applied.clear()
                        if self._view.marks_applied < end:
                            await self._applied.wait()
            except TimeoutError:
                raise try_later() from None
            except ErasestreamError as error:
                raise of_error(error) from error

    def _follow(self) -> None:
        try:
            while not self._closing.is_set():
                self._view.follow(FOLLOW_S)
        except BaseException as error:  # noqa: BLE001 (the stage raises it)
            self.failure = error

    def _tell(self, keys: Sequence[bytes]) -> None:
        """Pass on what was applied; called in the thread that follows."""
        if self._loop is not None and self._view.is_loaded:
            with suppress(RuntimeError):  # the loop is closed, and nothing waits
                self._loop.call_soon_threadsafe(self._on_applied, keys)

    def _on_applied(self, keys: Sequence[bytes]) -> None:
        self._applied.set()
        for key in keys:
            image = self._view.table.get(key)
            if image is not None and image.place is not None:
                self._on_result(key, image)

    def close(self) -> None:
        """Follow no more."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()


def _raw(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))
