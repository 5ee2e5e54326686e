"""The node's configuration: put on trial, confirmed, or taken back by the node itself, hub or no hub.

A note of the trial is on the disk before the file is exchanged. Whatever ends this program, its next start takes an
unconfirmed configuration back. A trial is a task of its own: its command's deadline doesn't end it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from protokube.agent.files import remove, write_atomically
from protokube.core.untrusted_yaml import load
from protokube.errors import ProviderError, explain
from protokube.hub.core.checks import Order
from protokube.hub.core.course import Outcome
from protokube.hub.core.trial import Trial, Verdict, judge_trial
from protokube.hub.core.verbs import ConfigConfirm, ConfigGet, ConfigPut, Rollback
from protokube.hub.handlers import End, Say
from protokube.hub.verbs.changes import LIMIT, LOOK, UNIT
from protokube.hub.verbs.programs import Programs, run
from protokube.hub.verbs.revisions import Revisions

BAD_CONFIG = 78
SPARE, TO_TAKE_BACK = 60.0, 30.0
"""Seconds that a command's deadline lies behind the end of its trial, at least; and what of them is for the end."""
LISTED = 50
_SECRET = ("secret", "token", "password", "key")

log = logging.getLogger(__name__)


class Config:
    """The handlers. `boot` names this boot, `boot_time` tells its seconds."""

    def __init__(
        self,
        programs: Programs,
        state: Path,
        revisions: Revisions,
        boot: str,
        boot_time: Callable[[], float],
        look: float = LOOK,
    ) -> None:
        self._programs = programs
        self._note = state / "trial.json"
        self._candidate = state / "candidate.yaml"
        self._revisions = revisions
        self._boot = boot
        self._boot_time = boot_time
        self._look = look
        self._confirmed: set[str] = set()
        self._abandoned: set[str] = set()
        self._ends: str | None = None
        self._trying: asyncio.Task[End] | None = None
        self._verdict = asyncio.Lock()
        """Held while a trial gets its verdict: one that is being taken back can't be confirmed."""

    # --- reads ---

    async def list(self, _order: Order, _say: Say, _limit: float) -> End:
        """The revisions, and which is current."""
        current = await asyncio.to_thread(self._revisions.current)
        every = await asyncio.to_thread(self._revisions.all)
        return End(Outcome.OK, result={"current": current, "revisions": msgspec.to_builtins(every[-LISTED:])})

    async def get(self, order: Order, say: Say, _limit: float) -> End:
        """One revision's text, with secrets masked."""
        asked = order.arguments
        assert isinstance(asked, ConfigGet)
        number = asked.revision
        if number is None:
            number = await asyncio.to_thread(self._revisions.current)
        text = await asyncio.to_thread(self._revisions.text, number)
        say.output(masked(text or b""), "report")
        return End(Outcome.OK, result={"revision": number})

    # --- changes ---

    async def put(self, order: Order, say: Say, limit: float) -> End:
        """Put a new configuration on trial; the command ends with the trial."""
        asked = order.arguments
        assert isinstance(asked, ConfigPut)
        return await self._try(order, asked.text.encode(), asked.base, asked.confirm_within, say, limit)

    async def rollback(self, order: Order, say: Say, limit: float) -> End:
        """Put an earlier revision's bytes on trial, as a new revision."""
        asked = order.arguments
        assert isinstance(asked, Rollback)
        current = await asyncio.to_thread(self._revisions.current)
        number = asked.revision
        if number is None:
            every = await asyncio.to_thread(self._revisions.all)
            number = next((one.before for one in every if one.command == asked.command), 0)
        if number == 0:
            return End(Outcome.FAILED, "there is no configuration before that to go back to; see config.list")
        text = await asyncio.to_thread(self._revisions.text, number)
        assert text is not None
        return await self._try(order, text, current, asked.confirm_within, say, limit)

    async def confirm(self, order: Order, _say: Say, _limit: float) -> End:
        """Let a configuration on trial stay."""
        asked = order.arguments
        assert isinstance(asked, ConfigConfirm)
        async with self._verdict:
            trial = await asyncio.to_thread(self.trial)
            if trial is None or trial.command != asked.command:
                return End(Outcome.FAILED, f"nothing of command {asked.command} is on trial: see config.list")
            if self._boot_time() >= trial.until:
                return End(Outcome.FAILED, "its time is over: it is being taken back")
            await asyncio.to_thread(self._forget)  # from here on it stays, whatever happens
            self._confirmed.add(asked.command)
        return End(Outcome.OK, f"revision {trial.revision} stays")

    def abandon(self, command: str) -> None:
        """An operator cancels: the configuration is taken back."""
        self._abandoned.add(command)

    async def recover(self, ends: str = "nokubelet ends") -> None:
        """Take back what is on trial: at the start of the program, or as it `ends` for good. Raises ProviderError."""
        if self._trying is not None:
            self._ends = ends
            await asyncio.wait({self._trying})
        trial = await asyncio.to_thread(self.trial)
        if trial is not None:
            judged = judge_trial(trial, self._boot, self._boot_time(), active=None, confirmed=False, resumed=True)
            await self._take_back(trial, judged.why)

    def trial(self) -> Trial | None:
        """The trial under way. Raises ProviderError for a note that can't be read."""
        with explain(f"read {self._note}"):
            try:
                data = self._note.read_bytes()
            except FileNotFoundError:
                return None
        try:
            return msgspec.json.decode(data, type=Trial)
        except msgspec.MsgspecError as error:
            raise ProviderError(f"{self._note}: {error}; look at the configuration, then remove the file") from error

    # --- the trial ---

    async def _try(self, order: Order, text: bytes, base: int, within: int, say: Say, limit: float) -> End:
        end = self._boot_time() + limit
        if limit < within + SPARE:
            wanted = within + SPARE
            return End(Outcome.FAILED, f"its deadline must lie {wanted:.0f} s ahead: the trial, and time to spare")
        if (other := await asyncio.to_thread(self.trial)) is not None:
            return End(Outcome.FAILED, f"revision {other.revision} of command {other.command} is still on trial")
        if (stale := await self._stale(base)) is not None:
            return End(Outcome.FAILED, stale)
        if (faults := await self._faults(text, limit - within - TO_TAKE_BACK)) is not None:
            return End(Outcome.FAILED, f"protokube refuses it: {faults}")
        # The dry run took its time: the file may be another one by now.
        if (stale := await self._stale(base)) is not None:
            return End(Outcome.FAILED, stale)
        if end - self._boot_time() < within + TO_TAKE_BACK:
            return End(Outcome.FAILED, "protokube --dry-run took so long that no time is left for the trial")
        author = order.signer or "the hub"
        made = await asyncio.to_thread(self._revisions.add, text, author, order.body.id, base)
        since = self._boot_time()
        trial = Trial(order.body.id, made.number, base, self._boot, since, since + within)
        self._trying = asyncio.create_task(self._carry_out(trial, text, say))
        return await asyncio.shield(self._trying)

    async def _stale(self, base: int) -> str | None:
        """Why a text that was made from revision `base` is none for the file as it is; None where it is one."""
        current = await asyncio.to_thread(self._revisions.current)
        return (
            None if base == current else f"revision {current} is current, and this was made from {base}: look again"
        )

    async def _carry_out(self, trial: Trial, text: bytes, say: Say) -> End:
        """A trial from its note to its end."""
        try:
            try:
                await asyncio.to_thread(self._write, trial)
                await asyncio.to_thread(self._revisions.put, text)
            except ProviderError as error:
                async with self._verdict:
                    await self._surely_back(trial, f"it couldn't be put: {error}")
                raise
            await self._read_again()
            say.progress(
                f"revision {trial.revision} is on trial: confirm it within {trial.until - trial.since:.0f} s"
            )
            return await self._watch(trial)
        finally:
            self._confirmed.discard(trial.command)
            self._abandoned.discard(trial.command)
            self._trying = None

    async def _watch(self, trial: Trial) -> End:
        name, numbers = trial.command, {"revision": trial.revision, "before": trial.before}
        while True:
            active = await self._active()
            async with self._verdict:
                confirmed = name in self._confirmed
                judged = judge_trial(trial, self._boot, self._boot_time(), active=active, confirmed=confirmed)
                if judged.verdict is Verdict.KEEP:
                    return End(Outcome.OK, f"revision {trial.revision} is confirmed", numbers)
                if name in self._abandoned or self._ends is not None:
                    why = self._ends or "cancelled by an operator"
                    await self._surely_back(trial, why)
                    return End(Outcome.CANCELLED, f"taken back: {why}", numbers)
                if judged.verdict is Verdict.ROLL_BACK:
                    await self._surely_back(trial, judged.why)
                    return End(Outcome.FAILED, f"taken back: {judged.why}", numbers)
            await asyncio.sleep(min(self._look, max(0.05, trial.until - self._boot_time())))

    async def _surely_back(self, trial: Trial, why: str) -> None:
        """Take a trial back, however often it takes: nobody else watches it, and the note stays until it is done."""
        while True:
            try:
                return await self._take_back(trial, why)
            except ProviderError as error:
                log.error("configuration: revision %d isn't taken back yet: %s", trial.revision, error)
                await asyncio.sleep(self._look)

    async def _take_back(self, trial: Trial, why: str) -> None:
        """Bring back the bytes from before, as a new revision. Done twice it does no more than once."""
        log.warning("configuration: revision %d is taken back: %s", trial.revision, why)
        there = await asyncio.to_thread(self._revisions.file)
        tried = await asyncio.to_thread(self._revisions.text, trial.revision)
        before = await asyncio.to_thread(self._revisions.text, trial.before)
        if there not in (tried, before):
            log.warning("configuration: it was changed by hand since, and stays as it is")
        else:
            last = await asyncio.to_thread(self._revisions.last)
            if before is not None and (last is None or last.undoes != trial.command):
                await asyncio.to_thread(self._revisions.add, before, f"nokubelet: {why}", "", 0, trial.command)
            if there != before:
                await asyncio.to_thread(self._revisions.put, before)
            await self._read_again()
        await asyncio.to_thread(self._forget)

    async def _read_again(self) -> None:
        """Have protokube read its configuration: by a signal while it runs, by a start where it doesn't.

        What doesn't work is logged: the trial's watch sees whether protokube is active.
        """
        if await self._active():
            arguments = ["kill", "--signal=SIGHUP", "--kill-whom=main", UNIT]
        else:
            arguments = ["restart", "--no-block", UNIT]
        try:
            ran = await run((*self._programs.systemctl, *arguments), LIMIT)
        except ProviderError as error:
            log.error("protokube isn't told of its configuration: %s", error)
            return
        if ran.code != 0:
            log.error("systemctl %s: exit code %d: %s", " ".join(arguments), ran.code, ran.errors)

    async def _active(self) -> bool | None:
        """Whether protokube is active; None while that can't be told."""
        try:
            ran = await run((*self._programs.systemctl, "is-active", UNIT), 10.0)
        except ProviderError as error:
            log.warning("is protokube active? %s", error)
            return None
        state = ran.output.strip()
        return True if state in ("active", "reloading") else None if state == "activating" else False

    async def _faults(self, text: bytes, limit: float) -> str | None:
        """What protokube has against a configuration; None for nothing. Raises ProviderError."""
        with explain(f"write {self._candidate}"):
            await asyncio.to_thread(write_atomically, self._candidate, text)
        try:
            argv = (*self._programs.protokube, "--dry-run", "-o", "json", "--config", str(self._candidate))
            ran = await run(argv, limit)
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._candidate.unlink()
        return ran.errors or "exit code 78" if ran.code == BAD_CONFIG else None

    def _write(self, trial: Trial) -> None:
        with explain(f"write {self._note}"):
            write_atomically(self._note, msgspec.json.encode(trial))

    def _forget(self) -> None:
        with explain(f"remove {self._note}"):
            remove(self._note)


def masked(text: bytes) -> str:
    """A configuration as it may leave the node: without comments, and what a secret's key has is masked."""
    try:
        value = load(text.decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return f"# it can't be parsed, and so isn't shown: {type(error).__name__}\n"
    return yaml.safe_dump(_mask(value), sort_keys=False, allow_unicode=True)


def _mask(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "***" if any(word in str(key).lower() for word in _SECRET) else _mask(inner)
            for key, inner in value.items()
        }
    return [_mask(one) for one in value] if isinstance(value, list) else value
