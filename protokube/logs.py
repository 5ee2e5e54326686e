"""Logging to stderr: text for people and the journal, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import os
from typing import TextIO

from protokube.config.load import Settings

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _Text(logging.Formatter):
    """Text lines. Under systemd each bears its priority (sd-daemon(3)) and no time, which the journal keeps
    itself."""

    def __init__(self, journal: bool) -> None:
        timed = "%(asctime)s.%(msecs)03d %(levelname).1s %(message)s"
        super().__init__("%(message)s" if journal else timed, "%H:%M:%S")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self._journal:
            return text
        return "\n".join(f"<{_PRIORITIES[record.levelno]}>{line}" for line in text.splitlines())


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        out = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if action := getattr(record, "action", None):
            out["action"] = action
        if record.exc_info:
            out["trace"] = self.formatException(record.exc_info)
        return json.dumps(out, ensure_ascii=False)


def set_up_logging(settings: Settings, stream: TextIO) -> None:
    """Log to `stream`. With --once and --dry-run the report is the output: log only warnings then, unless
    --verbose."""
    quiet = settings.once or settings.dry_run
    level = logging.DEBUG if settings.verbose else logging.WARNING if quiet else logging.INFO
    log_to(stream, level, json_lines=settings.log_format == "json")


def log_to(stream: TextIO, level: int, *, json_lines: bool = False) -> None:
    """Log to `stream` from a level on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Json() if json_lines else _Text("JOURNAL_STREAM" in os.environ))
    root = logging.getLogger("protokube")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(level)
