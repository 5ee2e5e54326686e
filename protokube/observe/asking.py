"""Ports are asked side by side, each question with its own limit.

A read that fails or hangs becomes Unknown; a read that hangs is not started a second time while it does.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from protokube.core.etcd.model import NotListening
from protokube.core.model import Unknown
from protokube.core.pki.model import Unreadable
from protokube.core.settings import NodeConfig
from protokube.errors import NotListeningError, ProviderError, StoreError
from protokube.ports import Readers
from protokube.together import Limited

LIMIT = 30.0
"""Seconds within which a read ends; one that hangs longer is Unknown."""

Reads = dict[str, Callable[[], object]]
"""What to read, by a key that a hanging read is remembered by."""


class Asker:
    """Asks the ports for one configuration. `alive` is called before each group of reads of a reconcile."""

    def __init__(
        self, config: NodeConfig, readers: Readers, limited: Limited[object], alive: Callable[[], object]
    ) -> None:
        self.config = config
        self.readers = readers
        self._limited = limited
        self._alive = alive

    def read(self, reads: Reads) -> dict[str, object]:
        """The result of each read by its key: its value, or Unknown. An error that isn't ours is raised here."""
        self._alive()
        return self.read_apart(reads)

    def read_apart(self, reads: Reads) -> dict[str, object]:
        """The same, for a read that no reconcile waits for: it tells nobody that the reconcile is alive."""
        return {key: _known(future) for key, future in self._limited.run(reads).items()}


def _known(future: Future[object]) -> object:
    try:
        return future.result()
    except StoreError as error:
        return Unreadable(str(error), error.rule)
    except NotListeningError as error:
        return NotListening(str(error))
    except ProviderError as error:
        return Unknown(str(error))
