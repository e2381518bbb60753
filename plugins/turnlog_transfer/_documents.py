"""Read files line by line, or a JSON array item by item."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from turnlog import InvalidInput
from turnlog.errors import TooLarge

MAX_LINE_BYTES: Final = 128 * 1024 * 1024
"""Largest line, or item of an array, in bytes; this also bounds the memory, to a few times this size.

A line of this size can hold a record of 16 MiB in which each byte takes six bytes in JSON, such as `\\u0000`.
"""

_CHUNK: Final = 64 * 1024
_SPACE: Final = " \t\r\n"


class NotText(InvalidInput):
    """The bytes are not text in UTF-8."""


class Line(NamedTuple):
    """A line.

    Attributes:
        number: The number of the line, from 1.
        text: The text; None if it is too long.
        size: The size in bytes.
    """

    number: int
    text: bytes | None
    size: int


def lines(file: BinaryIO) -> Iterator[Line]:
    """Yield the lines of a file, without a byte order mark."""
    number = 0
    while text := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        size = len(text)
        if size <= MAX_LINE_BYTES:
            yield Line(number, text.removeprefix(codecs.BOM_UTF8) if number == 1 else text, size)
            continue
        while not text.endswith(b"\n") and (text := file.readline(1024 * 1024)):
            size += len(text)
        yield Line(number, None, size)


def parse_json(text: bytes) -> object:
    """Return the value of a line.

    Raises:
        NotText: The line is not UTF-8, or contains a zero byte.
        InvalidInput: The line is not JSON.
    """
    if b"\0" in text:  # JSON writes it as \u0000
        raise NotText(f"byte {text.index(0) + 1} of the line is zero, which no text contains")
    try:
        return json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotText(f"byte {error.start + 1} of the line is not UTF-8") from None
    except json.JSONDecodeError as error:  # its text would contain a line number within this line
        raise InvalidInput(f"this is not JSON: {error.msg} (character {error.pos + 1}); correct the line") from None
    except RecursionError:
        raise InvalidInput("not JSON: nested too deeply") from None
    except ValueError as error:  # a number with more digits than Python converts
        raise InvalidInput(f"not JSON: {error}") from None


def kind_of(value: object) -> str:
    """Return the kind of a JSON value, for an error."""
    if value == []:
        return "an empty list"
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


class Items:
    """The items of a JSON array, as an iterator.

    An array may be large and have only one line.  It is therefore decoded item by item, in a buffer that grows with the
    item.

    Args:
        file: The file, after its first line.
        first: The first line.

    Attributes:
        begun: The number of the line with the beginning of the last item, from 1.
        line: The number of the present line.
        size: The number of bytes that were read.

    Raises:
        InvalidInput: The array is not JSON in UTF-8, or ends early.
        TooLarge: An item takes too many bytes.
    """

    def __init__(self, file: BinaryIO, first: Line) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._place = 0
        self._ended = False
        self.begun = self.line = first.number
        self.size = 0
        self._first = first.text or b""

    def __iter__(self) -> Iterator[object]:
        self._take(self._first)
        self._next("[")
        if self._next("") == "]":
            self._step()
        else:
            while True:
                yield self._item()
                if self._next(",]") == "]":
                    break
                self._next("")
        if self._peek():
            raise self._wrong("something follows the array")

    def _next(self, wanted: str) -> str:
        """Return the next character that is not a space; step over it if it is in `wanted`."""
        sign = self._peek()
        if not sign:
            raise self._wrong("the array does not end")
        if wanted:
            if sign not in wanted:
                raise self._wrong(f"{' or '.join(wanted)} is missing")
            self._step()
        return sign

    def _peek(self) -> str:
        while True:
            while self._place < len(self._text) and self._text[self._place] in _SPACE:
                self._step()
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._more():
                return ""

    def _step(self) -> None:
        self.line += self._text[self._place] == "\n"
        self._place += 1

    def _item(self) -> object:
        while True:
            try:
                value, end = self._scan(self._text, self._place)
            except RecursionError:
                raise self._wrong("nested too deeply") from None
            except ValueError as error:  # also raised if the item continues after the end of the buffer
                if len(self._text) - self._place > MAX_LINE_BYTES:
                    raise TooLarge(f"the item has more than {MAX_LINE_BYTES} bytes") from None
                if not self._more():
                    raise self._wrong(getattr(error, "msg", str(error))) from None
                continue
            if end < len(self._text) or not self._more():  # a number may continue after the buffer
                self.begun = self.line
                self.line += self._text.count("\n", self._place, end)
                self._place = end
                return value

    def _more(self) -> bool:
        """Read at least the size of the undecoded text, so that even a long item is scanned only a few times."""
        if self._ended:
            return False
        data = self._file.read(max(_CHUNK, len(self._text) - self._place))
        self._ended = not data
        self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise InvalidInput(f"not UTF-8: {error.reason}, after line {self.line}") from None
        self._text, self._place = self._text[self._place :] + text, 0
        self.size += len(data)

    def _wrong(self, why: str) -> InvalidInput:
        return InvalidInput(f"not JSON: {why}")
