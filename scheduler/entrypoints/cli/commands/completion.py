"""``trimtab completion``: a completion script that needs no Python for names of commands and options."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from scheduler.entrypoints.cli.app import ENTRIES, new_command, root

app = new_command()

_JOB_COMMANDS = ("get", "logs", "cancel", "suspend", "resume", "wait", "explain", "events")

_BASH = """# bash completion of trimtab; zsh reads it after: autoload -U bashcompinit && bashcompinit
_trimtab() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" command="" word words=""
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$word" in -*) ;; *) command="$word"; break ;; esac
    done
    case "$command" in
{cases}
        *) words="{commands}" ;;
    esac
    case "$current" in -*) ;; *) case "$command" in
        {jobs}) words="$words $(trimtab -q list -o name --limit 200 2>/dev/null)" ;;
        check|plan|estimate|run|submit) COMPREPLY=($(compgen -f -- "$current")); return ;;
    esac ;; esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -F _trimtab trimtab
"""


class Shell(StrEnum):
    """Shells."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.")]) -> None:
    """Print the completion script of a shell, for its start file: eval "$(trimtab completion bash)"."""
    text = _fish() if shell is Shell.FISH else _bash()
    if shell is Shell.ZSH:
        text = "autoload -U +X bashcompinit && bashcompinit\n" + text
    typer.echo(text, nl=False)


def _commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(root)
    context = group.make_context("trimtab", [], resilient_parsing=True)
    return {entry.name: group.get_command(context, entry.name) for entry in ENTRIES}


def _options(command: Any) -> list[str]:
    return sorted({option for parameter in command.params for option in parameter.opts if option.startswith("-")} | {"--help"})


def _words(command: Any) -> list[str]:
    return [*getattr(command, "commands", {}), *_options(command)]


def _bash() -> str:
    cases = "\n".join(f'        {name}) words="{" ".join(_words(command))}" ;;' for name, command in _commands().items())
    names = " ".join([*(entry.name for entry in ENTRIES), "--help", "--version", "--no-color", "--quiet"])
    return _BASH.format(cases=cases, commands=names, jobs="|".join(_JOB_COMMANDS))


def _fish() -> str:
    lines = ["# fish completion of trimtab"]
    for entry in ENTRIES:
        lines.append(f"complete -c trimtab -n __fish_use_subcommand -f -a {entry.name} -d {_quoted(entry.help)}")
    for name, command in _commands().items():
        seen = f"'__fish_seen_subcommand_from {name}'"
        for part in getattr(command, "commands", {}):
            lines.append(f"complete -c trimtab -n {seen} -f -a {part}")
        for option in _options(command):
            flag = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            lines.append(f"complete -c trimtab -n {seen} {flag}")
    jobs = f"'__fish_seen_subcommand_from {' '.join(_JOB_COMMANDS)}'"
    lines.append(f"complete -c trimtab -n {jobs} -f -a '(trimtab -q list -o name --limit 200 2>/dev/null)'")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
