"""The command line ``router-worker``: a table of commands, each imported when it is called.

So ``--help`` and ``watch`` do not wait for Celery or httpx to be imported. What the commands have
in common: answers go to standard output and nothing else does; notes and errors go to standard
error; the exit status is one of :mod:`.exits`.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from worker.cli.exits import MEANINGS, Interrupted

#: By name: where the command is, and its line in the help (the first of its own help).
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "demo": (
        "worker.demo.command:demo",
        "See it work: a Redis, a router, a worker, and every example of the router's guide.",
    ),
    "run": ("worker.cli.run:run", "Run a worker until SIGTERM."),
    "doctor": (
        "worker.cli.doctor.command:doctor",
        "Check the whole system, before a worker runs and while some do.",
    ),
    "chat": ("worker.cli.ask:chat", "Ask a model, and write its answer."),
    "native": ("worker.cli.ask:native", "Call a provider in its own language."),
    "enqueue": ("worker.cli.enqueue:enqueue", "Enqueue tasks from a file, and write their ids."),
    "watch": ("worker.cli.look:watch", "Follow a task to its end."),
    "result": ("worker.cli.look:result", "Wait for a task's result, and write it."),
    "status": ("worker.cli.look:status", "Say how a task stands."),
    "cancel": ("worker.cli.cancel:cancel", "Cancel a task."),
    "dead": ("worker.cli.dead:dead", "List, show, replay or drop dead letters."),
    "top": (
        "worker.cli.top.command:top",
        "Watch queues, workers, running streams, retries and failures, until q or Ctrl-C.",
    ),
    "simulator": ("worker.cli.simulator:simulator", "Run a router to try things on."),
}

_EPILOG: Final = "\b\nExit status:\n" + "\n".join(
    f"  {status:<4} {meaning}" for status, meaning in MEANINGS.items()
)


class _Lazy(click.Group):
    """A group that imports a command when it is asked for, not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command; None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List the commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Ctrl-C has a status of its own, also while modules are imported."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None


@click.group(cls=_Lazy, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="router-worker")
def main() -> None:
    """Put LLM calls on a queue, follow them, and run the workers that make them.

    Redis is where REDIS_URL says (redis://127.0.0.1:6379/0); README.md lists all settings.
    """
