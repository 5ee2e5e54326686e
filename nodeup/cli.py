"""argv → configuration → a target → a run or a dry run; and exit codes."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from nodeup.assets.errors import AssetError
from nodeup.observe import Observer
from nodeup.options import Options, read_options
from nodeup.rounds import Run, converge, dry_run
from nodeup.show import as_text, promise
from nodeup.sources import Source, load
from protokube.core.node.asset_actions import FetchAsset
from protokube.core.steps import Plan
from protokube.errors import ConfigError, PermissionNeededError, ProtokubeError, ProviderError, UsageError
from protokube.logs import log_to
from protokube.ports import Writers
from protokube.report.account import Account
from protokube.report.json import as_json

DONE, NOT_CONVERGED, WORK_FOUND, USAGE, NOT_NOW, NOT_PERMITTED, BAD_CONFIG = 0, 1, 2, 64, 75, 77, 78

log = logging.getLogger("protokube")


class AlreadyRunningError(ProtokubeError):
    """Another nodeup works on the same root."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run nodeup, and return its exit code."""
    try:
        options = read_options(sys.argv[1:] if arguments is None else list(arguments))
        log_to(sys.stderr, logging.DEBUG if options.verbose else logging.INFO if _at_boot() else logging.WARNING)
        code = _run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # `nodeup --dry-run | head`: the reader has enough. Python's exit would complain of what is left to write.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_CONVERGED
    except UsageError as error:
        return _tell(error, USAGE, "; see nodeup --help")
    except ConfigError as error:
        for fault in error.faults:
            print(f"nodeup: {fault}", file=sys.stderr)
        return BAD_CONFIG
    except PermissionNeededError as error:
        return _tell(error, NOT_PERMITTED)
    except AlreadyRunningError as error:
        return _tell(error, NOT_CONVERGED)
    except ProviderError as error:
        return _tell(error, NOT_NOW)


def _tell(error: ProtokubeError, code: int, more: str = "") -> int:
    print(f"nodeup: {error}{more}", file=sys.stderr)
    return code


def _at_boot() -> bool:
    """Whether the log goes to the journal, where the steps are read one by one."""
    return "JOURNAL_STREAM" in os.environ


def _run(options: Options) -> int:
    if options.command == "image-check":
        return _image_check(options)
    assert options.config is not None
    source = load(options.config)
    if options.command == "assets":
        return _list_assets(options, source)
    if options.target == "cloudinit":
        return _user_data(source)
    if os.geteuid() != 0:
        raise PermissionNeededError("needs root: it writes the system's files; try sudo")
    if not Path(options.root).is_dir():
        raise UsageError(f"--root {options.root}: not a directory")
    with _target(options, source) as (observer, writers):
        if options.dry_run:
            run = dry_run(observer, time.time())
            intro = promise(run.machine, source.settings, Path(options.root))
            _print(options, run.account, intro)
            return WORK_FOUND if options.detailed_exitcode and run.account.steps else DONE
        with _alone(Path(options.root)):
            run = converge(observer, writers)
    account = run.account
    if options.target == "image":
        account = _checked(options, account, source)
        if account.converged:
            _leave_no_cache(options)
    _print(options, account)
    return _code(run, account)


def _user_data(source: Source) -> int:
    from nodeup.targets.cloudinit import print_user_data

    print_user_data(source)
    return DONE


def _target(options: Options, source: Source) -> AbstractContextManager[tuple[Observer, Writers]]:
    if options.target == "image":
        from nodeup.targets.image import image_tree

        return nullcontext(image_tree(source, options.root, options.cache))
    from nodeup.targets.direct import this_machine

    return this_machine(source, options.root, options.cache)


def _print(options: Options, account: Account, intro: str | None = None) -> None:
    if options.output == "json":
        print(as_json(account))
    else:
        print(as_text(account, root=Path(options.root), whole=options.verbose, intro=intro))


def _code(run: Run, account: Account) -> int:
    if account.converged:
        return DONE
    later = any(
        error.later if isinstance(error, AssetError) else isinstance(action, FetchAsset)
        for action, error in run.errors
    )
    return NOT_NOW if later else NOT_CONVERGED


def _checked(options: Options, account: Account, source: Source) -> Account:
    """The account of an image, with what the check finds in it."""
    from nodeup.image_check import check_image

    account.left.add(check_image(Path(options.root), [file.path for file in source.settings.files]))
    return account


def _leave_no_cache(options: Options) -> None:
    from nodeup.targets.image import leave_no_cache

    leave_no_cache(options.root, options.cache)


def _list_assets(options: Options, source: Source) -> int:
    from nodeup.assets.limits import Limits
    from nodeup.assets.listing import as_json, as_text, listing, size_asker
    from nodeup.assets.web import system_trust

    listed = listing(source.settings.assets, size_asker(Limits(), system_trust))
    print(as_json(listed) if options.output == "json" else as_text(listed))
    return DONE


def _image_check(options: Options) -> int:
    from nodeup.image_check import check_image

    root = Path(options.root)
    if not root.is_dir():
        raise UsageError(f"--root {options.root}: not a directory")
    found: Plan = check_image(root)
    account = Account((), found)
    if options.output == "json":
        print(as_json(account))
    elif found.converged:
        print(f"{root}: nothing that must not be in an image.")
    else:
        for refusal in found.refusals:
            print(f"{refusal.subject}: {refusal.rule}: {refusal.evidence}")
    return DONE if found.converged else NOT_CONVERGED


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One nodeup per root. The lock is on the directory itself: an image gets no lock file."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(f"another nodeup is at work on {root}; wait for its end") from None
        yield
    finally:
        os.close(folder)
