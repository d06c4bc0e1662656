"""What the page keeps of its visitors is bounded."""

import pytest

pytest.importorskip("gradio")

from gradio.state_holder import StateHolder

from tasks.core.serving.page.app import _blocks
from tasks.core.serving.page.settings import PageSettings

AT_ONCE = 3


def test_of_more_visitors_than_can_be_answered_nothing_is_kept():
    settings = PageSettings(base_url="http://127.0.0.1:1/v1", model_name="m", max_answers=AT_ONCE)
    sessions = StateHolder()
    sessions.set_blocks(_blocks(settings, []))
    for visitor in range(10 * AT_ONCE):
        sessions[str(visitor)]
    kept = list(sessions.session_data)
    assert kept == [str(visitor) for visitor in range(9 * AT_ONCE, 10 * AT_ONCE)]
    assert set(sessions.time_last_used) == set(kept)
