"""Writes gen/ from protos/, without a network: Python modules, stubs, and the descriptor image that buf and ghz read.

The protovalidate wheel carries the descriptor of validate.proto but not the file, so its descriptor joins the others in
a set that protoc reads through --descriptor_set_in.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Final

from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

ROOT: Final = Path(__file__).resolve().parent.parent
IMPORTS: Final = (
    "google.protobuf.descriptor_pb2",
    "google.protobuf.any_pb2",
    "google.protobuf.duration_pb2",
    "google.protobuf.field_mask_pb2",
    "google.protobuf.timestamp_pb2",
    "google.rpc.status_pb2",
)
VALIDATE: Final = "buf/validate/validate.proto"
PLUGINS: Final = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")


def imported() -> descriptor_pb2.FileDescriptorSet:
    """The descriptors that our protos import, each after what it needs."""
    found = descriptor_pb2.FileDescriptorSet()
    for name in IMPORTS:
        import_module(name).DESCRIPTOR.CopyToProto(found.file.add())
    found.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    return found


def run(*arguments: str) -> None:
    """Runs protoc in this process and stops with its exit code when it fails."""
    if code := protoc.main(["protoc", *arguments]):
        sys.exit(code)


def main(out: Path) -> None:
    """Writes everything below `out`."""
    sources = sorted(str(p.relative_to(ROOT / "protos")) for p in (ROOT / "protos").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        imports = Path(folder) / "imports.binpb"
        imports.write_bytes(imported().SerializeToString())
        (out / "coherence").mkdir(parents=True, exist_ok=True)
        beside = Path(sys.executable).parent
        common = (
            f"--proto_path={ROOT / 'protos'}",
            f"--descriptor_set_in={imports}",
            *(f"--plugin={name}={beside / name}" for name in PLUGINS),
        )
        run(
            *common,
            f"--python_out={out}",
            f"--mypy_out=quiet:{out}",
            *sources,
            VALIDATE,
        )
        run(
            *common,
            f"--grpc_python_out={out}",
            f"--mypy_grpc_out=quiet,only_async:{out}",
            *sources,
        )
        image = out / "coherence" / "image.binpb"
        run(*common, "--include_imports", "--include_source_info", f"--descriptor_set_out={image}", *sources)
    (out / "coherence" / "py.typed").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "gen")
