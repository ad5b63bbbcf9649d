"""Who this device is: host name plus the end of the CPU serial, since every Pi is called raspberrypi."""
import re
import socket
import uuid

CPU_INFO = "/proc/cpuinfo"
MACHINE_ID = "/etc/machine-id"
_END = 6  # hex digits of the serial that go into the name: 16 million


def _first_match(path, pattern):
    try:
        with open(path) as lines:
            match = re.search(pattern, lines.read(), re.MULTILINE)
    except OSError:
        return None
    return match.group(1) if match else None


def _node():
    """This machine's network address as hex digits; None when Python could only invent one (it changes each time)."""
    node = uuid.getnode()
    return None if node >> 40 & 1 else "%012x" % node


def hardware_serial(cpu_info=CPU_INFO, machine_id=MACHINE_ID):
    """Hex digits that stay with this machine: CPU serial, else machine id, else network address; "" without any."""
    serial = _first_match(cpu_info, r"^Serial\s*:\s*([0-9a-fA-F]+)\s*$")
    if serial and serial.strip("0"):
        return serial.lower()
    return _first_match(machine_id, r"^([0-9a-fA-F]{8,})\s*$") or _node() or ""


def device_id(host=None, serial=None):
    """Default device id, such as raspberrypi-3fe2a1: fit for a topic level, the same at each start."""
    host = socket.gethostname() if host is None else host
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", host.split(".")[0]).strip("-")[:64] or "device"
    end = (hardware_serial() if serial is None else serial)[-_END:]
    return "%s-%s" % (name, end) if end else name
