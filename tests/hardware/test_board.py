"""What is printed: its scale in the files, what is found in it."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from hardware.commissioning.board import Board, Card, board_page, card_page, pdf, png
from sim2real.errors import UserError


def test_a_page_says_its_size_and_holds_it() -> None:
    board, page = board_page("a4")
    assert page.shape == (2100, 2970) and board.square == pytest.approx(0.029)
    data = png(page)
    at = data.index(b"pHYs")
    assert struct.unpack(">IIB", data[at + 4 : at + 13]) == (10000, 10000, 1)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE), page)
    document = pdf(page)
    assert b"/MediaBox [0 0 841.8898 595.2756]" in document and b"/PrintScaling /None" in document
    stream = document[document.index(b"/FlateDecode") :].split(b"stream\n")[1].split(b"\nendstream")[0]
    assert zlib.decompress(stream) == page.tobytes()
    # The table of objects leads to each of them.
    for line in document[document.index(b"xref") :].splitlines()[3:8]:
        assert document[int(line.split()[0]) :].split(b" obj")[0].isdigit() is False
        assert document[int(line.split()[0]) : int(line.split()[0]) + 8].strip()[:1].isdigit()


def test_corners_are_as_far_apart_as_the_board_says() -> None:
    board, page = board_page("letter", 0.02)
    small = cv2.resize(page, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    found = board.find(np.asarray(small))
    assert found is not None and len(found[0]) == 40
    metres = found[1] * 4 / 10000
    there = board.corners[found[0]]
    np.testing.assert_allclose(metres[:, 0] - metres[0, 0], there[:, 0] - there[0, 0], atol=1e-4)
    np.testing.assert_allclose(metres[:, 1] - metres[0, 1], there[0, 1] - there[:, 1], atol=1e-4)


def test_the_card_is_found_in_its_page_once() -> None:
    card, page = card_page("a4", 0.06)
    small = np.asarray(cv2.resize(page, None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA))
    pixels = card.find(small)
    assert pixels is not None
    assert np.linalg.norm(pixels[1] - pixels[0]) / 2000 == pytest.approx(0.06, rel=0.01)
    assert card.find(np.hstack([small, small])) is None and card.find(small[:, :100]) is None
    assert Board().find(small) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: board_page("a5"), "--paper is one of a4, a3, letter, got 'a5'"),
        (lambda: board_page("a4", 0.05), "squares of 50 mm do not fit on a4"),
        (lambda: board_page("a4", float("nan")), "do not fit"),
        (lambda: Card(0.5), "10 to 150 mm wide, got 500"),
        (lambda: Board(columns=2), "3 to 9 squares"),
    ],
)
def test_what_cannot_be_printed_is_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        make()
