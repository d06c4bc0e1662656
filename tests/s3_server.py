"""A real S3 server of this process: moto's, over HTTP on the loopback interface.

It honours `If-None-Match: *`, and accepts a wrong checksum.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

KEYS = {
    "AWS_ACCESS_KEY_ID": "warung",
    "AWS_SECRET_ACCESS_KEY": "sesame",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def s3_server() -> Iterator[str]:
    """Yield the address of a server that ends with the block."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def use(patch: pytest.MonkeyPatch, address: str, keys: dict[str, str] = KEYS) -> None:
    """Make s3:// mean the server at this address; child processes inherit it."""
    for name, value in {**keys, "AWS_ENDPOINT_URL": address}.items():
        patch.setenv(name, value)
    S3FileSystem.clear_instance_cache()


def make_bucket(address: str, name: str) -> None:
    client = boto3.client(
        "s3", endpoint_url=address, aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket=name)
