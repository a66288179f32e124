"""Secured channels: the client is told whom to believe, and what to show."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import grpc.aio
import pytest

from coherence.v1 import score_pb2
from coherence_grpc.client import TLS, Unavailable, connect
from tests.speaking import speaking

if TYPE_CHECKING:
    from pathlib import Path

    from tests.speaking import Context

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates"),
]


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(
        (
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(cert)),
        ),
        check=True,
        capture_output=True,
    )
    return cert, key


async def answer(request: score_pb2.GetScoreRequest, context: Context) -> score_pb2.GetScoreResponse:
    return score_pb2.GetScoreResponse(score=score_pb2.Score(tenant_id=request.tenant_id))


async def test_a_server_is_believed_that_its_authority_vouches_for(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "server")
    secured = grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])

    async with (
        speaking(scores=answer, credentials=secured) as address,
        connect(address, tls=TLS(ca=cert)) as client,
        connect(address, tls=TLS()) as stranger,
    ):
        score = await client.get_score("acme")
        with pytest.raises(Unavailable):
            await stranger.get_score("acme")

    assert score.tenant_id == "acme"


async def test_a_client_shows_its_certificate(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "server")
    own_cert, own_key = certificate(tmp_path, "client")
    pairs = [(key.read_bytes(), cert.read_bytes())]
    secured = grpc.ssl_server_credentials(pairs, own_cert.read_bytes(), require_client_auth=True)

    async with speaking(scores=answer, credentials=secured) as address:
        tls = TLS(ca=cert.read_bytes(), cert=own_cert, key=own_key)
        async with connect(address, tls=tls) as client, connect(address, tls=TLS(ca=cert)) as nobody:
            score = await client.get_score("acme")
            with pytest.raises(Unavailable):
                await nobody.get_score("acme")

    assert score.tenant_id == "acme"
