"""Every quantity of the simulated world that can be randomized, declared once.

The ranges are starting points from the literature; the real ones come from identification on logs of the arm.
Parameters of the task (`task.*`) are the task's own. What each one does is in the module that reads it: the
servos and links in `coupling.py` and `sim2real/model/conditions.py`, objects in `scene.py`, delays, losses and
pushes in `disturbance.py`, readings and the detector in `sensing.py`, where cameras stand in `cameras.py`, their
pictures and the light in `renderer.py` and `backdrop.py`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sim2real.camera import CameraModel
from sim2real.camera_placement import DETECTOR_CAMERA, Placement, looking
from sim2real.mechanisms import Joint
from sim2real.model.servo import FIELD_INDEX, SERVO_FIELDS, SLIDING_FIELDS, nominal_parameters
from sim2real.objects import KINDS, ObjectSpec
from sim2real.parameters import Parameter
from sim2real.robot import Robot
from sim2real.simulation.limits import LIMITS, limited

DEGREE = math.pi / 180


SIZES = (0.9, 1.0, 1.1)
"""Sizes in which a world has each of its objects, as shares of the size that it has by its declaration."""


def pool(spec: ObjectSpec) -> tuple[float, ...]:
    """The first measure of the object in each of its sizes, m; what has a joint has one."""
    if spec.joint is not None:
        return (spec.measures[0],)
    return tuple(round(share * spec.measures[0], 12) for share in SIZES)


def world_parameters(
    robot: Robot, objects: Sequence[ObjectSpec] = (), cameras: Mapping[str, CameraModel] | None = None
) -> dict[str, Parameter]:
    """All parameters of a world with this robot and these objects, by name; the task's come on top.

    `cameras`: those that are really there; None: those of the robot's description, which may stand anywhere.
    """
    declared = [*_servos(robot), *_links(robot), *_COMMON]
    for spec in objects:
        declared += _object(spec)
    declared += [p for p in _MORE if p.name != "gripper.lag" or robot.gripper is not None]
    declared += _places(robot) if cameras is None else ()
    declared += _calibration(None if cameras is None else cameras[looking(cameras) or ""])
    declared += _DRIFT
    for parameter in _VISUAL:
        if parameter.name == "colour.arm":
            declared += [_colour(spec) for spec in objects]
        declared.append(replace(parameter, visual=True))
    return {parameter.name: limited(parameter) for parameter in declared}


def _object(spec: ObjectSpec) -> Iterator[Parameter]:
    if not spec.solid:
        return
    name, what, sizes = f"object.{spec.name}", f"the {spec.name}", pool(spec)
    mass = [round(share * spec.mass, 12) for share in (0.5, 1.0, 1.7)]
    first = KINDS[spec.kind].measures[0]
    more = ", the others in proportion" if len(spec.measures) > 1 else ""
    yield Parameter(
        f"{name}.mass", spec.mass, "kg", mass[0], mass[2], scale="log", description=f"mass of {what}"
    )
    yield Parameter(
        f"{name}.size",
        spec.measures[0],
        "m",
        sizes[0],
        sizes[-1],
        description=f"{first} of {what}{more}, nearest of a pool",
        minimum=sizes[0],
        maximum=sizes[-1],
    )
    yield Parameter(f"{name}.friction", 0.8, "", 0.3, 1.5, description=f"friction coefficient of {what}")
    yield Parameter(
        f"{name}.restitution", 0.0, "", 0.0, 0.5, description=f"coefficient of restitution of {what}"
    )
    if spec.joint is not None:
        yield from _joint(name, what, spec.joint)


def _joint(name: str, what: str, joint: Joint) -> Iterator[Parameter]:
    force, unit = ("N", "m") if joint.form == "slide" else ("N·m", "rad")
    for field, value, of, low, high, description in (
        ("friction", joint.friction, force, 0.4, 2.0, "friction of its joint"),
        ("damping", joint.damping, f"{force}·s/{unit}", 0.3, 3.0, "damping of its joint"),
        ("stiffness", joint.stiffness, f"{force}/{unit}", 0.6, 1.5, "stiffness of its joint's spring"),
    ):
        if value:
            yield Parameter(
                f"{name}.joint_{field}", value, of, low * value, high * value, scale="log",
                description=f"{what}: {description}",
            )  # fmt: skip
    most = joint.play * 2.0
    about = f"{what}: so far its joint is loose where it is closed"
    yield Parameter(f"{name}.joint_play", joint.play, unit, 0.0, most, description=about)


def _colour(spec: ObjectSpec) -> Parameter:
    bright = max(spec.rgb)
    return Parameter(
        f"colour.{spec.name}",
        bright,
        "",
        math.floor(20 * 0.73 * bright) / 20,
        max(bright, min(round(20 * 1.29 * bright) / 20, 0.95)),
        description=f"brightness of the {spec.name}: the largest of red, green and blue",
        visual=True,
    )


def _servos(robot: Robot) -> Iterator[Parameter]:
    given = nominal_parameters(robot)
    for column, name in enumerate(FIELD_INDEX):
        override = robot.servo.get(name)
        # No joint comes before the first, whose stop could press on it.
        for j in range(1 if name == "stop_share" else 0, robot.n):
            joint = robot.joint_names[j]
            field = (SLIDING_FIELDS if robot.model.sliding[j] else SERVO_FIELDS)[column]
            nominal, low, high = field.nominal, field.low, field.high
            if override is not None and (not isinstance(override, dict) or joint in override):
                own = float(given[j, column])
                # The range moves with the nominal value: in proportion, or along when there is none.
                scale = own / nominal if nominal else 1.0
                shift = 0.0 if nominal else own
                nominal, low, high = own, low * scale + shift, high * scale + shift
            yield Parameter(
                f"servo.{joint}.{field.name}",
                nominal,
                field.unit,
                max(low, field.minimum),
                min(high, field.maximum),
                scale="log" if field.log else "linear",
                description=field.description,
                minimum=field.minimum,
                maximum=field.maximum,
            )


def _links(robot: Robot) -> Iterator[Parameter]:
    model = robot.model
    for i, (name, mass) in enumerate(zip(model.link_names, model.mass)):
        if mass <= 0.0:
            # A follower without mass of its own: there is nothing to draw.
            continue
        yield Parameter(f"link.{name}.mass", float(mass), "kg", 0.9 * mass, 1.1 * mass, description="mass")
        yield Parameter(
            f"link.{name}.inertia", 1.0, "", 0.5, 1.5, scale="log", description="factor on the inertia tensor"
        )
        for k, axis in enumerate("xyz"):
            if model.parents[i] < 0 and not model.prismatic[i] and abs(model.axes[i, k]) > 0.999:
                # Nothing can tell where along its own, fixed axis the mass of the first link is.
                continue
            yield Parameter(
                f"link.{name}.com_{axis}",
                0.0,
                "m",
                -0.005,
                0.005,
                description=f"shift of the centre of mass along the link's {axis}",
            )


_COMMON = (
    # Shared by all servos, so that joints vary together as they do on one supply.
    Parameter("servo.voltage", 1.0, "", 0.9, 1.1, description="factor on every servo's supply voltage"),
    Parameter(
        "servo.sag", 0.0, "Ω", 0.0, 0.3, description="resistance of the supply: its voltage sags under load"
    ),
    Parameter(
        "servo.temperature", 0.0, "K", -10.0, 40.0, description="motors warmer than when they were nominal"
    ),
    Parameter(
        "servo.friction", 1.0, "", 0.7, 1.4, scale="log", description="factor on all friction (grease, wear)"
    ),
    Parameter("payload.mass", 0.0, "kg", 0.0, 0.05, description="point mass at the tool frame"),
    # The scene.
    Parameter("world.gravity", 9.81, "m/s²", 9.6, 9.9, description="gravity"),
    Parameter("world.tilt_x", 0.0, "rad", -DEGREE, DEGREE, description="tilt of the base about its x axis"),
    Parameter("world.tilt_y", 0.0, "rad", -DEGREE, DEGREE, description="tilt of the base about its y axis"),
    Parameter("world.table_height", 0.0, "m", -0.002, 0.002, description="height of the table over the base"),
    Parameter("world.table_friction", 0.8, "", 0.5, 1.1, description="friction coefficient of the table"),
)

_MORE = (
    Parameter("gripper.friction", 1.0, "", 0.5, 1.5, description="friction coefficient of the fingers"),
    Parameter(
        "gripper.lag",
        0.0,
        "s",
        0.0,
        0.18,
        description="delay of the gripper's commands, on top of its servo's",
    ),
    # The way from the controller to the servos and back.
    Parameter(
        "command.delay", 0.0, "s", 0.0, 0.02, description="delay of all commands, on top of the servos' own"
    ),
    Parameter(
        "command.jitter", 0.0, "s", 0.0, 0.01, when="step", description="largest extra delay of a command"
    ),
    Parameter(
        "command.dropout", 0.0, "", 0.0, 0.05, when="step", description="fraction of commands that get lost"
    ),
    Parameter("command.burst", 1.0, "", 1.0, 3.0, description="mean number of commands lost in a row"),
    Parameter("policy.latency", 0.0, "s", 0.0, 0.03, description="time from an observation to its chunk"),
    Parameter(
        "policy.jitter", 0.0, "s", 0.0, 0.01, when="step", description="largest extra latency of a chunk"
    ),
    Parameter(
        "control.jitter", 0.0, "s", 0.0, 0.006, when="step", description="largest lateness of a control tick"
    ),
    Parameter(
        "sensor.delay", 0.0, "s", 0.0, 0.02, description="age of joint readings, on top of the servos' own"
    ),
    Parameter(
        "sensor.jitter", 0.0, "s", 0.0, 0.01, when="step", description="largest extra age of a reading"
    ),
    Parameter(
        "sensor.noise", 0.0, "rad", 0.0, 0.005, when="step", description="standard deviation of joint angles"
    ),
    Parameter(
        "sensor.velocity_noise",
        0.0,
        "rad/s",
        0.0,
        0.05,
        when="step",
        description="standard deviation of speeds",
    ),
    Parameter(
        "sensor.dropout",
        0.0,
        "",
        0.0,
        0.05,
        when="step",
        description="fraction of readings that are old ones",
    ),
    Parameter("sensor.burst", 1.0, "", 1.0, 3.0, description="mean number of old readings in a row"),
    # Disturbances.
    Parameter(
        "push.force", 0.0, "N", 0.0, 1.0, when="step", description="size of random pushes on the arm's links"
    ),
    Parameter("push.rate", 0.5, "1/s", 0.2, 1.0, description="how often pushes come"),
    Parameter("push.duration", 0.1, "s", 0.05, 0.2, description="how long a push lasts"),
    # The camera's detector, imitated.
    Parameter("detector.rate", 30.0, "Hz", 15.0, 30.0, description="frames per second"),
    Parameter("detector.latency", 0.06, "s", 0.03, 0.12, description="from the exposure to the result"),
    Parameter(
        "detector.noise",
        0.0002,
        "m",
        0.0,
        0.0006,
        when="step",
        description="standard deviation from picture to picture",
    ),
    Parameter(
        "detector.yaw_noise",
        0.005,
        "rad",
        0.0,
        0.02,
        when="step",
        description="standard deviation of yaw, likewise",
    ),
    Parameter(
        "detector.errors", 1.0, "", 0.7, 1.5, description="factor on its errors, beyond what it says of them"
    ),
    Parameter(
        "detector.bias_x", 0.0, "m", -0.001, 0.001, description="constant error along x (base against table)"
    ),
    Parameter(
        "detector.bias_y", 0.0, "m", -0.001, 0.001, description="constant error along y (base against table)"
    ),
    Parameter(
        "detector.bias_yaw",
        0.0,
        "rad",
        -0.02,
        0.02,
        description="constant error of the yaw (base against table)",
    ),
    Parameter(
        "detector.dropout", 0.0, "", 0.0, 0.05, when="step", description="fraction of frames without a result"
    ),
)

POSITION_DEVIATION, ROTATION_DEVIATION = 0.0012, 0.0023
"""m, rad: how well a camera's place and direction are known where its file does not say."""
FARTHEST, MOST_TURNED = LIMITS["camera.[xyz]"][1], LIMITS["camera.roll"][1]
CALIBRATION = "the error of a calibration; where it stands: camera.azimuth …, or --cameras"
LEAST_POSITION, LEAST_ROTATION = 0.0004, 0.0008
"""m, rad: what a calibration does not know of itself (the arm's play, the table's unevenness)."""


