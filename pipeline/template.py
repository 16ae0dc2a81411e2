"""The command line as a Dataflow Flex Template speaks it: every parameter is `--name=value`, a switch is true or false.

--tenant_id=… --gaps=true --end= --project=…   ⟶   --tenant-id=… --gaps --project=…

`python -m pipeline.template COMMAND` prints the template's metadata.
"""

import json
import sys
from argparse import _StoreTrueAction
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.arguments import options_of
from pipeline.cli import main as run_command
from pipeline.errors import UsageError


def main(command: str, words: Sequence[str]) -> int:
    """Runs a command with a template's parameters; returns its exit code."""
    return run_command([command, *to_flags(command, words)])


def to_flags(command: str, words: Sequence[str]) -> Iterator[str]:
    """Turns parameters of the command into its flags; what is not its own, such as Beam's options, stays as it is.

    Raises:
      UsageError: A switch is neither true nor false.
    """
    own = {option.dest: option for option in options_of(command)}
    for word in words:
        name, is_given, value = word.removeprefix("--").partition("=")
        option = own.get(name.replace("-", "_"))
        if option is None or not is_given:
            yield word
        elif isinstance(option, _StoreTrueAction):
            if value.lower() not in ("true", "false", ""):
                raise UsageError(f"the parameter {name!r} is {value!r}, expected true or false")
            if value.lower() == "true":
                yield option.option_strings[0]
        elif value:
            yield f"{option.option_strings[0]}={value}"


DESCRIPTIONS = {
    "backfill": "Lands what Microsoft 365's audit feed has and the lake does not, each record once.",
    "stream": "Follows Microsoft 365's audit feed and lands what appears, each record once.",
}


def metadata(command: str) -> dict[str, Any]:
    """Gives the metadata of a command's template: every option is a parameter.

    A stream may run in either of Dataflow's modes: what is handed on twice lands once, for the ledger is the commit.
    """
    parameters = []
    for option in options_of(command):
        words = str(option.help)
        parameter = {
            "name": option.dest,
            "label": option.dest.replace("_", " ").capitalize(),
            "helpText": words[0].upper() + words[1:],
            "paramType": "TEXT",
            "isOptional": option.dest != "lake",
        }
        if isinstance(option, _StoreTrueAction):
            parameter["regexes"] = ["^(true|false)$"]
        parameters.append(parameter)
    is_stream = command == "stream"
    about = {"name": f"auditlake {command}", "description": DESCRIPTIONS[command], "streaming": is_stream}
    modes = {"supportsAtLeastOnce": True, "supportsExactlyOnce": True} if is_stream else {}
    return about | modes | {"parameters": parameters}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(metadata(sys.argv[1]), indent=2, ensure_ascii=False) + "\n")
