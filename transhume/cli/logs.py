"""How the log looks: one line an event, to standard error, in colour on a terminal or as JSON."""

import sys


def log_to_stderr(*, as_json: bool) -> None:
    """Set the log up for this process."""
    import structlog

    renderer = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
    )
