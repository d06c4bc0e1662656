"""Install, test and remove the channels for notices on the server that commands talk to."""

import os

from flows.command_line.which_server import server_address
from flows.notices.automations import ChannelKind
from flows.notices.channels import install_channels, remove_channels
from flows.notices.trial import Delivery, send_trial


def install_notices() -> list[ChannelKind]:
    """Install the channels that the environment names; return all that the server has now."""
    return install_channels(server_address(), os.environ)


def send_test() -> list[Delivery]:
    """Send a test notice; return its delivery to each channel."""
    return send_trial(server_address())


def remove_notices() -> list[str]:
    """Remove automations and channels; return the names of what was removed."""
    return remove_channels(server_address())
