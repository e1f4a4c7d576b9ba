"""Where meshes are looked for, and which of them PyBullet can take."""

import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.meshes import ascii_stl, find_file, meshes, missing_collision

TEXT_STL = b"""solid a
facet normal 0 0 1
outer loop
vertex 0 0 0
vertex 1 0 0
vertex 0 1e-1 0
endloop
endfacet
endsolid a
"""
BINARY_STL = bytes(80) + struct.pack("<I12fH", 1, *range(12), 0)


def put(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_relative_absolute_and_file_names(tmp_path: Path) -> None:
    urdf, mesh = tmp_path / "urdf" / "arm.urdf", put(tmp_path / "urdf" / "meshes" / "a b.stl")
    assert find_file("meshes/a b.stl", urdf) == mesh
    assert find_file("../urdf/meshes/a b.stl", urdf) == urdf.parent / "../urdf/meshes/a b.stl"
    assert find_file(str(mesh), urdf) == mesh
    assert find_file(f"file://{mesh}", urdf) == mesh
    assert find_file(f"file://{tmp_path}/urdf/meshes/a%20b.stl", urdf) == mesh
    assert find_file("meshes/none.stl", urdf) is None
    assert find_file("", urdf) is None
    assert find_file("http://example.org/a.stl", urdf) is None


def test_a_package_above_the_urdf_by_its_folder_or_its_manifest(tmp_path: Path) -> None:
    mesh = put(tmp_path / "my_arm" / "meshes" / "a.stl")
    urdf = tmp_path / "my_arm" / "urdf" / "v2" / "arm.urdf"
    assert find_file("package://my_arm/meshes/a.stl", urdf) == mesh
    renamed = tmp_path / "my_arm-main" / "robots" / "arm.urdf"
    other = put(tmp_path / "my_arm-main" / "meshes" / "b.stl")
    put(tmp_path / "my_arm-main" / "package.xml", b"<package><name>my_arm</name></package>")
    assert find_file("package://my_arm/meshes/b.stl", renamed) == other
    # A neighbour of the URDF's package.
    assert find_file("package://my_arm/meshes/a.stl", renamed) == mesh


def test_packages_of_ros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urdf = tmp_path / "elsewhere" / "deep" / "er" / "arm.urdf"
    one = put(tmp_path / "ws1" / "src" / "stack" / "arm_description" / "meshes" / "a.stl")
    two = put(tmp_path / "install" / "share" / "hand_description" / "b.dae")
    assert find_file("package://arm_description/meshes/a.stl", urdf) is None
    monkeypatch.setenv("ROS_PACKAGE_PATH", f"/nowhere:{tmp_path / 'ws1' / 'src'}")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "install"))
    assert find_file("package://arm_description/meshes/a.stl", urdf) == one
    assert find_file("package://hand_description/b.dae", urdf) == two


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.stl", BINARY_STL, ""),
        ("a.STL", TEXT_STL, ""),
        ("a.stl", b"solid " + BINARY_STL[6:], ""),
        ("a.stl", BINARY_STL[:-20], "holds no triangles"),
        ("a.stl", b"solid a\nendsolid a", "holds no triangles"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", ""),
        ("a.obj", b"", "holds no triangles"),
        ("a.dae", b'<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema"/>', ""),
        ("a.dae", b"<x/>", "holds no triangles"),
        ("a.dae", b"version https://git-lfs.github.com/spec/v1", "cannot be read"),
        ("a.glb", b"glTF", "of a kind that PyBullet does not load"),
    ],
)
def test_what_can_be_taken(tmp_path: Path, name: str, data: bytes, problem: str) -> None:
    put(tmp_path / name, data)
    text = f'<robot><link name="l"><collision><geometry><mesh filename="{name}"/></geometry></collision></link></robot>'
    (mesh,) = meshes(ElementTree.fromstring(text), tmp_path / "arm.urdf")
    assert (mesh.link, mesh.use) == ("l", "collision")
    assert (problem in mesh.problem) if problem else mesh.problem == ""


def test_the_error_names_mesh_link_places_and_remedy(tmp_path: Path) -> None:
    text = '<robot><link name="l"><collision><geometry><mesh filename="package://p/a.stl"/></geometry></collision></link></robot>'
    (mesh,) = meshes(ElementTree.fromstring(text), tmp_path / "arm.urdf")
    error = missing_collision(mesh, tmp_path / "arm.urdf")
    assert isinstance(error, UserError)
    for part in (
        "'package://p/a.stl'",
        "link 'l'",
        str(tmp_path / "p" / "a.stl"),
        "ROS_PACKAGE_PATH",
        "boxes",
    ):
        assert part in str(error)


def test_triangles_of_an_stl_written_as_text(tmp_path: Path) -> None:
    triangles = ascii_stl(put(tmp_path / "a.stl", TEXT_STL))
    assert triangles is not None
    np.testing.assert_allclose(triangles, [[[0, 0, 0], [1, 0, 0], [0, 0.1, 0]]])
    assert ascii_stl(put(tmp_path / "b.stl", BINARY_STL)) is None
