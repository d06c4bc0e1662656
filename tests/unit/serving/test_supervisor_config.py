"""What is written into supervisord.conf, read back by supervisord's own parser."""

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from supervisor.options import ServerOptions

from tasks.core.errors import UsageError
from tasks.core.serving.supervision.process_spec import ProcessSpec
from tasks.core.serving.supervision.supervisor_config import supervisor_config

AWKWARD = st.text(st.sampled_from("ab %\\'\"#;=,()[]{}$&~\té"), max_size=12)


def read_back(root: Path, argv: tuple[str, ...], env: dict[str, str]) -> ServerOptions:
    spec = ProcessSpec(name="worker", argv=argv, env=env, cwd=root, priority=1)
    text = supervisor_config([spec], directory=root, logs=root, socket=root / "s.sock")
    (root / "supervisord.conf").write_text(text)
    options = ServerOptions()
    options.realize(["-c", str(root / "supervisord.conf")])
    return options


def the_process(options: ServerOptions):
    return options.process_group_configs[0].process_configs[0]


@hypothesis_settings(max_examples=100)
@given(words=st.lists(AWKWARD, min_size=1, max_size=4))
def test_supervisord_runs_every_command_line_as_it_was_meant(tmp_path_factory, words):
    options = read_back(tmp_path_factory.mktemp("conf"), ("python", *words), {})
    assert shlex.split(the_process(options).command) == ["python", *words]


@hypothesis_settings(max_examples=100)
@given(value=AWKWARD)
def test_supervisord_sets_a_variable_as_it_was_meant_or_it_is_refused(tmp_path_factory, value):
    try:
        options = read_back(tmp_path_factory.mktemp("conf"), ("python",), {"A": value, "B": "x"})
    except UsageError:
        return
    assert the_process(options).environment == {"A": value, "B": "x"}


def test_a_home_with_blanks_and_signs_is_usable(tmp_path):
    root = tmp_path / "100% usaha (kawan), é"
    root.mkdir()
    options = read_back(root, ("python", str(root)), {"LOGDIR": "", "CACHE": str(root)})
    process = the_process(options)
    assert shlex.split(process.command) == ["python", str(root)]
    assert process.environment == {"LOGDIR": "", "CACHE": str(root)}
    assert process.directory == str(root)
    assert process.stdout_logfile == str(root / "worker.log")
    assert options.logfile == str(root / "supervisord.log")
    assert options.serverurl == f"unix://{root / 's.sock'}"


def test_a_home_whose_path_would_be_cut_off_as_a_comment_is_refused(tmp_path):
    root = tmp_path / "usaha #1"
    root.mkdir()
    with pytest.raises(UsageError, match=r"supervisord\.conf cannot hold"):
        read_back(root, ("python",), {})


@pytest.mark.parametrize(
    "value", ["a\nb", "a\0b", "a\r", "a\u2028b", "both ' and \"", "x #y", "x ;y"]
)
def test_a_value_that_supervisord_would_read_otherwise_is_refused(tmp_path, value):
    with pytest.raises(UsageError, match=r"supervisord\.conf cannot hold"):
        read_back(tmp_path, ("python",), {"NAME": value})


def test_processes_wait_for_the_word_and_are_kept_running_but_for_a_refusal(tmp_path):
    process = the_process(read_back(tmp_path, ("python",), {}))
    assert not process.autostart
    assert process.autorestart
    assert process.exitcodes == [78]
    assert process.stopasgroup
    assert process.killasgroup


def test_logs_are_rotated(tmp_path):
    process = the_process(read_back(tmp_path, ("python",), {}))
    assert process.stdout_logfile_maxbytes == 10_000_000
    assert process.stdout_logfile_backups == 3
    assert process.redirect_stderr
