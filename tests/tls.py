"""TLS before a port of this machine, with a certificate that nobody else has signed.

python -m tests.tls LISTEN_PORT PORT CERTIFICATE KEY
"""

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Certified(NamedTuple):
    certificate: Path
    key: Path


def certified(directory: Path) -> Certified:
    """Make a certificate of 127.0.0.1 that has signed itself."""
    directory.mkdir()
    made = Certified(directory / "certificate.pem", directory / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=worker", "-addext"),
            *("subjectAltName=IP:127.0.0.1,IP:127.0.0.2", "-out", str(made.certificate)),
            *("-keyout", str(made.key)),
        ],
        check=True,
        capture_output=True,
    )
    return made


async def _relay(listen: int, port: int, certificate: str, key: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(65536):
                sink.write(piece)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, behind_writer), pump(behind_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", listen, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_relay(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
