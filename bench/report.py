"""What a run found: figures beside their references, as a table and as JSON."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import gmtime, strftime
from typing import TYPE_CHECKING, Final

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "bench" / "results"
PACKAGES: Final = (
    *("grpcio", "protobuf", "protovalidate", "apsw", "neo4j", "psycopg", "redis"),
    *("uvloop", "litestar", "strawberry-graphql", "uvicorn"),
)
_LEAST_DECIMAL: Final = 0.001
_DECIMALS_BELOW: Final = ((1, 3), (100, 2), (1000, 1))


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should reach: its `value` or its `ratio`, at least or at most `bound`."""

    bound: float
    of: str = "value"
    at_most: bool = False

    def met(self, figure: Figure) -> bool:
        """The figure reaches it."""
        reached = figure.ratio if self.of == "ratio" else figure.value
        if reached is None:
            return False
        return reached <= self.bound if self.at_most else reached >= self.bound

    def __str__(self) -> str:
        sign = "≤" if self.at_most else "≥"
        return f"{'ratio ' if self.of == 'ratio' else ''}{sign} {shown(self.bound)}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number, beside what it is measured against; `not_run` says why there is none.

    `samples` are all raw numbers behind it, `details` what else is worth knowing.
    """

    name: str
    value: float | None = None
    unit: str = ""
    reference: float | None = None
    reference_name: str = ""
    targets: Sequence[Target] = ()
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)
    not_run: str = ""

    @property
    def ratio(self) -> float | None:
        """The value as a part of the reference."""
        return self.value / self.reference if self.value is not None and self.reference else None

    @property
    def met(self) -> bool | None:
        """Every target is reached; None when there is no target, or no value."""
        if self.value is None or not self.targets:
            return None
        return all(target.met(self) for target in self.targets)


def shown(number: float | None) -> str:
    """A number for people."""
    if number is None:
        return "–"
    if 0 < abs(number) < _LEAST_DECIMAL:
        return f"{number:.1g}"
    decimals = next((places for bound, places in _DECIMALS_BELOW if abs(number) < bound), 0)
    text = f"{number:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def table(figures: Sequence[Figure]) -> Table:
    """The figures as rows."""
    rows = Table(title="coherence bench", title_justify="left")
    rows.add_column("figure")
    for name in ("value", "reference", "ratio"):
        rows.add_column(name, justify="right")
    rows.add_column("target")
    rows.add_column("met")
    for figure in figures:
        reference = f"{shown(figure.reference)} ({figure.reference_name})" if figure.reference_name else "–"
        value = f"not run: {figure.not_run}" if figure.value is None else f"{shown(figure.value)} {figure.unit}"
        rows.add_row(
            figure.name,
            value,
            reference,
            shown(figure.ratio),
            ", ".join(map(str, figure.targets)) or "–",
            {True: "[green]yes[/]", False: "[red]no[/]", None: "–"}[figure.met],
        )
    return rows


def document(figures: Sequence[Figure], *, quick: bool, elapsed_s: float) -> dict[str, object]:
    """Everything about a run, ready for JSON."""
    return {
        "at": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime()),
        "quick": quick,
        "elapsed_s": round(elapsed_s, 1),
        "commit": _said("git", "rev-parse", "HEAD"),
        "changed_files": len(_said("git", "status", "--porcelain").splitlines()),
        "machine": machine(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "figures": [_entry(figure) for figure in figures],
    }


def _entry(figure: Figure) -> dict[str, object]:
    own = asdict(figure) | {"targets": list(map(str, figure.targets))}
    return own | {"ratio": figure.ratio, "met": figure.met}


def machine() -> dict[str, object]:
    """Processor, cores, memory and kernel."""
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(models),
        "memory_mib": int(memory) // 1024,
        "kernel": platform.release(),
        "load_average": _lines("/proc/loadavg")[0].split()[:3],
    }


def written(report: Mapping[str, object], folder: Path, stem: str) -> Path:
    """Keeps the report and says where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return path


def progress(text: str) -> None:
    """A line for who waits; the report itself is on standard output."""
    print(text, file=sys.stderr, flush=True)


def _said(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return [""]
