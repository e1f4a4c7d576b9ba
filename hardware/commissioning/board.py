"""What is printed for calibrating cameras: a ChArUco board for the lens, a card with one marker for the gripper.

Both are drawn as a whole page at true scale. A marker's frame has its origin in the middle, x to the right, y up, z
towards its viewer; a board's has its origin in the lower left corner and the same directions, so that
both are planes z = 0 seen from their positive side.
"""

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sim2real.errors import UserError

Array = NDArray[np.float64]
Grey = NDArray[np.uint8]

PAPERS = {"a4": (210.0, 297.0), "a3": (297.0, 420.0), "letter": (215.9, 279.4)}
"""Width and height in mm, upright."""
RESOLUTION = 10
"""Pixels per mm of a page (254 dpi)."""
EDGE = 12.0
"""mm of a page that stay free: no printer prints to the edge."""
_DICTIONARY = cv2.aruco.DICT_4X4_50
_CARD_ID = 49
"""The last marker of the dictionary; the boards use the first ones."""
_RULER = 100
"""mm"""
SMALLEST = 2.0
"""px of a marker's cell in a picture below which it is not read reliably."""


@dataclass(frozen=True)
class Board:
    """A ChArUco board of `columns` × `rows` squares of `square` m. Raises UserError for one that cannot be."""

    columns: int = 9
    rows: int = 6
    square: float = 0.028

    def __post_init__(self) -> None:
        if not (3 <= self.columns <= 9 and 3 <= self.rows <= 9):
            raise UserError(f"a board has 3 to 9 squares each way, got {self.columns} x {self.rows}")
        if not 0.002 <= self.square <= 0.5:
            raise UserError(f"the squares of a board are 2 to 500 mm wide, got {1000 * self.square:g} mm")

    @cached_property
    def _drawn(self) -> Any:
        dictionary = cv2.aruco.getPredefinedDictionary(_DICTIONARY)
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square, 0.75 * self.square, dictionary)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, m."""
        return self.columns * self.square, self.rows * self.square

    @cached_property
    def corners(self) -> Array:
        """(k, 3) m: the inner corners by number, in the board's frame."""
        points = np.array(self._drawn.getChessboardCorners(), dtype=np.float64)
        # OpenCV counts y downwards from the upper left corner.
        points[:, 1] = self.rows * self.square - points[:, 1]
        return points

    def image(self, per_square: int = 12 * RESOLUTION) -> Grey:
        """The board without margin, `per_square` pixels to a square."""
        size = (self.columns * per_square, self.rows * per_square)
        return np.asarray(self._drawn.generateImage(size, marginSize=0, borderBits=1), dtype=np.uint8)

    def find(self, grey: Grey) -> tuple[NDArray[np.int64], Array] | None:
        """Numbers (k,) and pixels (k, 2) of the corners in a picture; None where fewer than 6 are seen."""
        detector = cv2.aruco.CharucoDetector(self._drawn)
        pixels, ids, _, _ = detector.detectBoard(grey)
        if ids is None or len(ids) < 6:
            return None
        return ids.ravel().astype(np.int64), np.asarray(pixels, dtype=np.float64).reshape(-1, 2)


@dataclass(frozen=True)
class Card:
    """A marker of `size` m, to be held by the tab below it."""

    size: float = 0.05

    def __post_init__(self) -> None:
        if not 0.01 <= self.size <= 0.15:
            raise UserError(f"the card's marker is 10 to 150 mm wide, got {1000 * self.size:g} mm")

    @property
    def margin(self) -> float:
        """m of white around the marker."""
        return 0.2 * self.size

    @property
    def corners(self) -> Array:
        """(4, 3) m in the marker's frame: upper left, upper right, lower right, lower left."""
        return 0.5 * self.size * np.array([[-1, 1, 0], [1, 1, 0], [1, -1, 0], [-1, -1, 0]], dtype=np.float64)

    def image(self, pixels: int = 480) -> Grey:
        """The marker with its white margin; `pixels` is the marker's own width."""
        dictionary = cv2.aruco.getPredefinedDictionary(_DICTIONARY)
        marker = cv2.aruco.generateImageMarker(dictionary, _CARD_ID, pixels, borderBits=1)
        return np.pad(np.asarray(marker, dtype=np.uint8), round(0.2 * pixels), constant_values=255)

    def find(self, grey: Grey) -> Array | None:
        """(4, 2) pixels of the corners in a picture; None where the marker is not seen, or seen twice."""
        parameters = cv2.aruco.DetectorParameters()
        parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
        # Within a cell: a larger window would take the neighbouring cells' edges for the corner's.
        parameters.relativeCornerRefinmentWinSize = 0.3
        detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(_DICTIONARY), parameters)
        found, ids, _ = detector.detectMarkers(grey)
        chosen = (
            [] if ids is None else [corners for corners, one in zip(found, ids.ravel()) if one == _CARD_ID]
        )
        if len(chosen) != 1:
            return None
        pixels = np.asarray(chosen[0], dtype=np.float64).reshape(4, 2)
        # 4 × 4 bits and a border around them.
        width = min(float(np.linalg.norm(pixels[i] - pixels[i - 1])) for i in range(4))
        return None if width < 6 * SMALLEST else pixels


