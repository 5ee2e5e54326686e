"""`protokube accept`: shows a refusal's evidence, asks, and writes the acceptance that the next reconcile acts on."""

from __future__ import annotations

import logging
import sys
import time

from msgspec.structs import replace

from protokube.config.choice import Chosen
from protokube.config.commands import AcceptCommand
from protokube.config.wiring import wire
from protokube.core.accept import Overruling, decide
from protokube.core.history import History
from protokube.core.node.actions import WriteFile
from protokube.errors import ProviderError, UsageError
from protokube.eventloop import EventLoop
from protokube.host.files import NodeFiles
from protokube.observe.observer import Observer

log = logging.getLogger("protokube")


def accept(command: AcceptCommand, chosen: Chosen, started: float) -> bool:
    """Overrule a refusal. False, with the reason on stderr, when it can't be, or the operator says no.

    Raises UsageError where there is nobody to ask.
    """
    # Neither kubelet nor its unit has a part in it.
    config = replace(chosen.config, kubelet=replace(chosen.config.kubelet, unit=None))
    wired = wire(replace(chosen, config=config), EventLoop(), lambda _reason: None)
    try:
        observer = Observer(wired.config.for_dry_run(), wired.readers, started=started)
        decided = decide(command.request, observer.first(History()).judged, time.time())
        if not isinstance(decided, Overruling):
            print(f"protokube accept: {decided}", file=sys.stderr)
            return False
        print(decided.as_text(), flush=True)
        if not command.yes and not _confirmed():
            print("protokube accept: nothing was accepted", file=sys.stderr)
            return False
        one = decided.acceptance
        NodeFiles(chosen.settings.root).write(WriteFile(one.path, one.render(), 0o600))
    except ProviderError as error:
        print(f"protokube accept: {error}", file=sys.stderr)
        return False
    finally:
        wired.close()
    log.warning("accepted: %s of %s is overruled once, for filesystem %s", one.rule, one.volume_id, one.filesystem)
    print("Accepted: the next reconcile acts on it. protokube --dry-run shows what it will do.")
    return True


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError("accept: there is no terminal to ask at; say --yes if this is to happen")
    return input("Overrule it? Only yes is yes: ").strip() == "yes"
