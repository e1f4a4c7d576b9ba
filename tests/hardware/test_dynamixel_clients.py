"""Emulated Dynamixels through a real pty: the vendor's client, an independent one and ours get the same answers."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hardware.emulator.pty_port import Pty
from hardware.servos.dynamixel.bus import DynamixelBus
from hardware.servos.dynamixel.registers import BAUD_CODES, TICK
from hardware.servos.ports import SerialPort

from .test_emulated_dynamixel import Rig

IDS = (1, 2, 3, 4)


class Served(Rig):
    """Two XL430 and two XL330 behind a pty, served by a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.pty = Pty(self.line)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.pty.serve, kwargs={"until": self._stop.is_set})
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.pty.close()


@pytest.fixture
def served() -> Iterator[Served]:
    # Clients that wait busily share the interpreter with the servos.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    rig = Served()
    yield rig
    rig.close()
    sys.setswitchinterval(interval)


def ours(rig: Served, baud: int = 1_000_000) -> DynamixelBus:
    # A generous allowance: the machine that runs the tests may be busy, and time is not what is tested.
    return DynamixelBus(SerialPort(rig.pty.port, baud), allowance=0.2)


class Vendor:
    """The vendor's client, given patience: it waits some 20 ms and cannot clear late replies."""

    def __init__(self, port: str, baud: int = 1_000_000) -> None:
        self.sdk = pytest.importorskip("dynamixel_sdk")
        self.port = self.sdk.PortHandler(port)
        assert self.port.openPort() and self.port.setBaudRate(baud)
        self.handler = self.sdk.PacketHandler(2.0)

    def insist(self, attempt: Callable[[], Any], done: Callable[[Any], bool]) -> Any:
        """The answer of the first attempt that is `done`, or of the last one."""
        answer = None
        for _ in range(20):
            answer = attempt()
            if done(answer):
                break
            time.sleep(0.1)
            self.port.ser.reset_input_buffer()
        return answer

    def ask(self, call: str, *arguments: object) -> tuple:
        """The answer; its second to last element is the result, 0 for success."""
        method = getattr(self.handler, call)
        return self.insist(lambda: method(self.port, *arguments), lambda answer: answer[-2] == 0)

    def group(self, attempt: Callable[[], int]) -> int:
        return self.insist(attempt, lambda result: result == 0)


@pytest.fixture
def vendor(served: Served) -> Iterator[Vendor]:
    client = Vendor(served.pty.port)
    yield client
    client.port.closePort()


def test_vendor_client_one_servo_at_a_time(served: Served, vendor: Vendor) -> None:
    assert [vendor.ask("ping", id) for id in IDS] == [(1060, 0, 0)] * 2 + [(1200, 0, 0)] * 2
    assert vendor.ask("write4ByteTxRx", 3, 116, 1500) == (0, 0)
    assert vendor.ask("read4ByteTxRx", 3, 116) == (1500, 0, 0)
    assert vendor.ask("write4ByteTxRx", 3, 116, 5000) == (0, 6)
    assert vendor.ask("write1ByteTxRx", 3, 64, 1) == (0, 0)
    assert vendor.ask("write1ByteTxRx", 3, 11, 4) == (0, 7)
    assert vendor.ask("regWriteTxRx", 2, 65, 1, [1]) == (0, 0)
    assert vendor.ask("read1ByteTxRx", 2, 65)[0] == 0
    assert vendor.handler.action(vendor.port, 254) == 0
    assert vendor.ask("read1ByteTxRx", 2, 65)[0] == 1
    assert vendor.ask("reboot", 3) == (0, 0)
    assert vendor.ask("read1ByteTxRx", 3, 64) == (0, 0, 0)
    assert vendor.ask("clearMultiTurn", 2) == (0, 0)
    # FF FF FD in the data is stuffed on its way, in both directions.
    served.servos[2].memory[108:116] = b"\xff\xff\xfd\x00\xff\xff\xfd\xfd"
    assert vendor.ask("readTxRx", 3, 108, 8) == ([255, 255, 253, 0, 255, 255, 253, 253], 0, 0)


