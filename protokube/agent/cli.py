"""virtual-kubelet: argv → options → the loop, a dry run, or a look at the pods; and exit codes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext, suppress

from protokube import __version__
from protokube.agent.alone import NotAloneError, alone, kubelet_on
from protokube.agent.core.model import Pod
from protokube.agent.core.plan import Memory, plan
from protokube.agent.facts import Facts
from protokube.agent.http.kubeconfig import KubeConfig, find_config
from protokube.agent.loop import Agent
from protokube.agent.options import Options, parser, read_options
from protokube.agent.ports import Closes, Provider, Reporter, Source, Works
from protokube.agent.show import plan_text, pods_text, reported, step_json
from protokube.agent.sources.forgotten import Forgotten
from protokube.agent.wiring import LOCAL, make_provider, make_reporter, make_side, make_sources, records, reports
from protokube.core.model import Fault, Unknown
from protokube.errors import ConfigError, PermissionNeededError, ProviderError, UsageError
from protokube.host.notify import Notifier
from protokube.logs import log_to

DONE, NOT_CONVERGED, USAGE, NOT_PERMITTED, BAD_CONFIG = 0, 1, 64, 77, 78

log = logging.getLogger("protokube")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run virtual-kubelet, and return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = read_options(given, os.environ)
        log_to(
            sys.stderr, logging.DEBUG if options.verbose else _level(options), json_lines=options.log_format == "json"
        )
        return _command(options)
    except UsageError as error:
        print(f"virtual-kubelet: {error}; see virtual-kubelet --help", file=sys.stderr)
        return USAGE
    except ConfigError as error:
        for fault in error.faults:
            print(f"virtual-kubelet: {fault}", file=sys.stderr)
        return BAD_CONFIG
    except PermissionNeededError as error:
        print(f"virtual-kubelet: {error}", file=sys.stderr)
        return NOT_PERMITTED
    except NotAloneError as error:
        print(f"virtual-kubelet: {error}", file=sys.stderr)
        return BAD_CONFIG
    except ProviderError as error:
        print(f"virtual-kubelet: {error}", file=sys.stderr)
        return NOT_CONVERGED


def _level(options: Options) -> int:
    if options.verbose:
        return logging.DEBUG
    return logging.INFO if options.command in ("run", "serve-web") and not options.dry_run else logging.WARNING


def _command(options: Options) -> int:
    if options.command == "version":
        print(f"virtual-kubelet {__version__}")
        return DONE
    if options.command == "help":
        parser().print_help()
        return DONE
    if options.command == "pods":
        pods = reported(reports(options))
        print(json.dumps(pods, indent=1) if options.output == "json" else pods_text(pods))
        return DONE
    if not options.provider:
        raise UsageError("--provider: it is missing; name what runs the pods, such as systemd")
    if options.command == "serve-web":
        return _serve_web(options)
    if options.dry_run and not options.standalone:
        raise ConfigError([Fault("--dry-run", "it plans files and URLs alone; give --standalone as well")])
    if options.dry_run:
        steps = asyncio.run(_dry_run(options))
        print(json.dumps(steps, indent=1) if options.output == "json" else plan_text(steps))
        return DONE
    return _run(options)


def _run(options: Options) -> int:
    if options.provider in LOCAL and os.geteuid() != 0:
        raise PermissionNeededError("needs root: it runs the machine's pods; try sudo")
    if (pid := kubelet_on(options.manifest_dir)) is not None:
        raise NotAloneError(
            f"{options.manifest_dir}: kubelet (pid {pid}) runs its pods; where there is a kubelet, use that"
        )
    config = None if options.standalone else find_config(options.api.kubeconfig, os.environ)
    with alone(options.manifest_dir, options.state_dir), suppress(asyncio.CancelledError):
        asyncio.run(_serve(options, config))
    log.info("ending; the pods go on")
    return DONE


def _serve_web(options: Options) -> int:
    from protokube.agent.http.serving import serve  # loads aiohttp

    async def run() -> None:
        _end_by_signal()
        provider = make_provider(options)
        try:
            await serve(provider, options.serving, Notifier(os.environ).ready)
        finally:
            if isinstance(provider, Closes):
                await provider.close()

    if options.provider in LOCAL and os.geteuid() != 0:
        raise PermissionNeededError("needs root: it runs the machine's pods; try sudo")
    with alone(options.state_dir) if options.provider in LOCAL else nullcontext(), suppress(asyncio.CancelledError):
        asyncio.run(run())
    return DONE


def _end_by_signal() -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _serve(options: Options, config: KubeConfig | None) -> None:
    _end_by_signal()
    provider = make_provider(options)
    kind = ", ".join(one for one in ("changes", "ping", "capacity", "container_logs") if hasattr(provider, one))
    log.info("provider %s (%s); node %s", options.provider, kind or "polled", options.node)
    async with AsyncExitStack() as stack:
        if isinstance(provider, Closes):
            stack.push_async_callback(provider.close)
        await _run_agent(options, config, provider, stack)


async def _run_agent(options: Options, config: KubeConfig | None, provider: Provider, stack: AsyncExitStack) -> None:
    sources = [*make_sources(options), *(Forgotten(name) for name in options.forget)]
    reporters: list[Reporter] = [make_reporter(options)]
    side = None
    if config is not None:
        side = make_side(config, options, provider)
        stack.push_async_callback(side.client.close)
        sources.append(side.source)
        reporters.append(side.reporter)
    happened = None if side is None else side.events.happened
    fill = None if side is None else side.fill
    agent = Agent(
        provider, sources, reporters, workers=options.workers, resync=options.resync, happened=happened, fill=fill
    )
    Notifier(os.environ).ready("running pods")
    async with asyncio.TaskGroup() as group:
        if side is not None:
            side.follow(agent.facts)
            group.create_task(side.run())
        group.create_task(agent.run())


async def _dry_run(options: Options) -> list[dict[str, object]]:
    """What would be done now. Nothing is written, and no pod is touched."""
    sources = [*make_sources(options), *(Forgotten(name) for name in options.forget)]
    facts = Facts([source.name for source in sources])
    for source in sources:
        await _hear_once(source, facts)
    facts.take_all(await _running_pods(options))
    steps = []
    for uid in sorted(facts.uids()):
        view = facts.view(uid)
        pod = view.running if view.running is not None else view.wanted
        assert pod is not None
        steps.append(step_json(uid, pod, plan(view, Memory(), 0.0)))
    return steps


async def _hear_once(source: Source, facts: Facts) -> None:
    spoken = asyncio.Event()

    def say(pods: Mapping[str, Pod] | Unknown, held: Collection[str] = (), faults: Sequence[Fault] = ()) -> None:
        for fault in faults:
            log.error("source %s: %s", source.name, fault)
        if isinstance(pods, Unknown):
            log.error("source %s: %s", source.name, pods.reason)
        facts.hear(source.name, pods, held)
        spoken.set()

    task = asyncio.create_task(source.run(say))
    waiting = asyncio.create_task(spoken.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    for one in (task, waiting):
        one.cancel()
    await asyncio.gather(task, waiting, return_exceptions=True)


async def _running_pods(options: Options) -> Sequence[Pod]:
    if options.provider in LOCAL:
        kept = await asyncio.to_thread(records(options).load)
        return [{**one.pod, "status": one.final or {"phase": "Running"}} for one in kept.values()]
    provider = make_provider(options)
    if isinstance(provider, Works):
        raise ConfigError([Fault("--dry-run", f"provider {options.provider} can't be read without working")])
    try:
        return await provider.get_pods()
    finally:
        if isinstance(provider, Closes):
            await provider.close()
