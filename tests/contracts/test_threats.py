"""The threat model is true: each test that docs/security.md names for a mitigation is there."""

import re

from tasks.core.home import PROJECT

PAGE = (PROJECT / "docs" / "security.md").read_text()
THREATS = PAGE.partition("## Threats and mitigations")[2].partition("\n## ")[0]
LINES = [line for line in THREATS.splitlines() if line.startswith("| ")][1:]


def test_each_threat_names_its_tests_and_they_are_there() -> None:
    assert len(LINES) > 15
    for line in LINES:
        named = re.findall(r"`(tests/[\w/]+\.py)`", line)
        assert named, line
        assert [name for name in named if not (PROJECT / name).is_file()] == []
