"""A real S3 server of this process: moto's, over HTTP on the loopback interface.

It honours `If-None-Match: *`, and accepts a wrong checksum.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
import httpx
import pytest
from botocore.loaders import JSONFileLoader, Loader, create_loader
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

KEYS = {
    "AWS_ACCESS_KEY_ID": "warung",
    "AWS_SECRET_ACCESS_KEY": "sesame",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_ADMIN = {
    "aws_access_key_id": "admin",
    "aws_secret_access_key": "admin",
    "region_name": "us-east-1",
}


_ALONE, _put = threading.Lock(), S3Response.put_object


def _put_alone(self: S3Response) -> Any:
    """Write an object as S3 does: moto looks for an existing one and writes in two steps."""
    with _ALONE:
        return _put(self)


S3Response.put_object = _put_alone


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
    """Make s3:// mean the server at this address; child processes inherit it.

    The client asks once: between its attempts it sleeps, and tries are not what is tested here.
    Each of the clients, of which a test has several, would read public certificates and
    descriptions of services anew, for 0.1 s, and list four hundred directories of descriptions.
    """
    for name, value in {
        **keys,
        "AWS_ENDPOINT_URL": address,
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CA_BUNDLE": os.environ["SSL_CERT_FILE"],
    }.items():
        patch.setenv(name, value)
    patch.setattr(JSONFileLoader, "load_file", lambda _, path: _description(path))
    patch.setattr(Loader, "list_available_services", lambda _, type_name: _services(type_name))
    S3FileSystem.clear_instance_cache()


@cache
def _services(
    type_name: str,
    listed: Callable[[Loader, str], list[str]] = Loader.list_available_services,
) -> list[str]:
    return listed(create_loader(), type_name)


@cache
def _description(path: str, load: Callable[..., object] = JSONFileLoader.load_file) -> object:
    return load(JSONFileLoader(), path)


@contextmanager
def reader_only(address: str) -> Iterator[dict[str, str]]:
    """Yield keys that may read everything and write nothing, while the server checks rights."""
    iam = boto3.client("iam", endpoint_url=address, **_ADMIN)
    iam.create_user(UserName="reader")
    policy = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [policy]})
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=document)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    httpx.post(f"{address}/moto-api/reset-auth", content="0").raise_for_status()
    try:
        yield {
            **KEYS,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
    finally:
        httpx.post(f"{address}/moto-api/reset-auth", content="inf").raise_for_status()
        iam.delete_access_key(UserName="reader", AccessKeyId=key["AccessKeyId"])
        iam.delete_user_policy(UserName="reader", PolicyName="read")
        iam.delete_user(UserName="reader")


def make_bucket(address: str, name: str) -> None:
    boto3.client("s3", endpoint_url=address, **_ADMIN).create_bucket(Bucket=name)
