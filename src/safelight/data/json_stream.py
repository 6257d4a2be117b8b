"""The elements of a JSON file one at a time, for files that may outgrow the memory."""

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

    One element at a time: COCO's annotations may outgrow the memory. By hand, as ijson's prefixes take memory
    with the square of the depth: 100 kB of brackets end the process. Raises ValueError for anything else.
    """
    text = _Text(file)
    for _ in text.members("{", "}"):
        key = text.value()
        if not isinstance(key, str):
            raise ValueError(f"a key is {key!r}"[:80])
        text.expect(":")
        if text.peek() != "[":
            yield key, text.value()
            continue
        for _ in text.members("[", "]"):
            yield key, text.value()


class _Text:
    """The text of a file from a place on; only as much as a value needs is in memory."""

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
        if (held := self.peek()) != character:
            raise ValueError(f"expected {character!r}, found {held!r}" if held else "is cut off")
        self._place += 1

    def members(self, opening: str, closing: str) -> Iterator[None]:
        """Go through an object or array: a turn for each member, which the caller goes past."""
        self.expect(opening)
        more = self.peek() != closing
        while more:
            yield
            more = self.peek() != closing
            if more:
                self.expect(",")
        self.expect(closing)

    def value(self) -> Any:
        """Go past a value, and return it."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._held, self._place)
            except json.JSONDecodeError:
                if len(self._held) > LARGEST or not self._fill():
                    raise
                continue
            if self._held[end : end + 1] in NUMBER_GOES_ON and self._fill():
                continue
            self._place = end
            return value

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
