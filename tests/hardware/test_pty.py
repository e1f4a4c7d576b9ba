"""Real bytes through a real pty: our own port, and the vendors' clients against the emulated servos."""

import errno
import os
import pty
import select
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial

from hardware.emulator.pty_port import Pty
from hardware.servos.feetech.bus import FeetechBus
from hardware.servos.port_users import PortShared, programs_on, require_alone
from hardware.servos.ports import PortUnavailable, SerialPort
from sim2real.errors import BusError, PortError, Sim2RealError, UserError

from .conftest import Rig

pytestmark = pytest.mark.realtime


class Served(Rig):
    """A rig behind a pty, served by a thread."""

    def __init__(self, link: Path | None = None) -> None:
        super().__init__()
        self.pty = Pty(self.line, link=link)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.pty.serve, kwargs={"until": self._stop.is_set})
        self._thread.start()

    def halt(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def served() -> Iterator[Served]:
    rig = Served()
    yield rig
    rig.halt()
    rig.pty.close()


def _open(name: str) -> FeetechBus:
    # A generous allowance: the machine that runs the tests may be busy, and time is not what is tested.
    return FeetechBus(SerialPort(name), allowance=0.2)


def test_our_driver(served: Served) -> None:
    bus = _open(served.pty.port)
    assert [bus.ping(id, 1.0) for id in served.ids] == [0] * 6
    bus.sync_write("goal_position", served.ids, [2048] * 6)
    bus.sync_write("torque_enable", served.ids, [1] * 6)
    reading = bus.sync_read(served.ids, 42, 2)
    assert reading.valid.all()
    assert reading.data.tobytes() == b"\x00\x08" * 6
    assert bus.statistics.servos[1].error_rate == 0
    bus.close()


class Vendor:
    """The vendor's client. It gives servos some 35 ms and cannot clear late replies: both are made up for here,
    because the machine that runs the tests may be busy and time is not what is tested."""

    def __init__(self, name: str) -> None:
        sdk = pytest.importorskip("scservo_sdk")
        self.sdk = sdk
        self.port = sdk.PortHandler(name)
        assert self.port.openPort() and self.port.setBaudRate(1_000_000)
        self.handler = sdk.protocol_packet_handler()

    def ask(self, call: str, *arguments: object) -> tuple:
        """The last attempt's answer; its second to last element is the result, 0 for success."""
        answer: tuple = ()
        for _ in range(20):
            answer = getattr(self.handler, call)(self.port, *arguments)
            if answer[-2] == 0:
                break
            time.sleep(0.1)
            self.port.ser.reset_input_buffer()
        return answer


@pytest.fixture
def vendor(served: Served) -> Iterator[Vendor]:
    # The vendor's client waits busily, in the interpreter that also runs the servos.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    client = Vendor(served.pty.port)
    yield client
    client.port.closePort()
    sys.setswitchinterval(interval)


def test_vendor_client(served: Served, vendor: Vendor) -> None:
    sdk, port, handler = vendor.sdk, vendor.port, vendor.handler
    for id in served.ids:
        assert vendor.ask("ping", id) == (777, 0, 0)
    assert vendor.ask("write2ByteTxRx", 2, 42, 1500) == (0, 0)
    assert vendor.ask("read2ByteTxRx", 2, 42) == (1500, 0, 0)
    assert vendor.ask("regWriteTxRx", 3, 42, 2, [0x10, 0x05]) == (0, 0)
    assert handler.action(port, 254) == 0
    assert vendor.ask("read2ByteTxRx", 3, 42)[0] == 0x0510
    write = sdk.GroupSyncWrite(port, handler, 42, 2)
    for id in served.ids:
        assert write.addParam(id, [id, 4])
    assert write.txPacket() == 0
    read = sdk.GroupSyncRead(port, handler, 42, 2)
    for id in served.ids:
        assert read.addParam(id)
    for _ in range(20):
        if read.txRxPacket() == 0:
            break
        time.sleep(0.1)
        port.ser.reset_input_buffer()
    assert [read.getData(id, 42, 2) for id in served.ids] == [1024 + id for id in served.ids]


def test_rustypot(served: Served) -> None:
    rustypot = pytest.importorskip("rustypot")
    client = rustypot.Sts3215PyController(served.pty.port, 1_000_000, 1.0)
    assert client.ping(1)
    assert client.read_model_number(4) == 777 or client.read_model_number(4)[0] == 777
    client.sync_write_raw_data(list(served.ids), 42, [[id, 5] for id in served.ids])
    answer = client.sync_read_raw_data(list(served.ids), 42, 2)
    assert [list(row) for row in answer] == [[id, 5] for id in served.ids]
    client.close()


def test_clients_get_the_same_answers(served: Served, vendor: Vendor) -> None:
    theirs = {id: vendor.ask("readTxRx", id, 0, 40) for id in served.ids}
    bus = _open(served.pty.port)
    for id in served.ids:
        assert theirs[id] == (list(bus.read_block(id, 0, 40, 1.0)), 0, 0)
    bus.close()


def test_a_client_at_the_wrong_rate_hears_nothing(served: Served) -> None:
    bus = FeetechBus(SerialPort(served.pty.port, baud=500_000), allowance=0.05)
    assert not bus.sync_read(served.ids, 56, 6).valid.any()
    bus.close()


def test_a_port_takes_no_more_than_the_line_can_carry(served: Served) -> None:
    """Noise by the megabyte blocks its sender, as a real port does; soon after it the servos answer as ever."""
    descriptor = os.open(served.pty.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    written = 0
    with pytest.raises(BlockingIOError):
        while written < 1_000_000:
            written += os.write(descriptor, bytes(4096))
    assert served.line.backlog(served.pty.now()) < 0.2
    os.close(descriptor)
    bus = _open(served.pty.port)
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        try:
            assert bus.ping(1, 1.0) == 0
            break
        except Sim2RealError:
            continue
    else:
        raise AssertionError("the servos are deaf")
    bus.close()


def test_second_opener_is_refused(served: Served) -> None:
    first = SerialPort(served.pty.port)
    with pytest.raises(PortUnavailable, match="busy.*close that program"):
        SerialPort(served.pty.port)
    first.close()
    SerialPort(served.pty.port).close()


def test_missing_port_names_what_there_is() -> None:
    with pytest.raises(UserError, match="there is no serial port /dev/nosuch; ports on this machine"):
        SerialPort("/dev/nosuch")


def test_a_file_is_not_a_port(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(PortUnavailable, match="not a serial port"):
        SerialPort(str(path))


def test_missing_permission_says_how_to_permit(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as root, who is permitted everything, so the system's refusal is put in its place.
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(PortUnavailable, match=r"no permission to use .*; .*sudo (usermod -aG|chmod)"):
        SerialPort(served.pty.port)


def test_unplugging_becomes_one_exception_everywhere(tmp_path: Path) -> None:
    rig = Served()
    port = SerialPort(rig.pty.port)
    bus = FeetechBus(port, allowance=0.05)
    assert bus.ping(1, 1.0) == 0
    rig.halt()
    rig.pty.hang_up()
    for attempt in (
        lambda: port.read(10, port.now() + 0.05),
        lambda: port.write(b"x"),
        port.discard_input,
        lambda: bus.read(1, "id"),
        lambda: bus.sync_read((1, 2), 56, 6),
    ):
        with pytest.raises(PortError):
            attempt()
    port.close()
    port.close()
    with pytest.raises(PortError):
        port.write(b"x")


def test_link_is_made_and_removed(tmp_path: Path) -> None:
    link = tmp_path / "ttyARM"
    rig = Served(link)
    assert os.readlink(link) == rig.pty.port
    bus = _open(str(link))
    assert bus.ping(1, 1.0) == 0
    bus.close()
    rig.halt()
    rig.pty.close()
    assert not link.is_symlink()


def test_link_overwrites_nothing(tmp_path: Path) -> None:
    link = tmp_path / "ttyARM"
    rig = Served(link)
    with pytest.raises(UserError, match="is not overwritten"):
        Pty(rig.line, link=link)
    rig.halt()
    rig.pty.close()
    # Somebody's link to an adapter that is not plugged in just now.
    link.symlink_to(tmp_path / "ttyUSB7")
    with pytest.raises(UserError, match="exists and is a link to .*ttyUSB7; it is not overwritten"):
        Pty(rig.line, link=link)
    assert os.readlink(link) == str(tmp_path / "ttyUSB7")
    link.unlink()
    link.write_text("precious")
    with pytest.raises(UserError, match="is not overwritten"):
        Pty(rig.line, link=link)
    assert link.read_text() == "precious"


def test_busy_names_the_process_that_holds_the_port(served: Served) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import serial, sys; p = serial.Serial(sys.argv[1], exclusive=True);"
            "print('open', flush=True); sys.stdin.read()",
            served.pty.port,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"open\n"
    try:
        assert [program.pid for program in programs_on(served.pty.port)] == [holder.pid]
        with pytest.raises(PortUnavailable, match=f"open in process {holder.pid}"):
            SerialPort(served.pty.port)
    finally:
        holder.communicate()


OTHER = """
import os, sys, termios, time, tty
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
print("open", flush=True)
end = time.time() + 60
while time.time() < end and not os.path.exists(sys.argv[2]):
    try:
        os.read(fd, 4096)
    except BlockingIOError:
        pass
"""


def test_a_program_without_a_lock_is_seen_and_does_not_look_like_an_unplugged_cable(
    served: Served, tmp_path: Path
) -> None:
    """Most programs take no lock. One that reads takes our replies, and what is left is nothing: no hang-up."""
    link, stop = tmp_path / "by-id", tmp_path / "stop"
    link.symlink_to(served.pty.port)
    port = SerialPort(str(link))
    require_alone(str(link))
    bus = FeetechBus(port, allowance=0.02)
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, served.pty.port, str(stop)], stdout=subprocess.PIPE
    )
    assert other.stdout is not None and other.stdout.readline() == b"open\n"
    try:
        with pytest.raises(
            PortShared, match=f"also open in another program .process {other.pid}, .*close that"
        ):
            require_alone(str(link))
        deadline = time.monotonic() + 60.0
        while not port.taken and time.monotonic() < deadline:
            bus.sync_read(served.ids, 56, 6)  # raises PortError if the line counts as dead
        assert port.taken
    finally:
        stop.touch()
        other.communicate()
    require_alone(str(link))
    assert bus.ping(1, 1.0) == 0
    bus.close()


class OneWire:
    """An adapter with one wire for both directions: what is sent comes back, and then what the servos say."""

    def __init__(self, behind: str | None, *, lose: int = 0) -> None:
        """`behind`: a port with servos (None: there are none); every `lose`-th echo is lost (0: none is)."""
        self.ours, self.slave = pty.openpty()
        tty.setraw(self.slave)
        self.port = os.ttyname(self.slave)
        self._servos = None if behind is None else serial.Serial(behind, 1_000_000, timeout=0)
        self._lose, self._count = lose, 0
        self._stop, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._pass_on)
        self._thread.start()

    def _pass_on(self) -> None:
        servos = self._servos
        sources = [self._stop, self.ours] + ([] if servos is None else [servos.fileno()])
        while True:
            ready = select.select(sources, [], [])[0]
            if self._stop in ready:
                return
            if self.ours in ready:
                data = os.read(self.ours, 4096)
                self._count += 1
                if not self._lose or self._count % self._lose:
                    os.write(self.ours, data)
                if servos is not None:
                    servos.write(data)
            elif servos is not None:
                os.write(self.ours, servos.read(4096))

    def close(self) -> None:
        os.write(self._wake, b"x")
        self._thread.join()
        for descriptor in (self.ours, self.slave, self._stop, self._wake):
            os.close(descriptor)
        if self._servos is not None:
            self._servos.close()


def test_an_echo_is_no_servo() -> None:
    adapter = OneWire(None)
    port = SerialPort(adapter.port)
    assert port.echoes
    bus = FeetechBus(port)
    with pytest.raises(BusError, match="gave no valid answer to a ping"):
        bus.ping(1)
    assert not bus.sync_read((1, 2, 3), 56, 6).valid.any()
    assert bus.statistics.unexpected == 0
    bus.close()
    adapter.close()


@pytest.mark.parametrize("lose", [0, 7])
def test_servos_behind_an_echo_answer_as_ever(served: Served, lose: int) -> None:
    adapter = OneWire(served.pty.port, lose=lose)
    port = SerialPort(adapter.port)
    assert port.echoes
    bus = FeetechBus(port, allowance=0.2)
    # A reply that says "voltage" is the same bytes as the request.
    served.servos[1]._put("status", 1)
    served.servos[1].trip(1)
    assert [bus.ping(id, 2.0) & ~1 for id in served.ids] == [0] * 6
    for goal in range(1000, 1040):
        bus.sync_write("goal_position", served.ids, [goal] * 6)
        assert [bus.read(id, "goal_position", 2.0) for id in served.ids] == [goal] * 6
    assert lose or bus.sync_read(served.ids, 56, 6).valid.all()
    assert lose or bus.statistics.retries == 0
    bus.close()
    adapter.close()


def test_an_adapter_without_echo_has_none(served: Served) -> None:
    port = SerialPort(served.pty.port)
    assert not port.echoes
    port.close()