def test_vendor_client_groups(served: Served, vendor: Vendor) -> None:
    sdk, port, handler = vendor.sdk, vendor.port, vendor.handler
    write = sdk.GroupSyncWrite(port, handler, 116, 4)
    for id in IDS:
        assert write.addParam(id, [id, 4, 0, 0])
    assert write.txPacket() == 0
    goals = [1024 + id for id in IDS]
    read = sdk.GroupSyncRead(port, handler, 116, 4)
    for id in IDS:
        assert read.addParam(id)
    assert vendor.group(read.txRxPacket) == 0
    assert [read.getData(id, 116, 4) for id in IDS] == goals
    assert vendor.group(read.fastSyncRead) == 0
    assert [read.getData(id, 116, 4) for id in IDS] == goals
    bulk = sdk.GroupBulkWrite(port, handler)
    assert bulk.addParam(1, 65, 1, [1]) and bulk.addParam(4, 116, 4, [9, 4, 0, 0])
    assert bulk.txPacket() == 0
    reading = sdk.GroupBulkRead(port, handler)
    assert reading.addParam(1, 65, 1) and reading.addParam(4, 116, 4)
    assert vendor.group(reading.txRxPacket) == 0
    assert (reading.getData(1, 65, 1), reading.getData(4, 116, 4)) == (1, 1033)
    assert vendor.group(reading.fastBulkRead) == 0
    assert (reading.getData(1, 65, 1), reading.getData(4, 116, 4)) == (1, 1033)


def test_vendor_client_finds_all_at_once(served: Served, vendor: Vendor) -> None:
    found, result = vendor.insist(
        lambda: vendor.handler.broadcastPing(vendor.port), lambda answer: len(answer[0]) == 4
    )
    assert result == 0
    assert {id: (model[0] if isinstance(model, list) else model) for id, model in found.items()} == {
        1: 1060,
        2: 1060,
        3: 1200,
        4: 1200,
    }


def test_rustypot(served: Served) -> None:
    rustypot = pytest.importorskip("rustypot")
    client = rustypot.Xl330PyController(served.pty.port, 1_000_000, 1.0)
    assert client.ping(3) and client.ping(4)
    assert client.read_model_number(3) in (1200, [1200])
    client.sync_write_raw_goal_position([3, 4], [1500, 2500])
    turned = [(1500 - 2048) * TICK, (2500 - 2048) * TICK]
    assert client.sync_read_goal_position([3, 4]) == pytest.approx(turned, abs=1e-6)
    client.set_fast_sync_read(True)
    assert client.sync_read_goal_position([3, 4]) == pytest.approx(turned, abs=1e-6)
    client.sync_write_torque_enable([3, 4], [True, True])
    assert list(client.sync_read_torque_enable([3, 4])) == [True, True]
    client.close()
    other = rustypot.Xl430PyController(served.pty.port, 1_000_000, 1.0)
    assert other.ping(1) and not other.ping(9)
    other.write_led(1, True)
    assert other.read_led(1)
    other.close()


def test_clients_get_the_same_answers(served: Served, vendor: Vendor) -> None:
    for id in IDS:
        theirs = vendor.ask("readTxRx", id, 0, 120)
        assert theirs[1:] == (0, 0)
        vendor.port.closePort()
        bus = ours(served)
        assert bus.read_block(id, 0, 120, 1.0) == bytes(theirs[0])
        bus.close()
        assert vendor.port.openPort()


def test_our_driver(served: Served) -> None:
    bus = ours(served)
    assert [bus.ping(id, 1.0) for id in IDS] == [0] * 4
    bus.prepare(IDS)
    assert bus.fast
    bus.sync_write("goal_position", IDS, [2048 + id for id in IDS])
    reading = bus.sync_read(IDS, 116, 4)
    assert reading.valid.all()
    assert [int.from_bytes(row.tobytes(), "little") for row in reading.data] == [2048 + id for id in IDS]
    bus.reboot(4)
    assert bus.bulk_read([(1, 0, 2), (4, 7, 1)], 1.0) == {1: b"\x24\x04", 4: b"\4"}
    bus.close()


@pytest.mark.parametrize("baud", BAUD_CODES)
def test_every_rate(served: Served, baud: int) -> None:
    for servo in served.servos:
        servo.memory[8] = BAUD_CODES.index(baud)
    for client_baud, answers in ((baud, True), (BAUD_CODES[(BAUD_CODES.index(baud) + 1) % 7], False)):
        bus = ours(served, client_baud)
        bus.allowance = 0.5 if answers else 0.05
        assert bus.sync_read(IDS, 132, 4).valid.all() == answers
        bus.close()
