"""The text of a supervisord.conf for a set of processes. Pure.

supervisord reads its file through three layers: an INI parser that cuts at ` #` and ` ;`, a
%-expansion, and shlex. The invariant: it runs exactly the words given here, or they are refused.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from tasks.core.errors import UsageError
from tasks.core.serving.proof.readiness import REFUSED
from tasks.core.serving.supervision.process_spec import ProcessSpec

_LOG_BYTES = 10_000_000
_LOG_FILES = 3
_SAFE = re.compile(r"[\w@+=:,./-]", re.ASCII)

_PROCESS = """
[{kind}:{name}]
{more}command = {command}
directory = {directory}
environment = {environment}
priority = {priority}
autostart = false
; Every exit is unexpected, except of an engine that refuses to serve a model without its edit.
autorestart = unexpected
exitcodes = {refused}
startsecs = 10
startretries = 5
stopsignal = TERM
stopwaitsecs = {stop_wait_s}
stopasgroup = {stops_as_group}
killasgroup = true
redirect_stderr = true
stdout_logfile = {log}
stdout_logfile_maxbytes = {log_bytes}
stdout_logfile_backups = {log_files}
"""

_SUPERVISOR = """\
; Written by kawan-usaha for this deployment; written again by the next one.
[unix_http_server]
file = {socket}
chmod = 0600

[supervisord]
logfile = {log}
logfile_maxbytes = {log_bytes}
logfile_backups = {log_files}
pidfile = {pidfile}
childlogdir = {logs}
directory = {directory}
umask = 077

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = {serverurl}
"""


def supervisor_config(
    specs: Sequence[ProcessSpec], *, directory: Path, logs: Path, socket: Path
) -> str:
    """Return the configuration of a supervisord that keeps specs running once they are started.

    directory is its working directory, logs the directory of all logs, socket its control socket.
    Raises UsageError for a path or value that a supervisord.conf cannot hold.
    """
    head = _SUPERVISOR.format(
        socket=_value(str(socket)),
        serverurl=_value(f"unix://{socket}"),
        log=_value(str(logs / "supervisord.log")),
        logs=_value(str(logs)),
        pidfile=_value(str(logs / "supervisord.pid")),
        directory=_value(str(directory)),
        log_bytes=_LOG_BYTES,
        log_files=_LOG_FILES,
    )
    return head + "".join(_program(spec, logs) for spec in specs)


def _program(spec: ProcessSpec, logs: Path) -> str:
    kind, more = "program", ""
    if spec.listen is not None:
        # supervisord keeps the socket open while a copy lives, and passes it as stdin.
        kind = "fcgi-program"
        more = f"socket = {_value(spec.listen)}\n"
    if spec.copies > 1:
        more += f"numprocs = {spec.copies}\nprocess_name = %(program_name)s-%(process_num)d\n"
    return _PROCESS.format(
        kind=kind,
        more=more,
        name=spec.name,
        command=" ".join(_argument(argument) for argument in spec.argv),
        directory=_value(str(spec.cwd)),
        environment=",".join(f"{name}={_quoted(value)}" for name, value in spec.env.items()),
        priority=spec.priority,
        refused=REFUSED,
        stop_wait_s=math.ceil(spec.stop_wait_s),
        stops_as_group=str(spec.stops_as_group).lower(),
        log=_log(spec, logs),
        log_bytes=_LOG_BYTES,
        log_files=_LOG_FILES,
    )


def _log(spec: ProcessSpec, logs: Path) -> str:
    """Return the log's path, the one value that is %-expanded twice."""
    copy = "-%%(process_num)d" if spec.copies > 1 else ""
    return _value(_value(str(logs / spec.name))) + copy + ".log"


def _argument(argument: str) -> str:
    """Return one word of a command line. Every blank is quoted, so no ` #` can arise."""
    _refuse_line_breaks(argument)
    return "".join(map(_character, argument)) or "''"


def _character(character: str) -> str:
    if character == "%":
        return "%%"
    if _SAFE.fullmatch(character):
        return character
    return f"'{character}'" if character.isspace() else f"\\{character}"


def _quoted(value: str) -> str:
    """Return the value of an environment variable, in which supervisord has no escapes."""
    mark = "'" if '"' in value else '"'
    if mark in value or value.strip("'\"") != value:
        raise _unwritable(value)
    return mark + _value(value) + mark


def _value(text: str) -> str:
    """Return a bare value."""
    _refuse_line_breaks(text)
    if text != text.strip() or re.search(r"\s[#;]", text):
        raise _unwritable(text)
    return text.replace("%", "%%")


def _refuse_line_breaks(text: str) -> None:
    if "\0" in text or len(text.splitlines()) > 1 or text.endswith(("\n", "\r")):
        raise _unwritable(text)


def _unwritable(text: str) -> UsageError:
    return UsageError(
        "A supervisord.conf cannot hold this path or value.",
        found=repr(text),
        expected="no line break, no blank at either end, no ` #` or ` ;`, not both kinds of quotes",
        next_step="Choose another path for the home directory or the Python environment.",
    )