# Pages


def board_page(paper: str = "a4", square: float | None = None) -> tuple[Board, Grey]:
    """A board that fills the page lying on its side (squares of `square` m, else the largest in whole mm), and
    the page. Raises UserError for an unknown paper and squares that do not fit."""
    height, width = _paper(paper)
    room = (width - 2 * EDGE, height - 2 * EDGE - 10)
    columns, rows = Board().columns, Board().rows
    largest = int(min(room[0] / columns, room[1] / rows))
    side = largest if square is None else 1000 * square
    if not 0 < side <= largest:
        raise UserError(
            f"squares of {side:g} mm do not fit on {paper}: {columns} x {rows} squares of at most {largest} mm do; "
            "choose a larger --paper or smaller squares"
        )
    board = Board(square=side / 1000)
    page = _blank(width, height)
    drawn = board.image(round(side * RESOLUTION))
    _place(page, drawn, (width - drawn.shape[1] / RESOLUTION) / 2, EDGE)
    _ruler(
        page, EDGE, height - EDGE, f"{columns} x {rows} squares of {side:g} mm: glue it onto something flat."
    )
    return board, page


def card_page(paper: str = "a4", size: float | None = None) -> tuple[Card, Grey]:
    """The card for the gripper, its outline to cut along and its tab, on an upright page."""
    width, height = _paper(paper)
    card = Card() if size is None else Card(size)
    page = _blank(width, height)
    drawn = card.image(round(1000 * card.size * RESOLUTION))
    side = drawn.shape[1] / RESOLUTION
    left, top = (width - side) / 2, 3 * EDGE
    _place(page, drawn, left, top)
    tab = (left + side / 2 - 12, top + side, 24.0, 40.0)
    for x, y, w, h in ((left, top, side, side), tab):
        cv2.rectangle(page, _pixel(x, y), _pixel(x + w, y + h), (160,), 2)
    _text(page, tab[0] - 22, tab[1] + 22, "hold it here")
    _ruler(
        page, EDGE, height - EDGE,
        f"Marker of {1000 * card.size:g} mm: glue it onto card, cut along the lines, put the tab into the gripper.",
    )  # fmt: skip
    return card, page


def _paper(name: str) -> tuple[float, float]:
    if name not in PAPERS:
        raise UserError(f"--paper is one of {', '.join(PAPERS)}, got '{name}'")
    return PAPERS[name]


def _blank(width: float, height: float) -> Grey:
    return np.full((round(height * RESOLUTION), round(width * RESOLUTION)), 255, dtype=np.uint8)


def _pixel(x: float, y: float) -> tuple[int, int]:
    return round(x * RESOLUTION), round(y * RESOLUTION)


def _place(page: Grey, drawn: Grey, left: float, top: float) -> None:
    column, row = _pixel(left, top)
    page[row : row + drawn.shape[0], column : column + drawn.shape[1]] = drawn


def _text(page: Grey, x: float, y: float, text: str) -> None:
    cv2.putText(page, text, _pixel(x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0,), 2, cv2.LINE_AA)


def _ruler(page: Grey, x: float, y: float, text: str) -> None:
    for mm in range(0, _RULER + 1, 10):
        cv2.line(page, _pixel(x + mm, y), _pixel(x + mm, y - (4 if mm % 50 == 0 else 2)), (0,), 2)
    cv2.line(page, _pixel(x, y), _pixel(x + _RULER, y), (0,), 2)
    _text(page, x, y - 6, text)
    _text(page, x + _RULER + 4, y, f"This line must measure {_RULER} mm: print at 100 %.")


def png(page: Grey, per_metre: int = 1000 * RESOLUTION) -> bytes:
    """The page as a PNG that says its resolution, so that programs print it at true scale."""
    data = cv2.imencode(".png", page)[1].tobytes()
    chunk = b"pHYs" + struct.pack(">IIB", per_metre, per_metre, 1)
    chunk = struct.pack(">I", 9) + chunk + struct.pack(">I", zlib.crc32(chunk))
    # After the signature and the header, which has 13 bytes and 12 of frame.
    return data[:33] + chunk + data[33:]


def pdf(page: Grey) -> bytes:
    """The page as a PDF of its true size (ISO 32000-1: lengths in points of 1/72 inch)."""
    rows, columns = page.shape
    width, height = (72 * pixels / RESOLUTION / 25.4 for pixels in (columns, rows))
    picture = zlib.compress(page.tobytes(), 9)
    content = f"q {width:.4f} 0 0 {height:.4f} 0 0 cm /Page Do Q".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /ViewerPreferences << /PrintScaling /None >> >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:.4f} {height:.4f}] /Contents 4 0 R "
        "/Resources << /XObject << /Page 5 0 R >> >> >>".encode(),
        f"<< /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream",
        f"<< /Type /XObject /Subtype /Image /Width {columns} /Height {rows} /ColorSpace /DeviceGray "
        f"/BitsPerComponent 8 /Filter /FlateDecode /Length {len(picture)} >>\nstream\n".encode()
        + picture
        + b"\nendstream",
    ]  # fmt: skip
    out, starts = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        starts.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{start:010d} 00000 n \n".encode() for start in starts)
    return out + f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n".encode()