def _places(robot: Robot) -> Iterator[Parameter]:
    """Where the camera that looks for objects may stand: on a hemisphere over the table, but not behind the arm."""
    camera = robot.cameras.get(DETECTOR_CAMERA)
    usual = None if camera is None else Placement.of(camera)
    if usual is None:
        return
    for name, low, high, unit, description in (
        ("azimuth", -2.4, 2.4, "rad", "side from which it looks; 0: from the front"),
        ("elevation", 0.45, 1.35, "rad", "height over the table from which it looks"),
        ("distance", 0.65 * usual.distance, 1.6 * usual.distance, "m", "from the point it looks at, or more"),
        ("aim_x", usual.aim_x - 0.04, usual.aim_x + 0.06, "m", "x of the point it looks at"),
        ("aim_y", usual.aim_y - 0.05, usual.aim_y + 0.05, "m", "y of the point it looks at"),
        ("tilt", -0.1, 0.1, "rad", "turn about its own axis"),
        ("fov", 0.6, 1.1, "rad", "vertical field of view"),
        ("resolution", 240.0, 720.0, "px", "rows of its picture"),
    ):
        value = float(getattr(usual, name))
        yield Parameter(
            f"camera.{name}",
            value,
            unit,
            min(low, value),
            max(high, value),
            description=f"camera: {description}",
        )


