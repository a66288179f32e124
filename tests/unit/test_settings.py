from __future__ import annotations

from pathlib import Path

import pytest

from coherence_grpc.config import SETTINGS, load_settings
from coherence_grpc.errors import SettingsInvalid

BLIZZARD_US = 1_360_281_600_000_000


def test_every_value_has_a_default_and_says_so() -> None:
    settings = load_settings({}, {})

    assert (settings.grpc, settings.http, settings.data) == ("127.0.0.1:50051", "127.0.0.1:4000", Path("data"))
    assert settings.metrics is None
    assert settings.runtime_file == Path("data/runtime.json")
    assert set(settings.sources.values()) == {"default"}
    assert not settings.simulated


def test_a_flag_beats_the_environment_and_the_environment_the_default() -> None:
    environment = {"COHERENCE_GRPC": "127.0.0.1:1", "COHERENCE_HTTP": "127.0.0.1:2", "COHERENCE_PROFILE": ""}

    settings = load_settings({"grpc": "127.0.0.1:3", "http": None}, environment)

    assert (settings.grpc, settings.http, settings.profile) == ("127.0.0.1:3", "127.0.0.1:2", "dev")
    assert settings.sources["grpc"] == "flag --grpc"
    assert settings.sources["http"] == "environment COHERENCE_HTTP"
    assert settings.sources["profile"] == "default"


def test_all_rows_are_told_as_they_would_be_given() -> None:
    rows = {name: value for name, value, _ in load_settings({"http": "off", "allow_unlimited": False}, {}).rows()}

    assert list(rows) == [setting.name for setting in SETTINGS]
    assert (rows["http"], rows["allow_unlimited"], rows["max_store_bytes"]) == ("", "false", "")


def test_a_simulated_clock_starts_at_an_instant_with_an_offset() -> None:
    utc = load_settings({"clock_start": "2013-02-08T00:00:00Z", "clock_speed": "600"}, {})
    offset = load_settings({"clock_start": "2013-02-08T01:00:00+01:00"}, {})

    assert (utc.clock_start, utc.clock_speed, utc.simulated) == (BLIZZARD_US, 600.0, True)
    assert offset.clock_start == BLIZZARD_US


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:65535", "[::1]:50051", "127.8.8.8:1"])
def test_loopback_addresses_are_served_without_authentication(address: str) -> None:
    assert load_settings({"grpc": address, "http": address}, {}).grpc == address


