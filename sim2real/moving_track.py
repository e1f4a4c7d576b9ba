"""What is believed of an object that moves: a Kalman filter over (x, y, yaw) with three models of what it does.

It *lies*: belief fades slowly, so a cube that was seen free a second ago is not turned by a picture that shows half of
it. It *is pushed*: near the hand belief fades faster, and from where the hand comes unseen the object has gone on ahead
of it. It is *held*: after the hand closed at it and left, it goes with the hand, until the hand opens or the object is
clearly seen elsewhere. What contradicts the belief by more than both uncertainties allow has moved it, or is something
else, and must be confirmed.

Errors of pictures that follow each other are not independent (one finger hides the same edge in all of them), so a
picture's weight is that of the time it stands for: `CORRELATION`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sim2real.compiled import njit
from sim2real.objects import ObjectSpec
from sim2real.observation import MAX_SPREAD, Observation, object_entries, unseen
from sim2real.sighting import Hand, Sighting

Array = NDArray[np.float64]

CORRELATION = 0.3
"""s over which the errors of pictures are alike: so long together they tell about as much as one of them."""
LYING = (0.001, math.radians(1.0))
PUSHED = (0.003, math.radians(4.0))
GRIPPED = (0.025, math.radians(25.0))
CARRIED = (0.001, math.radians(2.0))
"""How fast belief fades: standard deviation of place, m, and angle, rad, after one second. Of what lies, has the hand
beside it, has jaws closing at it, and is carried."""
HIDDEN = (0.008, math.radians(8.0))
"""By how much what is hidden by who knows what may have been moved after one second: said, but no reason to believe
pictures that show half of it."""
NEAR = 0.05
"""An object may be pushed by a hand whose tool frame is not further away than this, m."""
FAR = 0.12
"""No hand has moved an object from which it is further away than this, m."""
SURPRISE = 14.2
"""Squared Mahalanobis distance beyond which a sighting contradicts what is believed: χ² of three numbers at 99.7 %."""
JUMP = 0.04
"""An object that appears further than this from where it was, m, must be confirmed: it may be something else."""
CONFIRMATIONS = 3
"""How many percepts in a row, close to each other, make believable what contradicts the belief, …"""
GONE_ON = 0.03
STAYED = 0.005, 0.2
"""What lies on the table stays where it is seen while the hand that was believed to carry it goes on by so much, m: it
moves by less than so many m and than this share of the hand's way. What the hand carries is seen to go along."""
MISSES = 2
"""An object that so many percepts in a row do not show is hidden."""
CLEAR = 0.75
"""An object that is seen by at least this fraction is followed at once when it moves by less than a jump, …"""
LOST = 0.5
"""… and any distance when it was not where it is believed to be for this long, s."""
SURELY = 0.1
"""Of a sighting that is less likely than this to be of a lifted object, the object lies."""

RAISED = 0.02
"""What is believed to be this far above where it rests, m, is not there for long without a hand; and what a lower hand
is at it has not raised."""

CLOSING = 0.1
"""Jaws that move faster than this, rad/s, move what is between them."""
GRASP = 0.035
"""A hand that closes has an object between its jaws when its tool frame is not further away than this, m."""
CLOSED = 0.06
"""A gripper has closed, or opened, when its angle has changed by this, rad. Its zero may be anywhere."""
LEFT = 0.015
"""A hand has left with the object when it has gone this far since it closed, m."""
OFF_TABLE = 0.008
"""What is carried no higher than this above where it rests, m, may as well be pushed along: it is where it is seen."""
EMPTIED = 0.1
"""Jaws that close by so much more, rad, once they have left with an object have lost it."""
LOW = 0.03
"""A hand that pushes is no higher than this, m: one that carries something past an object is."""
TIP = 0.0075
"""From the tool frame to the face that it touches, m."""
UNSEEN = 0.15
"""What has not been seen for so long, s, a hand that comes where it is believed to be has pushed on, …"""
TRAIL = 0.1, 0.003
"""… if it is on its way: where it was so many s ago is so far away, m."""
DRIFT = 0.3, 10.0
"""Standard deviations by which belief fades where an object is pushed unseen: share of the way, and rad/m."""
DROPPED = (0.01, 0.3)
"""Standard deviations of where an object comes to lie that was let go: place, m, and angle, rad."""


