"""What a process is started with (Settings) and what can change while it runs (Runtime)."""

from coherence_grpc.config.runtime import SWITCHES, Runtime, edit_switches, read_switches
from coherence_grpc.config.settings import DEFAULT_GRPC, SETTINGS, Setting, Settings, is_loopback, load_settings

__all__ = [
    "DEFAULT_GRPC",
    "SETTINGS",
    "SWITCHES",
    "Runtime",
    "Setting",
    "Settings",
    "edit_switches",
    "is_loopback",
    "load_settings",
    "read_switches",
]
