"""Policies that misbehave, loaded by class path into the inference process."""

import os
import time

import numpy as np


class Base:
    horizon = 8

    def __init__(self, task, robot):
        self.robot = robot
        self.calls = 0
        self.seed = -1

    def reset(self, seed):
        self.seed = seed
        self.calls = 0

    def act(self, observation):
        self.calls += 1
        return self.chunk(observation)

    def chunk(self, observation):
        return np.tile(observation["joint_command"] + 0.001 * self.seed, (self.horizon, 1))


class Echo(Base):
    """Each joint's command plus a thousandth of the seed."""


class Raising(Base):
    def chunk(self, observation):
        if self.seed > 0 and self.calls > 3:
            raise RuntimeError("the policy broke")
        return super().chunk(observation)


class Dying(Base):
    def chunk(self, observation):
        if self.seed > 0 and self.calls > 3:
            os._exit(7)
        return super().chunk(observation)


class Stalling(Base):
    def chunk(self, observation):
        if self.seed > 0 and self.calls > 3:
            time.sleep(60)
        return super().chunk(observation)


class NotANumber(Base):
    def chunk(self, observation):
        chunk = super().chunk(observation)
        if self.seed > 0 and self.calls > 3:
            chunk[:] = np.nan
        return chunk


class WrongShape(Base):
    def chunk(self, observation):
        return np.zeros((8, 3)) if self.seed > 0 else super().chunk(observation)


class Unloadable(Base):
    def __init__(self, task, robot):
        raise ValueError("no weights here")


class Slow(Base):
    """Needs longer for an answer than its chunks cover."""

    def chunk(self, observation):
        time.sleep(0.35)
        return super().chunk(observation)


class AlwaysRaising(Base):
    def chunk(self, observation):
        raise RuntimeError("it never works")