class _Grip:
    """A hand that closed at an object: how wide it was then, where, and where the object was in its frame."""

    def __init__(self, hand: Hand, place: Array, yaw: float) -> None:
        self.narrowest = self.taken = hand.opening
        """The least opening since, and that with which it left."""
        self.begun = hand
        self.offset = hand.rotation.T @ (place - hand.position)
        self.yaw = yaw
        self.carried = False
        self.lying: list[tuple[Array, Array]] = []
        """Where it has been seen on the table since, (2,) m, and where the hand was then, (3,) m."""

    def stays_behind(self, place: Array, hand: Hand) -> bool:
        """Whether what is seen at `place` (2,) m on the table has stayed there while the hand went on."""
        seen = self.lying
        seen.append((place, hand.position))
        least, share = STAYED
        while math.dist(place, seen[0][0]) > least + share * math.dist(hand.position, seen[0][1]):
            seen.pop(0)
        return math.dist(hand.position, seen[0][1]) > GONE_ON

    def refine(self, hand: Hand, place: Array, yaw: float) -> None:
        """The object has been seen in the hand."""
        self.begun, self.offset, self.yaw = hand, hand.rotation.T @ (place - hand.position), yaw

    def place(self, hand: Hand) -> tuple[Array, float]:
        """Where the object is in the hand: (3,) m and yaw, rad."""
        turned = hand.rotation @ self.begun.rotation.T
        about = math.atan2(turned[1, 0] - turned[0, 1], turned[0, 0] + turned[1, 1])
        return hand.position + hand.rotation @ self.offset, self.yaw + about


