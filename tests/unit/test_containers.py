"""What the schema and the linter don't know of compose.yaml and the Dockerfile."""

from __future__ import annotations

import re
from pathlib import Path

from tests.backends.jars import POM

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "compose.yaml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_the_stores_can_be_reached_from_this_machine_only() -> None:
    published = re.findall(r"ports:\n +- (\S+)\n", COMPOSE)

    assert sorted(published) == ["127.0.0.1:5432:5432", "127.0.0.1:6379:6379", "127.0.0.1:7687:7687"]


def test_every_store_has_a_health_check_and_a_password_that_must_be_chosen() -> None:
    services = re.split(r"\n  (?=\w+:\n    image:)", COMPOSE)[1:]

    assert len(services) == 3
    for service in services:
        assert "healthcheck:" in service
        assert re.search(r"\$\{\w+_PASSWORD:\?", service)


def test_the_stores_run_the_neo4j_that_the_tests_run() -> None:
    version = re.search(r"<neo4j\.version>(.+)</", POM.read_text())

    assert version
    assert f"image: neo4j:{version[1]}-community" in COMPOSE


def test_the_image_is_made_of_hashed_packages_and_runs_without_rights() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    installs = re.findall(r"pip install (.+?)(?: \\)?\n", DOCKERFILE)

    assert "\nUSER 10001:10001\n" in final
    assert [install.split()[0] for install in installs] == ["--require-hashes", "--require-hashes", "--no-deps"]
