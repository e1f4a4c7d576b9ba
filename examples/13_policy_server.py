"""A policy server of your own in one file, with nothing but numpy: wrap any function and drive an arm with it.

    python examples/13_policy_server.py 5555
    sim2real deploy --policy tcp://127.0.0.1:5555 --task reach --port emulated --out runs/remote

Put this file beside whatever makes your actions (a LeRobot checkpoint in its own environment, a GPU machine) and
replace `act`. docs/policy-server.md says what the messages hold.
"""

import contextlib
import json
import math
import socket
import struct
import sys

import numpy as np

TYPES = {"float64": "<f8", "float32": "<f4"}


def receive(line):
    magic, header, payload = struct.unpack("<4sII", exactly(line, 12))
    assert magic == b"S2R1" and payload <= 1 << 24
    fields, data, values = json.loads(exactly(line, header)), exactly(line, payload), {}
    for part in fields.pop("parts", []):
        if part["kind"] == "jpeg":  # decode with cv2.imdecode or PIL
            values[part["name"]], data = data[: part["bytes"]], data[part["bytes"] :]
        else:
            size = 8 * math.prod(part["shape"]) if part["kind"] == "float64" else 4 * math.prod(part["shape"])
            values[part["name"]] = np.frombuffer(data[:size], TYPES[part["kind"]]).reshape(part["shape"])
            data = data[size:]
    return fields, values


def exactly(line, size):
    data = line.read(size)
    if len(data) < size:
        raise EOFError
    return data


def send(line, fields, **arrays):
    parts = [{"name": k, "kind": "float64", "shape": np.shape(v)} for k, v in arrays.items()]
    header = json.dumps({**fields, "parts": parts}).encode()
    payload = b"".join(np.ascontiguousarray(v, "<f8").tobytes() for v in arrays.values())
    line.write(struct.pack("<4sII", b"S2R1", len(header), len(payload)) + header + payload)
    line.flush()


def serve(port, act, features, pictures=(), horizon=10, rate=30, task=None):
    with socket.create_server(("127.0.0.1", port)) as listener:
        print(f"tcp://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        while True:
            connection = listener.accept()[0]
            with connection, connection.makefile("rwb") as line, contextlib.suppress(EOFError, OSError):
                arm, _ = receive(line)
                offer = {
                    "version": 1,
                    "joints": arm["joints"],
                    "task": task,
                    "horizon": horizon,
                    "rate": rate,
                }
                send(line, {"type": "welcome", "features": features, "pictures": pictures, **offer})
                while True:
                    fields, observation = receive(line)  # fields: number, episode, seed, time
                    chunk = act(arm, fields, observation)
                    send(line, {"type": "chunk", "number": fields["number"]}, chunk=chunk)


def act(arm, fields, observation):
    """(10, joints) rad: row i is due (i + 1) / rate s after the observation. Here: nod with the fourth joint."""
    times = fields["time"] + np.arange(1, 11) / 30
    chunk = np.tile(observation["joint_command"], (10, 1))
    chunk[:, 3] = 1.3 + 0.2 * np.sin(2.0 * times)
    return chunk


if __name__ == "__main__":
    serve(int(sys.argv[1]), act, features=["joint_position", "joint_command"])
