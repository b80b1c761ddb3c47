"""Texts on a child's link, between the single bytes that it says there: of bytes that mean nothing else.

Each half of a byte is one of 0x80 to 0x8F, so that no text can be taken for a sign of life or a last word.

>>> reader = FrameReader()
>>> whole = frame("a text")
>>> [each for piece in (whole[:5], b".p", whole[5:]) for each in reader.feed(piece)]
['a text']
"""

from collections.abc import Iterator

BEGIN, END = 0x91, 0x90
_HALF = 0x80
#: Bytes of a text that are kept until its end comes.
MOST = 1 << 20


def frame(text: str) -> bytes:
    """The bytes of a text."""
    halves = bytes(_HALF | half for byte in text.encode() for half in (byte >> 4, byte & 0xF))
    return bytes([BEGIN]) + halves + bytes([END])


class FrameReader:
    """Finds the texts in what was heard, however it was cut; one whose end never came is dropped."""

    def __init__(self) -> None:
        self._halves = bytearray()
        self._is_open = False

    def feed(self, heard: bytes) -> Iterator[str]:
        """The texts that end in these bytes."""
        for byte in heard:
            if byte == BEGIN:
                self._halves.clear()
                self._is_open = True
            elif byte == END and self._is_open:
                self._is_open = False
                if (text := self._text()) is not None:
                    yield text
            elif byte & 0xF0 == _HALF and self._is_open:
                self._halves.append(byte & 0xF)
                self._is_open = len(self._halves) <= 2 * MOST

    def _text(self) -> str | None:
        pairs = zip(self._halves[::2], self._halves[1::2], strict=False)
        try:
            return bytes(high << 4 | low for high, low in pairs).decode()
        except UnicodeDecodeError:
            return None
