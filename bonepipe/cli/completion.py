"""`bonepipe completion SHELL`: a script that lets the TAB key finish commands, flags and settings."""

from collections.abc import Sequence

from bonepipe.cli import COMMANDS
from bonepipe.cli.arguments import COMPLETE, make_parser

SUMMARY = """\
Print a script for bash, zsh or fish that completes commands, flags, settings (groups, their options, dotted keys) and
files when TAB is pressed. What can be chosen is read from conf/ each time, so a file of your own is completed too."""
EXAMPLES = """
source <(bonepipe completion bash)               # in ~/.bashrc
source <(bonepipe completion zsh)                # in ~/.zshrc, after compinit
bonepipe completion fish | source                # in ~/.config/fish/config.fish"""
# Each hands over the line up to the cursor. Bash takes `=` for the end of a word, so what stands before it is cut off.
SCRIPTS = {
    "bash": """\
_bonepipe() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}"
    COMPREPLY=($("$1" completion --line "$line" 2>/dev/null))
    [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == *[=.] ]] && compopt -o nospace
    local word="${line##* }"
    if [[ $word == *=* && $COMP_WORDBREAKS == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#"${word%%=*}="}"); fi
}
complete -o default -F _bonepipe bonepipe""",
    "zsh": """\
_bonepipe() {
    local -a found=("${(@f)$("$words[1]" completion --line "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    if [[ -z "$found" ]]; then compset -P '*='; _files; return; fi
    compadd -S ' ' -- ${found:#*[=.]}
    compadd -S '' -- ${(M)found:#*[=.]}
}
compdef _bonepipe bonepipe""",
    "fish": """\
complete -c bonepipe -a '(bonepipe completion --line (commandline -cp | string collect) 2>/dev/null)'""",
}


def main(words: Sequence[str]) -> int:
    """Print a shell's script, or what a line may go on with."""
    parser = make_parser("completion", SUMMARY, examples=EXAMPLES)
    parser.add_argument("shell", choices=tuple(SCRIPTS), nargs="?", help="the shell that shall complete")
    parser.add_argument("--line", help="for the script: print what this line may go on with")
    given = parser.read(words)
    if given.line is not None:
        return _finish(given.line)
    if given.shell is None:
        parser.error(f"which shell: {', '.join(SCRIPTS)}?")
    print(SCRIPTS[given.shell])
    return 0


def _finish(line: str) -> int:
    from bonepipe import cli

    words = [*line.split(), *([""] if not line or line[-1].isspace() else [])][1:]
    if len(words) < 2 or (words[0] == "help" and len(words) == 2):
        names = [name for name in ("help", *COMMANDS) if name.startswith(words[-1] if words else "")]
        print("\n".join(names))
        return 0
    return cli.run(words[0], [COMPLETE, *words[1:]]) if words[0] in COMMANDS else 0
