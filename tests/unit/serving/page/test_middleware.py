"""The page's process from outside: what is there, for whom, and what is not, and how it ends."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("gradio")

from tests.unit.serving.gateway.world import ROOT, free_port
from tests.unit.serving.page.world import CommandsPage, Page, Scripted

API = "/gradio_api"


@pytest.fixture(scope="module")
def page(home: Path) -> Iterator[CommandsPage]:
    """The page as a user starts it, once for all: gradio takes 5 s of a core to import."""
    page = CommandsPage(home)
    yield page
    page.end()


def test_the_page_is_indonesian_whatever_the_browser_speaks(page: CommandsPage):
    html = httpx.get(page.url, headers={"Accept-Language": "en"}).text
    assert '<html lang="id"' in html
    assert "defineProperty(navigator" in html
    assert "raw.githubusercontent.com" not in html


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("GET", path) for path in ("/docs", "/openapi.json", "/monitoring", f"{API}/info")],
        *[("GET", f"{API}/{path}") for path in ("openapi.json", "runs", "vibe-code")],
        ("GET", f"{API}/file=/etc/passwd"),
        ("GET", f"{API}/proxy=http://example.com"),
        *[
            ("POST", f"{API}/{path}")
            for path in ("upload", "run/ask", "call/ask", "component_server")
        ],
        ("POST", "/"),
    ],
)
def test_what_the_page_does_not_need_is_not_there(page: CommandsPage, method: str, path: str):
    answer = httpx.request(method, page.url + path)
    assert answer.status_code == 404
    assert answer.text == "Halaman ini tidak ada."


def test_gradios_own_views_are_not_opened(page: CommandsPage):
    answer = httpx.get(f"{page.url}/?view=api")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_its_api_describes_no_function(page: CommandsPage):
    config = httpx.get(f"{page.url}/config").json()
    visible = {each["api_visibility"] for each in config["dependencies"]}
    assert visible == {"private"}
    assert not config["analytics_enabled"]


def test_a_long_body_is_refused_declared_or_in_pieces(page: CommandsPage):
    long = b"x" * 1_100_000
    pieces = iter([long[:600_000], long[600_000:]])
    for body in (long, pieces):
        answer = httpx.post(f"{page.url}{API}/queue/join", content=body)
        assert answer.status_code == 413


def test_a_page_of_another_site_can_neither_ask_nor_show_it(page: CommandsPage):
    foreign = httpx.post(
        f"{page.url}{API}/queue/join", json={}, headers={"Origin": "https://example.com"}
    )
    assert foreign.status_code == 403
    assert "frame-ancestors 'none'" in httpx.get(page.url).headers["content-security-policy"]


def test_another_name_for_this_machine_leads_nowhere(page: CommandsPage):
    answer = httpx.get(page.url, headers={"Host": f"example.com:{page.port}"})
    assert answer.status_code == 421


def test_it_listens_on_loopback_only_and_loads_no_torch(page: CommandsPage):
    connections = psutil_connections(page)
    assert {each.laddr.ip for each in connections} == {"127.0.0.1"}
    mapped = Path(f"/proc/{page.pid}/maps").read_text()
    assert "libtorch" not in mapped


def psutil_connections(page: CommandsPage):
    import psutil

    return psutil.Process(page.pid).net_connections("tcp")


def test_a_taken_port_is_told_in_words(tmp_path: Path, scripted: Scripted):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        page = Page(tmp_path, scripted.url, wait=False)
        page.settings.write_text(
            page.settings.read_text().replace(str(page.port), str(taken.getsockname()[1]))
        )
        page.end()
        again = started(page.settings)
    assert again.returncode == 1
    assert "The page cannot listen at its address." in again.stdout
    assert "Traceback" not in again.stdout + again.stderr


@pytest.mark.parametrize("content", ["", "{}", '{"base_url": "x", "model_name": "y", "prot": 1}'])
def test_wrong_settings_are_told_in_words(tmp_path: Path, content: str):
    file = tmp_path / "settings.json"
    file.write_text(content)
    ended = started(file)
    assert ended.returncode == 2
    assert "settings cannot be read" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_examples_that_are_none_are_told_in_words(tmp_path: Path):
    prompts = tmp_path / "prompts.json"
    prompts.write_text('[{"prompt": 1}]')
    file = tmp_path / "settings.json"
    file.write_text(
        f'{{"base_url": "http://127.0.0.1:1/v1", "model_name": "m", "port": {free_port()}, '
        f'"prompts": "{prompts}"}}'
    )
    ended = started(file)
    assert ended.returncode == 2
    assert "The examples of the page cannot be read." in ended.stdout


def started(settings: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "tasks.core.serving.page", str(settings)],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(settings.parent)},
        check=False,
    )


def test_the_page_is_in_the_foreground_and_ends_with_its_command(page: CommandsPage):
    """The last one here: all of them ask this page."""
    assert page.first_line == f"The page is at {page.url} - Ctrl-C ends it.\n"
    assert httpx.get(f"{page.url}/health").is_success
    page.command.send_signal(signal.SIGINT)
    assert page.command.wait(60) == 130
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{page.url}/health")
