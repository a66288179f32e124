"""Three calls to copy and paste, that work against the running demo."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final, NamedTuple

METHOD: Final = "coherence.v1.ScoreService/GetScore"
OPERATION: Final = "pq_tenant_coherence_v1"


class Call(NamedTuple):
    """What it shows, and the command line."""

    title: str
    command: str


def calls(grpc: str, http: str, tenant: str) -> list[Call]:
    """One on gRPC from the shell, one on GraphQL with curl, one from Python."""
    return [
        Call("gRPC", _grpc(grpc, tenant)),
        Call("GraphQL, a persisted operation", _graphql(http, tenant)),
        Call("Python", _python(grpc, tenant)),
    ]


def _grpc(address: str, tenant: str) -> str:
    request = f'{{"tenant_id":"{tenant}"}}'
    buf = Path(sys.executable).with_name("buf")
    if buf.exists() and not shutil.which("grpcurl"):
        return f"{_near(buf)} curl --protocol grpc --http2-prior-knowledge -d '{request}' http://{address}/{METHOD}"
    return f"grpcurl -plaintext -d '{request}' {address} {METHOD}"


def _graphql(address: str, tenant: str) -> str:
    body = f'{{"documentId":"{OPERATION}","variables":{{"tenantId":"{tenant}"}}}}'
    return f"curl -s http://{address}/graphql -H 'content-type: application/json' -d '{body}'"


def _python(address: str, tenant: str) -> str:
    program = (
        "import grpc; from coherence.v1 import score_pb2 as pb, score_pb2_grpc as rpc; "
        f'print(rpc.ScoreServiceStub(grpc.insecure_channel("{address}"))'
        f'.GetScore(pb.GetScoreRequest(tenant_id="{tenant}")).score)'
    )
    return f"{_near(Path(sys.executable))} -c '{program}'"


def _near(path: Path) -> str:
    """The path as one would type it from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