class MovingTrack:
    """What is believed of an object that moves. Hidden, it keeps its place while its age and spread grow."""

    def __init__(self, spec: ObjectSpec) -> None:
        self.spec = spec
        self._turn = 2 * math.pi / spec.symmetry if spec.symmetry else 0.0
        self._mean = np.zeros(3)
        self._covariance = np.zeros((3, 3))
        self._height = spec.rest
        self._seen = False
        self._time = self._until = -math.inf
        """When it was last seen, and until when its belief has faded."""
        self._doubtful: list[Array] = []
        self._doubt = 0.0, 0.0
        """Variances, m² and rad², by which it may be elsewhere until that is decided."""
        self._clear, self._cleared, self._missed = False, -math.inf, 0
        """Whether it was seen clearly the last time, when it last was, and how often in a row it was not seen."""
        self._loose = False
        """Whether it was let go, and not seen since."""
        self._hand: Hand | None = None
        self._trail = np.zeros(2)
        """Where the hand was, (2,) m: it comes after."""
        self._told, self._closing = -math.inf, False
        self._widest = -math.inf
        self._grip: _Grip | None = None

    @property
    def seen(self) -> bool:
        """Whether the object was ever seen."""
        return self._seen

    @property
    def held(self) -> bool:
        """Whether the hand carries it, as far as can be told."""
        return self._grip is not None and self._grip.carried

    @property
    def position(self) -> Array | None:
        """(3,) m; None before it was seen."""
        return np.array([self._mean[0], self._mean[1], self._height]) if self._seen else None

    def follow(self, now: float, hand: Hand) -> None:
        """The hand is there at `now`, s."""
        if self._hand is None:
            self._trail = hand.position[:2].copy()
        elif (passed := now - self._told) > 0.0:
            self._closing = abs(hand.opening - self._hand.opening) > CLOSING * passed
            self._trail += min(passed / TRAIL[0], 1.0) * (hand.position[:2] - self._trail)
        self._hand, self._told = hand, now
        place = self.position
        if place is None:
            return
        self._fade(now)
        if self._grip is None:
            self._give_way(now, hand)
            away = math.dist(hand.position, place)
            self._widest = max(self._widest, hand.opening) if away < NEAR else -math.inf
            if away < GRASP and hand.opening < self._widest - CLOSED:
                self._grip = _Grip(hand, place, self._mean[2])
            return
        grip = self._grip
        if hand.opening > grip.narrowest + CLOSED:
            self._let_go()
            return
        if not grip.carried:
            if hand.opening < grip.narrowest - 0.2 * CLOSED:
                # Still closing, and what is between the jaws may be moved by them.
                self._grip = _Grip(hand, place, self._mean[2])
            grip.carried = math.dist(hand.position, grip.begun.position) > LEFT
            grip.taken = hand.opening
        elif hand.opening < grip.taken - EMPTIED:
            self._let_go()
            return
        grip.narrowest = min(grip.narrowest, hand.opening)
        if grip.carried:
            carried, yaw = grip.place(hand)
            self._mean[:] = carried[0], carried[1], yaw
            self._height = float(max(carried[2], self.spec.rest))

    def add(self, seen: Sighting, taken: float, hand: Hand | None = None) -> None:
        """Take in a sighting in a picture of the time `taken`, s; `hand` was there then."""
        found = _measured(seen)
        if not self._seen:
            if math.isfinite(float(found.sum() + seen.covariance.sum())):
                self._adopt(seen, taken)
            return
        passed = taken - self._time
        self._fade(taken)
        weight = min(max(passed / CORRELATION, 1e-3), 1.0)
        mean, best, grip = self._mean, seen, self._grip
        if grip is not None and grip.carried and hand is not None:
            # As of then, when the hand was elsewhere.
            place, yaw = grip.place(hand)
            mean = np.array([place[0], place[1], yaw])
        surprise = _surprise(mean, self._covariance, found, seen.covariance, self._turn)
        if not math.isfinite(surprise):
            return
        for other in seen.alternatives:
            value = _measured(other)
            unlikely = _surprise(mean, self._covariance, value, other.covariance, self._turn)
            if unlikely < surprise:
                surprise, best, found = unlikely, other, value
        lying = seen.lifted < SURELY
        if self.held and lying and self._height > self.spec.rest + OFF_TABLE:
            # On the table behind the hand, or slipped out of it.
            surprise = math.inf
        self._missed = 0
        at_hand = (
            hand is not None
            and seen.lifted > 0.5
            and hand.position[2] > self.spec.rest + RAISED
            and math.dist(seen.position, hand.position) < GRASP
        )
        left = (
            grip is not None
            and lying
            and seen.visible >= CLEAR
            and (then := hand or self._hand) is not None
            and grip.stays_behind(seen.position[:2], then)
        )
        if surprise > SURPRISE:
            if left or at_hand or self._believed(seen, lying, taken):
                self._adopt(seen, taken)
                self._take(hand if at_hand else None)
            return
        self._settle()
        moved = None if mean is self._mean else self._mean - mean
        _fuse(mean, self._covariance, found, best.covariance, weight, self._turn)
        if moved is not None:
            self._mean[:] = mean + moved
        self._time = max(taken, self._time)
        self._note(seen, taken)
        if grip is None or not grip.carried:
            self._height = float(best.position[2])
        elif hand is not None:
            height = grip.place(hand)[0][2]
            grip.refine(hand, np.array([mean[0], mean[1], height]), float(mean[2]))
        if not self.held:
            self._take(hand if at_hand else None)

    def _take(self, hand: Hand | None) -> None:
        """It is in this hand."""
        place = self.position
        if hand is not None and place is not None:
            self._grip = _Grip(hand, place, float(self._mean[2]))
            self._grip.carried = True

    def miss(self, taken: float) -> None:
        """A picture of the time `taken`, s, does not show it."""
        if self._seen:
            self._fade(taken)
            self._missed += 1
            self._clear = self._clear and self._missed < MISSES

    def entries(self, now: float) -> Observation:
        """The observation's entries as of `now`, s."""
        if not self._seen:
            return unseen(self.spec)
        since = max(now - self._until, 0.0)
        place, angle = self._rates
        aside, turned = self._doubt
        if self._hand is None and not self._clear:
            hidden = min(max(now - self._cleared, 0.0), 10.0)
            aside, turned = aside + hidden * HIDDEN[0] ** 2, turned + hidden * HIDDEN[1] ** 2
        spread = _spread(self._covariance, aside + since * place**2, turned + since * angle**2)
        x, y, yaw = self._mean
        return object_entries(self.spec, (x, y, self._height), yaw, now - self._time, spread)

    @property
    def _rates(self) -> tuple[float, float]:
        """How fast belief fades now."""
        if self.held:
            return CARRIED
        if self._hand is None:
            return LYING
        away = self._away(self._hand)
        if away < GRASP and self._closing:
            return GRIPPED
        return PUSHED if away < NEAR else LYING

    def _away(self, hand: Hand) -> float:
        x, y, z = hand.position
        return math.sqrt((x - self._mean[0]) ** 2 + (y - self._mean[1]) ** 2 + (z - self._height) ** 2)

    def _fade(self, now: float) -> None:
        passed = min(now - self._until, 10.0)
        if passed > 0.0:
            place, angle = self._rates
            self._covariance[0, 0] += passed * place**2
            self._covariance[1, 1] += passed * place**2
            self._covariance[2, 2] = min(self._covariance[2, 2] + passed * angle**2, MAX_SPREAD[1] ** 2)
            self._until = now

    def _give_way(self, now: float, hand: Hand) -> None:
        """What nobody sees is pushed on by a hand that comes along the table to where it is believed to be."""
        if (
            now - self._time < UNSEEN
            or self._closing
            or self._height > self.spec.rest + OFF_TABLE
            or hand.position[2] > LOW
        ):
            return
        way = hand.position[:2] - self._trail
        gone = math.hypot(way[0], way[1])
        if gone < TRAIL[1]:
            return
        way /= gone
        apart = self._mean[:2] - hand.position[:2]
        ahead, aside = float(apart @ way), abs(float(way[0] * apart[1] - way[1] * apart[0]))
        reach = 0.5 * self.spec.width + TIP
        if not -0.5 * reach < ahead < reach or aside > reach:
            return
        moved = reach - ahead
        self._mean[:2] += moved * way
        place, angle = DRIFT
        self._covariance += np.diag([(place * moved) ** 2, (place * moved) ** 2, (angle * moved) ** 2])

    def _believed(self, seen: Sighting, lying: bool, taken: float) -> bool:
        """Whether a sighting that contradicts the belief is to be believed rather than it."""
        clear = seen.visible >= CLEAR
        if self.held:
            return False
        # Of what the hand has just closed at, a jump may be the beginning of its way up.
        if clear and self._grip is None:
            moved = math.dist(seen.position[:2], self._mean[:2])
            untouched = self._hand is not None and self._away(self._hand) > FAR
            fell = lying and self._height > self.spec.rest + RAISED
            if self._loose or fell or taken - self._time > LOST or (moved <= JUMP and not untouched):
                return True
        if self._doubtful and math.dist(seen.position[:2], self._doubtful[-1]) > JUMP:
            self._doubtful.clear()
        if not self._doubtful:
            # Until it is decided, it may be here or there.
            apart = _innovation(self._mean, _measured(seen), self._turn)
            self._doubt = 0.25 * float(apart[0] ** 2 + apart[1] ** 2), 0.5 * float(apart[2] ** 2)
        self._doubtful.append(seen.position[:2])
        return len(self._doubtful) >= CONFIRMATIONS

    def _adopt(self, seen: Sighting, taken: float) -> None:
        apart = _measured(seen) - self._mean
        self._mean[:] += apart
        self._covariance[:] = seen.covariance
        if self._seen and seen.visible < CLEAR:
            # It has moved, or what hides it misleads: the truth may lie in between.
            self._covariance[:2, :2] += 0.25 * np.outer(apart[:2], apart[:2])
        self._height, self._time, self._seen = float(seen.position[2]), taken, True
        self._until = max(taken, self._until)
        self._note(seen, taken)
        self._settle()
        self._grip, self._widest = None, -math.inf

    def _note(self, seen: Sighting, taken: float) -> None:
        """It was seen so."""
        self._clear, self._loose = seen.visible >= CLEAR, False
        if self._clear or not math.isfinite(self._cleared):
            self._cleared = taken

    def _settle(self) -> None:
        if self._doubtful:
            self._doubtful.clear()
            self._doubt = 0.0, 0.0

    def _let_go(self) -> None:
        """The hand has opened: what it carried falls, the rest stays where it is."""
        if self.held:
            self._height, self._loose = self.spec.rest, True
            place, angle = DROPPED
            self._covariance += np.diag([place**2, place**2, angle**2])
        self._grip, self._widest = None, -math.inf


