"""DDS as the bridge uses it: where it talks, and with which quality. Loopback and unicast alone, unless an interface is
named."""

import os
from typing import Any

from sim2real.errors import UserError

LOOPBACK = "lo"
BLOCKING_MS = 100
"""ms that a write may wait for slow readers; the loop does not."""

CONFIG = """<CycloneDDS><Domain Id="any">
<General><Interfaces><NetworkInterface name="{interface}" multicast="{multicast}"/></Interfaces>
<AllowMulticast>{multicast}</AllowMulticast></General>
<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>30</MaxAutoParticipantIndex>{peers}</Discovery>
<Compatibility><IgnoreTypeInformation>1.15</IgnoreTypeInformation></Compatibility></Domain></CycloneDDS>"""
"""1.15 is Fast DDS: without it nothing passes between the two, though they list each other's topics."""

PEERS = '<Peers><Peer Address="127.0.0.1"/></Peers>'


def cyclonedds() -> Any:
    """The package, or one message that says how to get it."""
    try:
        import cyclonedds.core
        import cyclonedds.domain
        import cyclonedds.pub
        import cyclonedds.sub
        import cyclonedds.topic
        import cyclonedds.util
    except ImportError:
        raise UserError(
            "the bridge needs cyclonedds, which is not installed: pip install 'sim2real-transfer[ros2]'"
        ) from None
    return cyclonedds


def configure(interface: str = LOOPBACK) -> None:
    """Say where DDS talks, before the first participant is made."""
    here = interface == LOOPBACK
    os.environ["CYCLONEDDS_URI"] = CONFIG.format(
        interface=interface, multicast="false" if here else "true", peers=PEERS if here else ""
    )


def writer(library: Any, participant: Any, name: str, kind: Any, *, keep: int) -> Any:
    """Of a ROS topic, to readers of whatever quality; `keep` messages wait for slow ones."""
    quality = _quality(library, keep)
    return library.pub.DataWriter(participant, _topic(library, participant, name, kind, quality), qos=quality)


def reader(library: Any, participant: Any, name: str, kind: Any, *, keep: int) -> Any:
    """Of a ROS topic; of what nobody has taken the last `keep` messages are there."""
    quality = _quality(library, keep)
    return library.sub.DataReader(participant, _topic(library, participant, name, kind, quality), qos=quality)


def _quality(library: Any, keep: int) -> Any:
    policy = library.core.Policy
    return library.core.Qos(
        policy.Reliability.Reliable(library.util.duration(milliseconds=BLOCKING_MS)),
        policy.History.KeepLast(keep),
        policy.Durability.Volatile,
    )


def _topic(library: Any, participant: Any, name: str, kind: Any, quality: Any) -> Any:
    return library.topic.Topic(participant, f"rt{name}", kind, qos=quality)
