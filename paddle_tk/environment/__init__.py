"""Threads, devices, versions and a doctor for them. Importing this package imports no framework."""

from paddle_tk.environment.devices import device_count, hardware, resolve_device
from paddle_tk.environment.threads import available_cores, configure_threads
from paddle_tk.environment.versions import check_versions, environment_report, installed_versions

__all__ = [
    "available_cores",
    "check_versions",
    "configure_threads",
    "device_count",
    "environment_report",
    "hardware",
    "installed_versions",
    "resolve_device",
]