def _measured(seen: Sighting) -> Array:
    return np.array([seen.position[0], seen.position[1], seen.yaw])


def _spread(covariance: Array, place: float, angle: float) -> tuple[float, float]:
    """Standard deviations of position and yaw, with variances of the time since added."""
    return (
        math.sqrt(0.5 * (covariance[0, 0] + covariance[1, 1]) + place),
        math.sqrt(covariance[2, 2] + angle),
    )


@njit(cache=True, nogil=True)
def _innovation(mean: Array, found: Array, turn: float) -> Array:
    """found − mean, the angle by the shortest way; `turn` rad is the object's symmetry, 0: it has no angle."""
    difference = found - mean
    difference[2] = 0.0 if turn == 0.0 else difference[2] - turn * np.rint(difference[2] / turn)
    return difference


@njit(cache=True, nogil=True)
def _inverse(covariance: Array, noise: Array, weight: float) -> Array:
    """Of covariance + noise / weight, (3, 3) and symmetric, by its cofactors."""
    # A detector that claims to know exactly leaves a matrix that can be inverted.
    a = covariance[0, 0] + noise[0, 0] / weight + 1e-10
    b = covariance[0, 1] + noise[0, 1] / weight
    c = covariance[0, 2] + noise[0, 2] / weight
    d = covariance[1, 1] + noise[1, 1] / weight + 1e-10
    e = covariance[1, 2] + noise[1, 2] / weight
    f = covariance[2, 2] + noise[2, 2] / weight + 1e-8
    inverse = np.empty((3, 3))
    inverse[0, 0], inverse[1, 1], inverse[2, 2] = d * f - e * e, a * f - c * c, a * d - b * b
    inverse[0, 1] = inverse[1, 0] = c * e - b * f
    inverse[0, 2] = inverse[2, 0] = b * e - c * d
    inverse[1, 2] = inverse[2, 1] = b * c - a * e
    inverse /= a * inverse[0, 0] + b * inverse[0, 1] + c * inverse[0, 2]
    return inverse


@njit(cache=True, nogil=True)
def _surprise(mean: Array, covariance: Array, found: Array, noise: Array, turn: float) -> float:
    """Squared Mahalanobis distance of what was found from what is believed."""
    difference = _innovation(mean, found, turn)
    return float(difference @ (_inverse(covariance, noise, 1.0) @ difference))


@njit(cache=True, nogil=True)
def _fuse(mean: Array, covariance: Array, found: Array, noise: Array, weight: float, turn: float) -> None:
    """One step of a Kalman filter, in place; the measurement counts by `weight`."""
    gain = covariance @ _inverse(covariance, noise, weight)
    mean += gain @ _innovation(mean, found, turn)
    # Joseph's form: stays symmetric and positive.
    rest = np.eye(3) - gain
    covariance[:] = rest @ covariance @ rest.T + gain @ (noise / weight) @ gain.T
