"""`python -m tasks.core.demo.hub --root DIR`: run the embedded Hub until it is stopped."""

import argparse
import sys
from pathlib import Path

from tasks.core.demo.hub.server import serve_hub
from tasks.core.errors import KawanUsahaError


def main() -> int:
    """Serve, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.core.demo.hub", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where the Hub keeps everything")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--ready-file", type=Path, help="gets the address once the Hub answers")
    options = parser.parse_args()
    try:
        serve_hub(options.root, host=options.host, port=options.port, ready_file=options.ready_file)
    except KawanUsahaError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