def _calibration(camera: CameraModel | None) -> Iterator[Parameter]:
    """How far a camera really stands from where it is described: uniform, with the deviations of its calibration."""
    position = POSITION_DEVIATION if camera is None else camera.position_deviation
    rotation = ROTATION_DEVIATION if camera is None else camera.rotation_deviation
    position = math.sqrt(3) * max(POSITION_DEVIATION if position is None else position, LEAST_POSITION)
    rotation = math.sqrt(3) * max(ROTATION_DEVIATION if rotation is None else rotation, LEAST_ROTATION)
    position, rotation = min(position, FARTHEST), min(rotation, MOST_TURNED)
    for axis in "xyz":
        about = f"camera: unknown shift along {axis}, {CALIBRATION}"
        yield Parameter(f"camera.{axis}", 0.0, "m", -position, position, description=about)
    for name, axis in (("pitch", "right"), ("yaw", "down"), ("roll", "forward")):
        about = f"camera: unknown turn about its {axis} axis, {CALIBRATION}"
        yield Parameter(f"camera.{name}", 0.0, "rad", -rotation, rotation, description=about)
    about = "camera: unknown factor on its focal length"
    yield Parameter("camera.focal", 1.0, "", 0.996, 1.004, description=about)


_DRIFT = (
    Parameter("camera.drift", 0.0, "m/s", 0.0, 3e-4, description="how fast it moves away, one way or other"),
    Parameter(
        "camera.drift_turn", 0.0, "rad/s", 0.0, 5e-4, description="how fast it turns away, one way or other"
    ),
)

