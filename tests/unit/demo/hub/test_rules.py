"""Who may write: the answer tells a client what it lacks."""

import pytest

from tasks.core.demo.hub.access import HubAccount, require_writer
from tasks.core.demo.hub.answers import HubRefusal


@pytest.mark.parametrize(
    ("account", "status"),
    [(None, 401), (HubAccount("warung", role="read"), 403), (HubAccount("toko"), 403)],
)
def test_whoever_may_not_write_is_told_so_by_the_status(
    account: HubAccount | None, status: int
) -> None:
    with pytest.raises(HubRefusal) as told:
        require_writer(account, "warung/model")
    assert told.value.status == status


@pytest.mark.parametrize(
    "account", [HubAccount("warung"), HubAccount("a", organizations=("warung",))]
)
def test_an_owner_may_write(account: HubAccount) -> None:
    assert require_writer(account, "warung/model") == account