@pytest.mark.parametrize("address", ["0.0.0.0:50051", "[::]:50051", "192.168.1.1:50051", "example.org:50051"])
@pytest.mark.parametrize("name", ["grpc", "http", "metrics"])
def test_a_bind_that_others_can_reach_is_refused(name: str, address: str) -> None:
    with pytest.raises(SettingsInvalid, match="TLS and authentication") as caught:
        load_settings({name: address}, {})

    assert [path for path, _ in caught.value.fields] == [name]
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grpc", "50051"),
        ("grpc", "off"),
        ("grpc", ":50051"),
        ("grpc", "127.0.0.1:65536"),
        ("http", "127.0.0.1:http"),
        ("profile", "staging"),
        ("log", "verbose"),
        ("clock_start", "2013-02-08T00:00:00"),
        ("clock_start", "1969-12-31T23:59:59Z"),
        ("clock_start", "soon"),
        ("clock_speed", "0"),
        ("clock_speed", "-1"),
        ("clock_speed", "nan"),
        ("clock_speed", "inf"),
        ("clock_speed", "fast"),
        ("allow_unlimited", "perhaps"),
        ("max_store_bytes", "1"),
        ("max_store_bytes", "1e9"),
    ],
)
def test_a_value_that_cant_be_served_is_named_with_its_source_and_a_remedy(name: str, value: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({}, {f"COHERENCE_{name.upper()}": value})

    ((path, problem),) = caught.value.fields
    assert path == name
    assert f"environment COHERENCE_{name.upper()}" in problem
    assert "write" in problem


def test_every_wrong_value_is_named_at_once() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({"grpc": "x", "profile": "y"}, {})

    assert [path for path, _ in caught.value.fields] == ["grpc", "profile"]


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ({"clock_speed": "600"}, "clock_speed"),
        ({"clock_start": "2013-02-08T00:00:00Z", "profile": "prod"}, "clock_start"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(flags: dict[str, str], field: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(flags, {})

    assert [path for path, _ in caught.value.fields] == [field]


def test_servers_are_named_by_the_variables_that_everybody_knows() -> None:
    settings = load_settings(
        {},
        {
            "NEO4J_URI": "bolt://graph:7687",
            "NEO4J_USER": "me",
            "NEO4J_PASSWORD": "secret",
            "POSTGRES_URI": "postgresql://me:secret@db/scores",
            "REDIS_URL": "redis://:secret@cache:6379/0",
            "COHERENCE_CURSOR_KEYS": f"2:{'ab' * 16},1:{'cd' * 16}",
        },
    )

    assert (settings.neo4j_uri, settings.neo4j_user) == ("bolt://graph:7687", "me")
    assert settings.cursor_keys == ((2, b"\xab" * 16), (1, b"\xcd" * 16))
    shown = {name: value for name, value, _ in settings.rows()}
    assert "secret" not in str(shown)
    assert (shown["postgres_uri"], shown["redis_url"]) == ("postgresql://db/scores", "redis://cache:6379/0")
    assert [shown[name] for name in ("neo4j_password", "cursor_keys")] == ["(hidden)"] * 2


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@db:5432/scores", "postgresql://db:5432/scores"),
        ("postgresql://me:secret@a:1,[::1]:2/scores?sslmode=require", "postgresql://a:1,[::1]:2/scores"),
        ("postgresql:///scores?host=/run/postgresql&password=secret", "postgresql:///scores"),
        ("postgresql://me:se@cret@db/scores", "postgresql://db/scores"),
        ("postgresql://me:secret?more@db/scores", "(hidden)"),
        ("postgresql://me@db/scores?password=a@secret", "(hidden)"),
        ("postgresql://me:secret", "(hidden)"),
        ("postgresql://me:secret/more@db/scores", "postgresql://db/scores"),
    ],
)
def test_an_address_is_shown_without_its_password_wherever_that_stands(uri: str, shown: str) -> None:
    settings = load_settings({}, {"POSTGRES_URI": uri})

    assert {name: value for name, value, _ in settings.rows()}["postgres_uri"] == shown


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("NEO4J_URI", "http://graph", "bolt://"),
        ("NEO4J_URI", "bolt://", "name a server"),
        ("POSTGRES_URI", "mysql://u:secret@db", "postgresql://"),
        ("REDIS_URL", "cache:6379", "redis://"),
        ("COHERENCE_CURSOR_KEYS", "1:abcd", "at least 16 bytes"),
        ("COHERENCE_CURSOR_KEYS", f"0:{'ab' * 16}", "ids 1 to 255"),
        ("COHERENCE_CURSOR_KEYS", "secret", "ID:HEX"),
        ("COHERENCE_CACHE_TTL_S", "0", "more than 0"),
        ("COHERENCE_MARKS_TTL_S", "soon", "seconds"),
    ],
)
def test_a_server_that_is_no_address_is_refused_without_repeating_its_password(
    variable: str, value: str, says: str
) -> None:
    with pytest.raises(SettingsInvalid, match=says) as refused:
        load_settings({}, {variable: value, "NEO4J_PASSWORD": "secret"})

    assert variable in refused.value.message
    assert "secret" not in refused.value.message


def test_neo4j_without_a_password_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="NEO4J_PASSWORD is not; set it"):
        load_settings({}, {"NEO4J_URI": "bolt://graph"})


@pytest.mark.parametrize("variable", ["NEO4J_URI", "POSTGRES_URI"])
def test_a_simulated_clock_does_not_go_with_servers(variable: str) -> None:
    uri = "bolt://graph" if variable == "NEO4J_URI" else "postgresql://db"

    with pytest.raises(SettingsInvalid, match="nobody else uses"):
        load_settings({"clock_start": "2013-02-08T00:00:00Z"}, {variable: uri, "NEO4J_PASSWORD": "secret"})


def test_what_may_hold_a_password_has_no_flag() -> None:
    settings = load_settings({"redis_url": "redis://other"}, {})

    assert settings.redis_url is None
    assert [setting.name for setting in SETTINGS if not setting.flag] == [
        "neo4j_password",
        "postgres_uri",
        "redis_url",
        "cursor_keys",
    ]