_VISUAL = (
    # What the camera makes of its picture.
    Parameter(
        "camera.distortion", 0.0, "", -0.05, 0.05, description="added to the distortion coefficient k1"
    ),
    Parameter("camera.exposure", 0.0, "", -0.6, 0.6, description="exposure, stops"),
    Parameter(
        "camera.white_balance", 0.0, "", -0.15, 0.15, description="red up and blue down by this fraction"
    ),
    Parameter(
        "camera.blur", 0.0, "px", 0.0, 1.2, description="standard deviation of the blur at 640 pixels' width"
    ),
    Parameter(
        "camera.noise", 0.0, "", 0.0, 0.03, when="step", description="standard deviation per channel, of 1"
    ),
    Parameter(
        "camera.compression", 0.0, "", 0.0, 0.6, description="strength of JPEG artefacts: 0 none, 1 coarsest"
    ),
    Parameter("light.azimuth", 0.6, "rad", -0.4, 1.6, description="direction of the light about z"),
    Parameter("light.elevation", 1.0, "rad", 0.6, 1.4, description="height of the light over the table"),
    Parameter("light.ambient", 0.55, "", 0.4, 0.7, description="share of light from everywhere"),
    Parameter("light.diffuse", 0.45, "", 0.3, 0.6, description="share of light from its direction"),
    Parameter("light.warmth", 0.0, "", -0.15, 0.15, description="red up and blue down by this fraction"),
    Parameter("light.shadow", 1.0, "", 0.0, 1.0, description="cast shadows: from 0.5 on"),
    Parameter("colour.table", 0.79, "", 0.35, 0.95, description="brightness of the table"),
    Parameter(
        "colour.table_warmth", 0.02, "", -0.05, 0.15, description="red up and blue down by this fraction"
    ),
    Parameter("colour.arm", 1.0, "", 0.5, 1.1, description="factor on the brightness of the arm"),
    Parameter("colour.background", 0.9, "", 0.2, 1.0, description="brightness of what is behind the table"),
    Parameter("colour.background_warmth", 0.0, "", -0.15, 0.15, description="red up and blue down"),
    Parameter("texture.table", 0.0, "", 0.0, 0.15, description="contrast of the table's pattern"),
    Parameter(
        "texture.kind", 0.0, "", 0.0, 3.0, description="pattern: 0 grain, 1 wood, 2 checks (rounded down)"
    ),
    Parameter("texture.size", 0.02, "m", 0.008, 0.05, scale="log", description="size of the table's pattern"),
    Parameter("texture.background", 0.0, "", 0.0, 0.3, description="contrast of what is behind"),
    Parameter(
        "distractors.count", 0.0, "", 0.0, 4.9, description="other blocks in the picture, rounded down"
    ),
    Parameter("distractors.layout", 0.0, "", 0.0, 1.0, description="where they are"),
)
