"""The arrays of one large JSON object, element by element: COCO's annotations may outgrow the memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

CHUNK = 1 << 20  # bytes read at once
LARGEST = 1 << 28  # characters of one element; more of what is not JSON is not waited for
SPACE = " \t\n\r"
NUMBER_GOES_ON = ("", ".", "e", "E", "+", "-")  # after what is held of it


def elements(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """(key, element) of every array at the top of a JSON object, in order; (key, value) of what is no array.

    Holds one element at a time. Raises ValueError where the content is not such an object.
    """
    text = _Text(file)
    text.expect("{")
    if text.peek() == "}":
        return
    while True:
        key = text.value()
        if not isinstance(key, str):
            raise ValueError(f"a key is {key!r}"[:80])
        text.expect(":")
        if text.peek() == "[":
            text.expect("[")
            more = text.peek() != "]"
            while more:
                yield key, text.value()
                more = text.peek() == ","
                if more:
                    text.expect(",")
            text.expect("]")
        else:
            yield key, text.value()
        if text.peek() == "}":
            return
        text.expect(",")


class _Text:
    """The text of a file from a place on, of which only as much is held as a value needs."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._held, self._place, self._ended = file, "", 0, False
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            while self._place < len(self._held) and self._held[self._place] in SPACE:
                self._place += 1
            if self._place < len(self._held) or not self._fill():
                return self._held[self._place : self._place + 1]

    def expect(self, character: str) -> None:
        """Go past a character. Raises ValueError where it is another."""
        found = self.peek()
        if found != character:
            raise ValueError(f"expected {character!r}, found {found!r}" if found else "is cut off")
        self._place += 1

    def value(self) -> Any:
        """Go past a value, and return it."""
        self.peek()
        while True:
            try:
                found, end = self._json.raw_decode(self._held, self._place)
            except json.JSONDecodeError:
                if len(self._held) > LARGEST or not self._fill():
                    raise
                continue
            if self._held[end : end + 1] in NUMBER_GOES_ON and self._fill():
                continue
            self._place = end
            return found

    def _fill(self) -> bool:
        """Hold twice as much; False at the end."""
        if self._ended:
            return False
        self._held = self._held[self._place :]
        self._place = 0
        content = self._file.read(max(CHUNK, len(self._held)))
        self._ended = not content
        self._held += self._utf8.decode(content, final=self._ended)
        return not self._ended
